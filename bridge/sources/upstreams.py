"""Upstreams: the addresses of a state service and of relays of it, how each has fared, and which one is next.

No I/O and no clock: times are seconds of a monotonic clock that the caller reads.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

from bridge.core.backoff import Backoff
from bridge.settings.address import Address
from bridge.sources.faults import Doubt, Doubted
from bridge.sources.patience import Patience
from bridge.sources.retry_budget import RetryBudget

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 5.0

LEFT_LIMIT: Final = 16
"""How many epochs are remembered that were left."""


class Upstream:
    """One address, and how it has fared.

    Attributes:
        number: of the address in the list, from 1.
        address: where it is.
        backoff: its pauses.
        budget: of failures at the same position.
        problem: why it is of no use, as the end of a sentence; "" while nothing is known against it.
        ready_at: when it may be tried again.
        doubted_at: since when it says that our positions are worth nothing; None: it does not.
    """

    def __init__(self, number: int, address: Address, random: Callable[[], float]) -> None:
        """Begin with nothing known against it."""
        self.number = number
        self.address = address
        self.backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, random)
        self.budget = RetryBudget()
        self.problem = ""
        self.ready_at = 0.0
        self.doubted_at: float | None = None


class Upstreams:
    """The addresses, in the order of the setting.

    Attributes:
        in_use: the one that is followed, or was last; before that the first.
        epochs: those that have been followed.
        failovers: how often another one came to be followed.
    """

    def __init__(self, addresses: Sequence[Address], patience: Patience, random: Callable[[], float]) -> None:
        """Begin before the first.

        Args:
            addresses: at least one.
            patience: how long an address is doubted.
            random: returns a number in [0, 1), for the pauses.
        """
        self._all = [Upstream(number, address, random) for number, address in enumerate(addresses, 1)]
        self._patience = patience
        self._tried = self._all[-1]
        self._worked = False  # ever one of them
        self.in_use = self._all[0]
        self.epochs = Epochs()
        self.failovers = 0

    def __iter__(self) -> Iterator[Upstream]:
        """Iterate over them, in order."""
        return iter(self._all)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._all)

    def after(self, upstream: Upstream) -> list[Upstream]:
        """Return the others, the next in order first, then round."""
        return self._all[upstream.number :] + self._all[: upstream.number - 1]

    def next(self, now: float) -> tuple[Upstream, float]:
        """Return the one to try next, and how long to wait before, seconds."""
        order = [*self.after(self._tried), self._tried]
        upstream = next((one for one in order if one.ready_at <= now), None) or min(order, key=lambda u: u.ready_at)
        self._tried = upstream
        return upstream, max(0.0, upstream.ready_at - now)

    def turn_to(self, upstream: Upstream) -> None:
        """Have one tried next, whatever the order."""
        upstream.ready_at = 0.0
        self._tried = self._all[upstream.number - 2]  # the one before it; before the first stands the last

    def note_success(self, upstream: Upstream) -> bool:
        """Note that one is followed; return whether it is another one than before."""
        changed = self._worked and upstream is not self.in_use
        self._worked, self.in_use = True, upstream
        self.failovers += changed
        for one in self._all:
            one.problem = ""
        upstream.budget.clear()
        return changed

    def wait_for(self, upstream: Upstream, doubted: Doubted, now: float, *, follows: bool) -> float:
        """Return how long to wait before one is believed that our positions are worth nothing, seconds; 0: not at all.

        Args:
            upstream: it.
            doubted: what it says.
            now: when it says so.
            follows: whether its source does; one that follows nothing may be a relay that has lost its own upstream.
        """
        left = self.epochs.was_left(doubted.epoch)
        if doubted.doubt is Doubt.EPOCH and upstream is self.in_use and follows and not left:
            return 0.0  # it is where the positions come from
        if upstream.doubted_at is None:
            upstream.doubted_at = now
            log.warning("the state service at %s %s", upstream.address, doubted)
        return max(0.0, upstream.doubted_at + (self._patience.left if left else self._patience.doubt) - now)

    def settle_doubts(self) -> None:
        """Note that our positions are worth something: one follows the node from there."""
        for one in self._all:
            one.doubted_at = None

    def note_steady(self, upstream: Upstream) -> None:
        """Note that one was followed for a while: its pauses begin anew, and the others may be tried at once."""
        upstream.backoff.reset()
        for one in self.after(upstream):
            one.ready_at = 0.0

    @property
    def problem(self) -> str:
        """Why none is of any use, one sentence; "" while one may be."""
        if not all(one.problem for one in self._all):
            return ""
        if len(self._all) == 1:
            return f"the state service at {self.in_use.address} {self.in_use.problem}"
        each = "; ".join(f"the one at {one.address} {one.problem}" for one in self._all)
        return f"no state service can be followed: {each}"


class Epochs:
    """The epoch that is followed, and those that were left for another one: nobody goes back to them lightly."""

    def __init__(self) -> None:
        """Begin before the first epoch."""
        self._current = ""
        self._left: deque[str] = deque(maxlen=LEFT_LIMIT)

    def note(self, epoch: str) -> None:
        """Note which epoch is followed."""
        if epoch == self._current:
            return
        with suppress(ValueError):
            self._left.remove(epoch)
        if self._current:
            self._left.append(self._current)
        self._current = epoch

    def was_left(self, epoch: str) -> bool:
        """Whether an epoch was left for another one."""
        return epoch in self._left
