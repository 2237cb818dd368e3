"""When a supervisor wakes up, and when it looks at the whole folder: pure decisions.

    nap(now, dues)           how long it sleeps if nothing wakes it
    Looks.after(...)         when the next look is due, after one that took so long
    looks.due(now, moved)    whether it is

All times are monotonic seconds. What happens to a worker, and every signal, wakes a
supervisor at once; so by itself it wakes no more often than a heart beats, but while
tasks end, which people want to see.
"""

from collections.abc import Iterable

import msgspec

TICK = 0.5  # seconds; what was due in vain is tried again, and endings are said
SHARE = 100  # a look that took t seconds is not repeated for 100 t,
LIVE_SHARE = 50  # ... where somebody watches what runs for 50 t,
REST = 30.0  # ... while nothing moves for so many seconds
REST_SHARE = 5_000  # ... and for 5,000 t


def nap(now: float, dues: Iterable[float]) -> float:
    """Seconds to the first of these; one that is over was tried just now, in vain."""
    return min(due - now if due > now else TICK for due in dues)


class Looks(msgspec.Struct, frozen=True):
    """When to look at the whole folder again."""

    if_moved: float
    if_not: float

    @classmethod
    def after(
        cls, began: float, ended: float, least: float, *, live: bool = False
    ) -> "Looks":
        """After a look; `least` is how often somebody wants to see another one."""
        took = ended - began
        share = LIVE_SHARE if live else SHARE
        return cls(
            ended + max(least, share * took), ended + max(REST, REST_SHARE * took)
        )

    @property
    def soonest(self) -> float:
        """When one may be due: nobody need find out before whether anything moved."""
        return min(self.if_moved, self.if_not)

    def due(self, now: float, *, moved: bool) -> bool:
        """Whether to look; `moved` is whether the last look may not be true any more."""
        return now >= (self.if_moved if moved else self.if_not)
