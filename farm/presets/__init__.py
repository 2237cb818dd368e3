"""Command lines of agents: how each is spoken to, and how it is understood; pure.

    preset = preset_of(agent)
    preset.argv(agent, session, resume=False)    the words of its command line
    preset.variables(key)                        a key under the names that it reads
    preset.read(lines, exited, now)              -> Answer: what came of one turn
    preset.sign(event)                           what one event tells while it runs
    preset.session(lines)                        the session that an output shows begun

A preset is a module with what `Preset` names. The prompt always goes to stdin. Lines
are the program's stdout as it was logged, read once, after the end; whatever is in
them, nothing is raised.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

from farm.agent import Agent
from farm.keys import Key
from farm.presets import claude, codex, plain
from farm.presets.answer import NO_SIGN, Answer, Event, Exited, Sign, events

__all__ = [
    "NO_SIGN",
    "Answer",
    "Event",
    "Exited",
    "Preset",
    "Sign",
    "events",
    "preset_of",
]


class Preset(Protocol):
    """What a module here must have."""

    CHOOSES_SESSION: bool  #: whether it takes a session's id from us
    LOGIN: tuple[str, ...]  #: variables with which it logs in by itself
    HURRY: Mapping[str, str]  #: variables that make it give up soon when refused

    def argv(self, agent: Agent, session: str | None, *, resume: bool) -> list[str]:
        """The words of its command line."""

    def variables(self, key: Key) -> Mapping[str, str]:
        """A key under the names that it reads."""

    def session(self, lines: Iterable[bytes]) -> str | None:
        """The session that an output shows to have begun."""

    def sign(self, event: Event) -> Sign:
        """What one event tells while it runs."""

    def read(self, lines: Iterable[bytes], exited: Exited, now: float) -> Answer:
        """What an output says of one turn."""


_PRESETS: Mapping[str | None, Preset] = {None: plain, "claude": claude, "codex": codex}


def preset_of(agent: Agent) -> Preset:
    """How an agent of kind `command` is spoken to."""
    return _PRESETS[agent.preset]
