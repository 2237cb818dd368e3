"""What journals tell of endings, as people read it: each once, in the order of time.

    endings.add(entries)    as they are read, worker by worker
    endings.take()          those that are due to be told, the first one first

Two files are read one after the other, and a worker writes its line after the result: so
a task may be heard of before the one that it needed. Therefore what is heard is told one
round later, together with what is earlier and came meanwhile.

An ending may be told by two: by the worker, and by one that started in that moment, found
a result of which no line told, and wrote one (`journal.REBUILT`). Results from before our
start are written down so as well, and are no news.
"""

from collections.abc import Hashable, Iterable
from itertools import islice

from farm.journal import REBUILT, Entry

MOST_KEPT = 10_000  # endings that were told and are known again


class Endings:
    """See the module's docstring."""

    def __init__(self, since: float) -> None:
        """`since`, in POSIX seconds, is when we began to listen."""
        self._since = since
        self._earlier: dict[Hashable, Entry] = {}  # heard before the last `take`
        self._fresh: dict[Hashable, Entry] = {}  # since then
        self._told: dict[Hashable, None] = {}

    def __bool__(self) -> bool:
        """Whether something is still to be told."""
        return bool(self._earlier or self._fresh)

    def add(self, entries: Iterable[Entry]) -> None:
        """Hear of these, also a second time."""
        for entry in entries:
            if entry.worker == REBUILT and entry.at < self._since:
                continue
            key = _key(entry)
            if key in self._told:
                continue
            there = self._earlier if key in self._earlier else self._fresh
            if key not in there or there[key].worker == REBUILT:  # it says less
                there[key] = entry

    def take(self, *, last: bool = False) -> list[Entry]:
        """What is due; all that is left at the `last` time."""
        heard = {**self._earlier, **self._fresh}
        until = max((entry.at for entry in self._earlier.values()), default=0.0)
        due = {k: e for k, e in heard.items() if last or e.at <= until}
        self._earlier = {k: e for k, e in heard.items() if k not in due}
        self._fresh = {}
        self._told.update(dict.fromkeys(due))
        for key in list(islice(self._told, max(0, len(self._told) - MOST_KEPT))):
            del self._told[key]
        return sorted(due.values(), key=_at)


def _key(entry: Entry) -> Hashable:
    """The same for two lines about one ending."""
    if entry.file and entry.status is not None:
        return entry.id, entry.file
    return entry.id, entry.attempt, entry.status, entry.at


def _at(entry: Entry) -> float:
    return entry.at
