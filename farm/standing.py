"""Where a task stands before anything is locked, and which one goes first.

Values and pure decisions; `farm.queue` finds the facts. Order: higher `priority`
first; among equals one's own stripe by name, then the others' from their ends
(stealing where the owner comes last).
"""

import zlib
from collections.abc import Iterable

import msgspec

from farm.look import Look
from farm.result import Error
from farm.states import Status


class Ready(msgspec.Struct, frozen=True):
    """A task that may be claimed now."""

    look: Look


class Doomed(msgspec.Struct, frozen=True):
    """A task that can only end: with this status, for this reason."""

    look: Look
    status: Status
    error: Error


class Waiting(msgspec.Struct, frozen=True):
    """A task that waits. `until` is POSIX seconds where time alone ends it."""

    why: str
    until: float | None = None
    watched: str = ""  #: the need without whose end nothing changes


Standing = Ready | Doomed | Waiting


class Stripe(msgspec.Struct, frozen=True):
    """Which part of the ready tasks is this worker's own."""

    index: int = 0
    count: int = 1

    def owns(self, task_id: str) -> bool:
        """Whether a task is in it; every host computes the same."""
        return zlib.crc32(task_id.encode()) % self.count == self.index

    def split(self, ids: Iterable[str]) -> tuple[list[str], list[str]]:
        """Our own and the others' among these, each in order with the first one last."""
        if self.count == 1:
            return sorted(ids, reverse=True), []
        own: list[str] = []
        others: list[str] = []
        for task_id in ids:
            (own if self.owns(task_id) else others).append(task_id)
        return sorted(own, reverse=True), sorted(others)


def in_order(ready: Iterable[Look], stripe: Stripe) -> list[Look]:
    """Best first; see the module's docstring."""
    mine: list[Look] = []
    others: list[Look] = []
    for look in ready:
        (mine if stripe.owns(look.id) else others).append(look)
    mine.sort(key=_id)
    others.sort(key=_id, reverse=True)
    return sorted(mine + others, key=priority, reverse=True)


def _id(look: Look) -> str:
    return look.id


def priority(look: Look) -> int:
    """Higher goes first."""
    return look.priority


class Outlook(msgspec.Struct, frozen=True):
    """What is still to come, once nothing is ready."""

    timed: bool  #: something becomes ready by time alone
    held: bool  #: others run something
    stuck: dict[str, Waiting]  #: waits for what nobody may ever do

    @property
    def quiet(self) -> bool:
        """Whether nothing will change unless somebody drops or changes a file."""
        return not (self.timed or self.held)
