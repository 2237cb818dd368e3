"""How long it will take: from how fast tasks end, and from how far each has come.

    Pace.of(recent, now, hands)        how fast tasks end
    remaining(elapsed, share, likes)   how long one that runs still takes
    left(queued, runs, pace)           how long all of them take

`farm status` and `farm supervise` both say what `left` says. Tasks are alike if their ids
differ only in numbers: `tiles/0-3` and `tiles/12-40`. Where nobody can know it is None:
before enough have ended, and while something runs that has not its like and does not say
how far it is. Pure.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

ENOUGH = 5  # tasks that must have ended before anything is said
WINDOW = 30.0  # seconds of which the rate is that of the moment
LONG = 3.0  # seconds; of tasks that take longer, few end within the window
RECENT = 1_000  #: of so many that ended last it is asked how long they took
_LAST = 50  # ... and of so many of these, how long tasks take now
_FIRST_STEPS = 0.01  # of its work; what a task says so early tells little

_NUMBER = re.compile("[0-9]+")


class Ended(NamedTuple):
    """A run that ended: when (POSIX seconds), how many seconds it took, and whose."""

    at: float
    took: float
    id: str


class Run(NamedTuple):
    """A task that runs: for so many seconds, and for so many more if that is known."""

    elapsed: float
    left: float | None


class Pace(msgspec.Struct, frozen=True):
    """How fast tasks end."""

    rate: float = 0.0  #: tasks a second; 0.0 if it is not known
    took: float = 0.0  #: seconds that a task takes

    @classmethod
    def of(cls, recent: Sequence[Ended], now: float, hands: int) -> "Pace":
        """From those that ended last, the latest first; so many `hands` work now.

        Quick tasks are counted, as what happens between two of them counts, too. Of
        long ones too few end within half a minute: how long they take says it.
        """
        last = recent[:_LAST]
        if len(last) < ENOUGH or not hands:
            return cls()
        took = sum(one.took for one in last) / len(last)
        lately = [one for one in recent if one.at > now - WINDOW]
        if took <= LONG and len(lately) >= ENOUGH:
            began = min(one.at - one.took for one in lately)
            full = len(lately) == RECENT  # they are the end of many more
            span = now - (lately[-1].at if full else max(began, now - WINDOW))
            return cls(len(lately) / span if span > 0 else 0.0, took)
        return cls(hands / took if took > 0 else 0.0, took)


def shape(task_id: str) -> str:
    """An id without its numbers; alike tasks have the same."""
    return _NUMBER.sub("#", task_id)


def by_shape(recent: Iterable[Ended], shapes: Iterable[str]) -> dict[str, list[float]]:
    """How long tasks of these shapes took."""
    found: dict[str, list[float]] = {one: [] for one in shapes}
    for ended in recent:
        like = found.get(shape(ended.id))
        if like is not None:
            like.append(ended.took)
    return found


def remaining(
    elapsed: float, share: float | None, likes: Sequence[float]
) -> float | None:
    """Seconds that a task still runs: by its own word, else as long as its like ran.

    None if it has run longer than all of these, or too few have ended.
    """
    if share is not None and share >= _FIRST_STEPS:
        return elapsed * (1.0 - share) / share
    longer = [took - elapsed for took in likes if took > elapsed]
    if len(likes) < ENOUGH or not longer:
        return None
    return sum(longer) / len(longer)


def left(queued: int, runs: Sequence[Run], pace: Pace) -> float | None:
    """Seconds until all that is queued or runs has ended; None if nobody can know."""
    longest = max((run.left for run in runs if run.left is not None), default=0.0)
    unknown = max((run.elapsed for run in runs if run.left is None), default=None)
    if not queued:
        return longest if runs and unknown is None else None
    if not pace.rate:
        return None
    # What runs is half done, on average.
    through = max((queued + len(runs) / 2) / pace.rate, pace.took, longest)
    return through if unknown is None or unknown < through else None
