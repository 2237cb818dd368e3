"""Every claim that was refused, and when its task is looked at again.

    refused.add(task_id, Again(...))     the one place where a refusal is written down
    refused.of(task_id, tick)            what keeps a task away at this moment
    refused.next_look                    when the worker must wake up for the next one
    refused.take_due(tick)               ids whose time has come; they leave the record

A lock that becomes free is not a file event, so nothing else wakes an idle worker for
these tasks. A task is in this record exactly as long as its next look is to come. All
times are the worker's own monotonic seconds.
"""

from collections.abc import Set
from enum import Enum

import msgspec

LOOK_AGAIN = 1.0  # seconds; how soon a held task is tried again
BLOCKED_PAUSE = 30.0  # seconds between two tries at a task that only people can free
TOGETHER = 0.1  # seconds; looks that are so close to each other are one


class Obstacle(Enum):
    """What kept a task from being claimed."""

    HELD = "held"  #: another process has its lock
    DELAYED = "delayed"  #: its next attempt starts later
    BLOCKED = "blocked"  #: people must do something first
    CHANGED = "changed"  #: its file or its result is not what was read: read it anew


class Again(msgspec.Struct, frozen=True):
    """Why a claim was refused, and when its task is looked at again."""

    obstacle: Obstacle
    at: float
    sha256: str | None = None  #: DELAYED: other bytes need not wait
    until: float = 0.0  #: DELAYED: the same moment as `at`, POSIX seconds
    sentence: str = ""  #: BLOCKED: what people must do


class RefusedClaims:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._again: dict[str, Again] = {}

    def add(self, task_id: str, again: Again) -> None:
        """It was refused just now; what was known before no longer counts."""
        self._again[task_id] = again

    def of(self, task_id: str, tick: float) -> Again | None:
        """What keeps a task away; None if nothing does, or its time has come."""
        again = self._again.get(task_id)
        return again if again is not None and again.at > tick else None

    def forget(self, task_id: str) -> None:
        """Its file is read anew, which does not move what blocks its ledger."""
        again = self._again.get(task_id)
        if again is not None and again.obstacle is not Obstacle.BLOCKED:
            del self._again[task_id]

    def forget_delays(self) -> None:
        """The ledgers are to be asked again who must wait."""
        self._again = {
            task_id: again
            for task_id, again in self._again.items()
            if again.obstacle is not Obstacle.DELAYED
        }

    @property
    def held(self) -> Set[str]:
        """Ids whose lock was refused at the last try."""
        return {i for i, a in self._again.items() if a.obstacle is Obstacle.HELD}

    @property
    def next_look(self) -> float | None:
        """When the first of them is to be looked at; None if there is none."""
        return min((again.at for again in self._again.values()), default=None)

    def take_due(self, tick: float) -> set[str]:
        """Those whose time has come: whoever asks looks at them now."""
        first = self.next_look
        if first is None or first > tick:
            return set()
        # One wake-up for all that were refused one after the other.
        due = {i for i, a in self._again.items() if a.at <= tick + self._slack(a)}
        for task_id in due:
            del self._again[task_id]
        return due

    @staticmethod
    def _slack(again: Again) -> float:
        return TOGETHER if again.obstacle is Obstacle.HELD else 0.0
