"""The preset `claude`: Claude Code's `claude -p`, as it speaks stream-json.

Its last event, `result`, says how the turn went: exit 0 without one is a failure. A
failure is printed as the result, with `is_error`, and then its text is the program's
own. Before that, `api_retry` and `rate_limit_event` tell of refusals; what the model
answers after one has overcome it.
"""

from collections.abc import Iterable, Mapping

import msgspec

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
    number_in,
    part_of,
    parts_of,
    sentence,
    session_in,
    text_in,
    variables_as,
)
from farm.presets.limits import Said
from farm.result import Error, Usage
from farm.trouble import Trouble

PROGRAM = "claude"
CHOOSES_SESSION = True
LOGIN: tuple[str, ...] = ("ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
HURRY: Mapping[str, str] = {"CLAUDE_CODE_MAX_RETRIES": "2"}

_UNKNOWN = "No conversation found with session ID"
_CAPS = {"error_max_turns": "max_turns", "error_max_budget_usd": "budget"}
_STATUS_OF = {
    "rate_limit": 429,
    "overloaded": 529,
    "server_error": 500,
    "billing_error": 402,
    "authentication_failed": 401,
    "permission_error": 403,
}


def argv(agent: Agent, session: str | None, *, resume: bool) -> list[str]:
    """The words of its command line; the prompt goes to stdin."""
    words = [*(agent.command or (PROGRAM,)), "-p"]
    words += ["--output-format", "stream-json", "--verbose"]
    if session is not None:  # never both: the program refuses that
        words += ["--resume" if resume else "--session-id", session]
    if agent.model is not None:
        words += ["--model", agent.model]
    if agent.max_turns is not None:
        words += ["--max-turns", str(agent.max_turns)]
    if agent.max_cost_usd is not None:
        words += ["--max-budget-usd", repr(agent.max_cost_usd)]
    return [*words, *agent.args]


def variables(key: Key) -> Mapping[str, str]:
    """A key, whoever made it, under the names that it reads."""
    return variables_as("anthropic", key)


def session(lines: Iterable[bytes]) -> str | None:
    """The session that this output shows to have begun."""
    return last_session(lines, "session_id", "system", "assistant")


def read(lines: Iterable[bytes], exited: Exited, now: float) -> Answer:
    """What its output says of one turn."""
    seen = _Seen()
    for event in events(lines):
        seen.take(event)
    return _judged(seen, exited, now)


def sign(event: Event) -> Sign:
    """What an event tells while it runs."""
    kind = text_in(event, "type")
    if kind == "result":
        return Sign("it has said its result", is_final=True)
    if event.get("subtype") == "api_retry":
        status, why = count_in(event, "error_status"), text_in(event, "error")
        said = " ".join(word for word in (f"{status or ''}", why) if word)
        return Sign(f"it tries again after {said}", is_work=False)
    content = parts_of(part_of(event, "message"), "content")
    calls = [one for one in content if one.get("type") == "tool_use"]
    ended = [one for one in content if one.get("type") == "tool_result"]
    return Sign(
        next(map(_call_words, calls), kind),
        opened=tuple(text_in(one, "id") for one in calls),
        closed=tuple(text_in(one, "tool_use_id") for one in ended),
    )


def _call_words(call: Event) -> str:
    given = part_of(call, "input")
    said = text_in(given, "command") or text_in(given, "file_path")
    return f"{text_in(call, 'name')}: {said}" if said else text_in(call, "name")


class _Seen:
    """What is kept of an output while it is read."""

    def __init__(self) -> None:
        self.result: Event | None = None
        self.session: str | None = None
        self.model: str | None = None
        self.refused: Event = {}  # the last `api_retry`, not yet overcome
        self.limit: Event = {}  # of the last `rate_limit_event`
        self.words = ""  # the last line that was no event

    def take(self, event: Event | str) -> None:
        if isinstance(event, str):
            self.words = event or self.words
            return
        kind = event.get("type")
        self.session = session_in(event, "session_id") or self.session
        if kind == "result":
            self.result = event
        elif kind == "rate_limit_event":
            self.limit = part_of(event, "rate_limit_info") or event
        elif kind == "system":
            self.model = text_in(event, "model") or self.model
            if event.get("subtype") == "api_retry":
                self.refused = event
        elif kind == "assistant":
            self._take_answer(event)

    def _take_answer(self, event: Event) -> None:
        if event.get("error"):  # its own words in the model's place
            self.refused = event
        else:
            self.refused, self.limit = {}, {}


def _judged(seen: _Seen, exited: Exited, now: float) -> Answer:
    result = seen.result or {}
    answer = Answer(
        usage=_usage(result) if result else None,
        session=seen.session,
        model=seen.model,
    )
    is_error = result.get("is_error") is True
    text = text_in(result, "result")
    if not is_error and text:
        answer = msgspec.structs.replace(answer, text=text[:MOST_TEXT])
    if result.get("subtype") == "success" and not is_error and exited.ok:
        return msgspec.structs.replace(answer, text=answer.text or "")
    cap = _CAPS.get(text_in(result, "subtype"))
    if cap is not None:
        error = Error(cap, f"it has reached its cap: {result['subtype']}")
        return msgspec.structs.replace(answer, error=error)
    said = _own_words(seen, exited)
    return msgspec.structs.replace(
        answer,
        error=Error("agent", sentence(exited, said, has_result=bool(result))),
        trouble=_trouble(seen, said, now),
        unknown_session=any(words.startswith(_UNKNOWN) for words in said),
    )


def _own_words(seen: _Seen, exited: Exited) -> list[str]:
    """What the program itself says of its failure, the best first."""
    result = seen.result or {}
    listed = result.get("errors")
    found: list[object] = [*listed] if isinstance(listed, list) else []
    if result.get("is_error") is True:
        found.insert(0, result.get("result"))
    found += [exited.stderr, seen.words]
    return [words for words in found if isinstance(words, str) and words]


def _trouble(seen: _Seen, said: list[str], now: float) -> Trouble | None:
    status = count_in(seen.result or {}, "api_error_status")
    status = status or count_in(seen.refused, "error_status")
    status = status or _STATUS_OF.get(text_in(seen.refused, "error"), 0)
    resets_at = number_in(seen.limit, "resetsAt") or None
    rejected = seen.limit.get("status") == "rejected"
    return limits.told(Said(status or None, said, rejected, resets_at), now)


def _usage(result: Event) -> Usage:
    told = part_of(result, "usage")
    cached = count_in(told, "cache_read_input_tokens")
    fresh = count_in(told, "cache_creation_input_tokens")
    return Usage(
        input_tokens=count_in(told, "input_tokens") + fresh + cached,
        output_tokens=count_in(told, "output_tokens"),
        cached_tokens=cached,
        turns=count_in(result, "num_turns"),
        cost_usd=number_in(result, "total_cost_usd"),
    )
