"""What lies behind a world's memory: every update that was published, read page by page when a test says so."""

from bridge.core.deep import PAGE_UPDATES, Place
from bridge.core.hub import Hub
from bridge.core.update import Update


class Disk:
    """Keeps every update of a hub's streams; pages that are wanted wait in `asked` until a test answers them."""

    def __init__(self, hub: Hub, *, part: int = PAGE_UPDATES) -> None:
        self.hub = hub
        self.part = part  # updates in one answer at most
        self.kept: dict[tuple[str, str], list[Update]] = {}  # by stream and epoch
        self.trimmed: dict[tuple[str, str], int] = {}  # how many of the first are gone
        self.asked: list[Place] = []
        hub.pages.load = self.asked.append

    def keep(self, update: Update) -> None:
        """Take in an update, as it is published."""
        run = update.stream.name, update.epoch
        self.kept.setdefault(run, []).append(update)
        if update.epoch == self.hub.histories[update.stream.name].epoch:
            self.hub.extend(update.stream.name, self.oldest(*run))

    def oldest(self, stream: str, epoch: str) -> int:
        kept, trimmed = self.kept.get((stream, epoch), []), self.trimmed.get((stream, epoch), 0)
        return kept[trimmed].seq if trimmed < len(kept) else (kept[-1].seq + 1 if kept else 1)

    def trim(self, stream: str, count: int, *, tell: bool = True) -> None:
        """Let go of the first `count` updates of a stream in its epoch, but for the newest one."""
        epoch = self.hub.histories[stream].epoch
        most = len(self.kept.get((stream, epoch), [])) - 1
        self.trimmed[stream, epoch] = max(self.trimmed.get((stream, epoch), 0), min(count, most))
        if tell:
            self.hub.extend(stream, self.oldest(stream, epoch))

    def answer(self, place: Place) -> None:
        """Supply a page, as a loader does."""
        oldest = self.oldest(place.stream, place.epoch)
        everything = place.start < oldest
        kept = self.kept.get((place.stream, place.epoch), [])
        trimmed = self.trimmed.get((place.stream, place.epoch), 0)
        since = max(place.start, oldest - 1)
        raws = [update.raw for update in kept[trimmed:] if since < update.seq <= place.end][: self.part]
        base = {update.key: update for update in kept[:trimmed]} if everything else {}
        values = sorted(base.values(), key=lambda update: update.seq)[-1000:]
        self.hub.supply(place, oldest, raws, [update.raw for update in values], based=everything)

    def answer_one(self, *, refuse: bool = False, which: int = 0) -> bool:
        """Answer one of the pages that are wanted; return whether there was one."""
        if not self.asked:
            return False
        place = self.asked.pop(which % len(self.asked))
        if refuse:
            self.hub.pages.refuse(place)
        elif self.hub.pages.wanted(place):
            self.answer(place)
        else:
            self.hub.pages.abandon(place)
        return True

    def answer_all(self) -> int:
        """Answer until nothing more is wanted at once; return how often."""
        count = 0
        while self.answer_one():
            count += 1
        return count
