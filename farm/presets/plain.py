"""A command line that no preset knows: its stdout is the answer, its exit code decides.

It has no sessions, and nothing that it prints is taken for a limit.
"""

from collections.abc import Iterable, Mapping

from farm import keys
from farm.agent import Agent
from farm.keys import Key
from farm.presets.answer import MOST_TEXT, Answer, Event, Exited, Sign, sentence
from farm.result import Error

CHOOSES_SESSION = False
LOGIN: tuple[str, ...] = ()
HURRY: Mapping[str, str] = {}


def argv(agent: Agent, session: str | None, *, resume: bool) -> list[str]:  # noqa: ARG001 - as every preset
    """The words of its command line; the prompt goes to stdin."""
    return [*(agent.command or ()), *agent.args]


def variables(key: Key) -> Mapping[str, str]:
    """A key under its usual names."""
    return keys.variables(key)


def session(lines: Iterable[bytes]) -> str | None:  # noqa: ARG001 - as every preset
    """None: it has none."""
    return None


def sign(event: Event) -> Sign:  # noqa: ARG001 - as every preset
    """Whatever it prints is one."""
    return Sign()


def read(lines: Iterable[bytes], exited: Exited, now: float) -> Answer:  # noqa: ARG001 - as every preset
    """What its output says of one turn."""
    text = b"".join(lines).decode(errors="replace")[-MOST_TEXT:]
    if exited.ok:
        return Answer(text=text)
    said = [exited.stderr] if exited.stderr else []
    error = Error("exit", sentence(exited, said, has_result=True))
    return Answer(text=text or None, error=error)
