"""The preset `codex`: `codex exec --json`.

A turn has succeeded if `turn.completed` came and `turn.failed` did not: the program was
seen to exit 0 after a failed turn. `error` events may be of its own reconnecting and
mean nothing by themselves. Errors are words only; the id of a session (a thread) is
known when its first event has come.
"""

import re
from collections.abc import Iterable, Mapping

from farm.agent import Agent
from farm.keys import Key
from farm.presets import limits
from farm.presets.answer import (
    MOST_TEXT,
    Answer,
    Event,
    Exited,
    Sign,
    count_in,
    events,
    last_session,
    part_of,
    sentence,
    session_in,
    text_in,
    variables_as,
)
from farm.presets.limits import Said
from farm.result import Error, Usage

PROGRAM = "codex"
CHOOSES_SESSION = False
LOGIN: tuple[str, ...] = ("CODEX_API_KEY",)
HURRY: Mapping[str, str] = {}

_UNKNOWN = re.compile(
    r"(?:Error: )?(?:[\w/ ]+: )*"
    r"(?:no rollout found for|no saved session found|session not found)",
    re.IGNORECASE,
)
_TRYING = "Reconnecting"
_AGAIN = re.compile(rf"\A{_TRYING}|\bretrying\b", re.IGNORECASE)
_MOST_WORDS = 500  # letters of what it says when it tries again


def argv(agent: Agent, session: str | None, *, resume: bool) -> list[str]:
    """The words of its command line; what `exec` alone knows stands before `resume`."""
    words = [*(agent.command or (PROGRAM,)), "exec", "--json"]
    if agent.model is not None:
        words += ["--model", agent.model]
    words += agent.args
    if resume and session is not None:
        words += ["resume", session]
    return [*words, "-"]  # the prompt comes from stdin


def variables(key: Key) -> Mapping[str, str]:
    """A key under the names that it reads: `exec` has one of its own."""
    return {**variables_as("openai", key), "CODEX_API_KEY": key.secret}


def session(lines: Iterable[bytes]) -> str | None:
    """The thread that this output shows to have begun."""
    return last_session(lines, "thread_id", "thread.started")


def read(lines: Iterable[bytes], exited: Exited, now: float) -> Answer:
    """What its output says of one turn."""
    seen = _Seen()
    for event in events(lines):
        seen.take(event)
    if seen.completed and seen.failed is None and exited.ok:
        return Answer(text=seen.text, usage=seen.usage, session=seen.session)
    said = _own_words(seen, exited)
    has_result = seen.completed or seen.failed is not None
    return Answer(
        text=seen.text or None,
        usage=seen.usage,
        session=seen.session,
        error=Error("agent", sentence(exited, said, has_result=has_result)),
        trouble=limits.told(Said(words=said), now),
        unknown_session=any(map(_UNKNOWN.match, said)),
    )


def sign(event: Event) -> Sign:
    """What an event tells while it runs."""
    kind, item = text_in(event, "type"), part_of(event, "item")
    if kind in ("turn.completed", "turn.failed"):
        return Sign("its turn is over", is_final=True)
    if kind == "error":
        said = text_in(event, "message")
        return Sign(said, is_work=_AGAIN.search(said[:_MOST_WORDS]) is None)
    begun = (text_in(item, "id"),) if kind == "item.started" else ()
    ended = (text_in(item, "id"),) if kind == "item.completed" else ()
    return Sign(text_in(item, "command") or kind, opened=begun, closed=ended)


class _Seen:
    """What is kept of an output while it is read."""

    def __init__(self) -> None:
        self.session: str | None = None
        self.text = ""
        self.usage: Usage | None = None
        self.completed = False
        self.failed: str | None = None  # why, of a turn
        self.error = ""  # the last one that was not of its own retries
        self.words = ""  # the last line that was no event

    def take(self, event: Event | str) -> None:
        if isinstance(event, str):
            self.words = event or self.words
            return
        kind = event.get("type")
        if kind == "thread.started":
            self.session = session_in(event, "thread_id") or self.session
        elif kind == "item.completed":
            self._take_item(part_of(event, "item"))
        elif kind == "turn.completed":
            self.completed, self.usage = True, _usage(part_of(event, "usage"))
        elif kind == "turn.failed":
            self.failed = text_in(part_of(event, "error"), "message")
        elif kind == "error" and not text_in(event, "message").startswith(_TRYING):
            self.error = text_in(event, "message")

    def _take_item(self, item: Event) -> None:
        if (item.get("type") or item.get("item_type")) == "agent_message":
            self.text = text_in(item, "text")[:MOST_TEXT]


def _own_words(seen: _Seen, exited: Exited) -> list[str]:
    """What the program itself says of its failure, the best first."""
    found = [seen.failed or "", seen.error, exited.stderr, seen.words]
    return [words for words in found if words]


def _usage(told: Event) -> Usage:
    return Usage(
        input_tokens=count_in(told, "input_tokens"),
        output_tokens=count_in(told, "output_tokens"),
        cached_tokens=count_in(told, "cached_input_tokens"),
        turns=1,
    )
