"""The books of session.stats, held to themselves, to the log, and to the frames that came."""

from typing import TYPE_CHECKING, Final

from bridge.verify.jsonvalues import Data
from bridge.verify.subscription import Subscription

if TYPE_CHECKING:
    from bridge.verify.judge import Judge

BOOKS: Final = ("delivered", "filtered", "skipped", "missed", "pending")


def check(judge: "Judge", row: Data, subscription: Subscription | None) -> None:
    """Check a row of session.stats.

    Args:
        judge: of the client that got it; is told what is wrong.
        row: the books of one subscription.
        subscription: what the judge knows of it; None: it knows of none.
    """
    name = f"books of {row['stream']} {row.get('key', '')}".strip()
    if row["head"] - row["start"] != sum(row[column] for column in BOOKS) or min(row[column] for column in BOOKS) < 0:
        judge.wrong("books", f"{name} do not add up: {row}")
    if subscription is None:
        judge.wrong("books", f"{name}: there is no such subscription")
        return
    if row["epoch"] != subscription.epoch:
        judge.move_on(subscription, row["epoch"], row["start"], told=True)
    if not subscription.told:
        judge.pass_over(subscription, row["start"])
        subscription.start, subscription.told = row["start"], True
    counted = {"start": subscription.start, "delivered": subscription.delivered}
    if not subscription.shared:
        counted["missed"] = sum(last - first + 1 for first, last in subscription.missed)
    for column, count in counted.items():
        if row[column] != count:
            judge.wrong("books", f"{name}: {column} is {row[column]}, but it was {count}")
    judge.pass_over(subscription, row["head"] - row["pending"])
    run = judge.log.run(subscription.stream, subscription.epoch)
    if run.head and row["head"] > run.head and not run.closed:
        judge.wrong("books", f"{name}: head is {row['head']}, but only {run.head} were published")
    if row["filtered"] and not subscription.filtered:
        judge.wrong("books", f"{name}: {row['filtered']} filtered, but it has no filter")
    if row["skipped"] and subscription.stream not in judge.log.latest:
        judge.wrong("books", f"{name}: {row['skipped']} skipped on a stream that is delivered every update")
