"""What a call gets other than an echo, and which call gets it.

A `Row` refuses. The others are answers with status 200 that go wrong, or that say
what the test wants.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from tests.provider.rows import Row

Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True)
class Says:
    """A whole answer with this text (None: the echo) and this reason to stop."""

    text: str | None = None
    stop: str = "end_turn"  # or max_tokens, refusal


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection ends before the first byte, or in the middle of the answer."""

    midway: bool = False


@dataclass(frozen=True, slots=True)
class Stall:
    """Half an answer, then silence until `release()`, then the rest."""


@dataclass(frozen=True, slots=True)
class InStream:
    """A stream that begins well and then brings this error; to others, the row."""

    row: Row


Answer = Row | Says | Cut | Stall | InStream

HUGE = Says(text="all work and no play " * 500_000)  # 10 MB


@dataclass(slots=True)
class Planned(Generic[Thing]):
    """Something for the next calls of a key, or of any."""

    thing: Thing
    left: int | None  # calls; None: all
    key: str | None

    def is_for(self, label: str | None) -> bool:
        return self.left != 0 and self.key in {None, label}

    def use(self) -> Thing:
        if self.left is not None:
            self.left -= 1
        return self.thing


def planned_for(
    plans: list[Planned[Thing]], label: str | None
) -> Planned[Thing] | None:
    """The oldest plan that this key's call would get."""
    return next((plan for plan in plans if plan.is_for(label)), None)
