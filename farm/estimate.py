"""How long it will take: from the median of like tasks.

Tasks are alike if their ids differ only in numbers: `tiles/0-3` and `tiles/12-40`,
`train-1` and `train-2`. Pure; nothing is said before enough of them have ended.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

ENOUGH = 5  # like tasks that must have ended before their median is believed

_NUMBER = re.compile("[0-9]+")


def shape(task_id: str) -> str:
    """An id without its numbers; alike tasks have the same."""
    return _NUMBER.sub("#", task_id)


def time_left(
    open_ids: Iterable[str],
    elapsed: Mapping[str, float],
    took: Mapping[str, float],
    hands: int,
) -> float | None:
    """Seconds until all of `open_ids` have ended; None while nobody can know.

    `elapsed` has the seconds of those that run, `took` those of the succeeded,
    `hands` is how many can run at once. A task without enough of its like is
    reckoned as the median of all.
    """
    if not hands or len(took) < ENOUGH:
        return None
    from statistics import median  # noqa: PLC0415 - only where something runs

    groups = defaultdict(list)
    for task_id, seconds in took.items():
        groups[shape(task_id)].append(seconds)
    usual = median(took.values())
    medians = {s: median(g) for s, g in groups.items() if len(g) >= ENOUGH}
    left = [
        max(0.0, medians.get(shape(i), usual) - elapsed.get(i, 0.0)) for i in open_ids
    ]
    return max(sum(left) / hands, max(left, default=0.0))
