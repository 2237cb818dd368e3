"""Chat completions, as OpenAI made them and many servers speak them.

A stream is a row of objects, each with a piece of the first choice, and ends with the
word `[DONE]`, which `farm.events` does not hand on. The usage
comes in a last object of its own, if the server knows `include_usage`.
"""

from collections.abc import Mapping
from typing import Any

from farm.agent import Agent
from farm.formats import (
    BROKEN_OFF,
    NO_MESSAGE,
    Answer,
    NoAnswerError,
    dig,
    key_header,
    number,
    text,
)
from farm.result import Usage

OFFICIAL = "https://api.openai.com"
_FAULTS = {
    "length": "the answer was cut at `max_tokens`: raise it, or ask for less",
    "content_filter": "the server's content filter stopped the answer",
    "tool_calls": "the model asked for a tool, and has none here",
}


def url(base_url: str) -> str:
    """Where calls go."""
    return f"{base_url}/chat/completions"


def headers(agent: Agent, secret: str) -> dict[str, str]:
    """The key."""
    return key_header(agent, secret)


def body(agent: Agent, model: str, prompt: str) -> dict[str, Any]:
    """One prompt as a conversation of one turn."""
    turns = [{"role": "user", "content": prompt}]
    if agent.system is not None:
        turns.insert(0, {"role": "system", "content": agent.system})
    said: dict[str, Any] = {"model": model, "messages": turns, "stream": agent.stream}
    if agent.stream:
        said["stream_options"] = {"include_usage": True}
    if agent.max_tokens is not None:
        # The newer name is the official server's; others mostly know the older one.
        official = (agent.base_url or OFFICIAL).startswith(OFFICIAL)
        said["max_completion_tokens" if official else "max_tokens"] = agent.max_tokens
    if agent.temperature is not None:
        said["temperature"] = agent.temperature
    if agent.output_schema is not None:
        schema = {"name": "answer", "schema": agent.output_schema, "strict": True}
        said["response_format"] = {"type": "json_schema", "json_schema": schema}
    return said


def whole(body: Mapping[str, Any]) -> Answer:
    """An answer that came in one piece."""
    choice = dig(body, "choices", 0)
    if not isinstance(choice, dict):
        raise NoAnswerError(NO_MESSAGE)
    said, no = text(choice, "message", "content"), text(choice, "message", "refusal")
    return _answer(said, no, body, body.get("usage"), text(choice, "finish_reason"))


class Parts:
    """An answer that comes in pieces."""

    def __init__(self) -> None:
        self._said: list[str] = []
        self._refusal: list[str] = []
        self._last: Mapping[str, Any] = {}
        self._usage: object = None
        self._reason = ""

    def take(self, event: Mapping[str, Any]) -> None:
        """One piece, in order."""
        choice = dig(event, "choices", 0)
        self._said.append(text(choice, "delta", "content"))
        self._refusal.append(text(choice, "delta", "refusal"))
        self._reason = text(choice, "finish_reason") or self._reason
        self._usage = event.get("usage") or self._usage
        self._last = event

    def end(self) -> Answer:
        """The whole; NoAnswerError if it broke off before."""
        if not self._reason:
            raise NoAnswerError(BROKEN_OFF)
        said, no = "".join(self._said), "".join(self._refusal)
        return _answer(said, no, self._last, self._usage, self._reason)


def _answer(
    said: str, refusal: str, body: object, usage: object, reason: str
) -> Answer:
    took = Usage(
        input_tokens=number(usage, "prompt_tokens"),
        output_tokens=number(usage, "completion_tokens"),
        cached_tokens=number(usage, "prompt_tokens_details", "cached_tokens"),
        turns=1,
    )
    fault = f"the model refused to answer: {refusal}" if refusal else None
    return Answer(said, took, text(body, "model") or None, fault or _FAULTS.get(reason))
