"""The Messages API.

Its documentation names what is sent and the events of a stream: `message_start`, then
`content_block_*` for each block, `message_delta` with the reason why it ends and the
usage, and `message_stop`.
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

VERSION = "2026-10-21"  # of the format, as the provider's own library asks for it
MAX_TOKENS = 4096  # the API wants to be told; for agents that say nothing
_FAULTS = {
    "max_tokens": "the answer was cut at `max_tokens`: raise it, or ask for less",
    "refusal": "the model refused to answer",
    "model_context_window_exceeded": "the prompt and its answer do not fit the model",
    "tool_use": "the model asked for a tool, and has none here",
}


def url(base_url: str) -> str:
    """Where calls go."""
    return f"{base_url}/v1/messages"


def headers(agent: Agent, secret: str) -> dict[str, str]:
    """The key and the version."""
    return {"anthropic-version": VERSION, **key_header(agent, secret)}


def body(agent: Agent, model: str, prompt: str) -> dict[str, Any]:
    """One prompt as a conversation of one turn."""
    said: dict[str, Any] = {
        "model": model,
        "max_tokens": agent.max_tokens or MAX_TOKENS,
        "messages": [{"role": "user", "content": prompt}],
        "stream": agent.stream,
    }
    if agent.system is not None:
        said["system"] = agent.system
    if agent.temperature is not None:
        said["temperature"] = agent.temperature
    if agent.output_schema is not None:
        wanted = {"type": "json_schema", "schema": agent.output_schema}
        said["output_config"] = {"format": wanted}
    return said


def whole(body: Mapping[str, Any]) -> Answer:
    """An answer that came in one piece."""
    blocks = body.get("content")
    if body.get("type") != "message" or not isinstance(blocks, list):
        raise NoAnswerError(NO_MESSAGE)
    said = "".join(text(b, "text") for b in blocks if dig(b, "type") == "text")
    return _answer(said, body, body.get("usage"), text(body, "stop_reason"))


class Parts:
    """An answer that comes as events."""

    def __init__(self) -> None:
        self._said: list[str] = []
        self._message: object = None
        self._usage: dict[str, Any] = {}
        self._reason = ""
        self._stopped = False

    def take(self, event: Mapping[str, Any]) -> None:
        """One event, in order; those of a kind that is not known mean nothing here."""
        kind = event.get("type")
        if kind == "message_start":
            self._message = event.get("message")
            self._learn(dig(self._message, "usage"))
        elif kind == "content_block_start":
            self._said.append(text(event, "content_block", "text"))
        elif kind == "content_block_delta":
            self._said.append(text(event, "delta", "text"))
        elif kind == "message_delta":
            self._reason = text(event, "delta", "stop_reason") or self._reason
            self._learn(event.get("usage"))
        elif kind == "message_stop":
            self._stopped = True

    def _learn(self, usage: object) -> None:
        if isinstance(usage, dict):  # what a later event does not say stays as it was
            self._usage |= {k: v for k, v in usage.items() if v is not None}

    def end(self) -> Answer:
        """The whole; NoAnswerError if it broke off before."""
        if not self._stopped:
            raise NoAnswerError(BROKEN_OFF)
        return _answer("".join(self._said), self._message, self._usage, self._reason)


def _answer(said: str, message: object, usage: object, reason: str) -> Answer:
    cached = number(usage, "cache_read_input_tokens")
    written = number(usage, "cache_creation_input_tokens")
    took = Usage(
        input_tokens=number(usage, "input_tokens") + cached + written,
        output_tokens=number(usage, "output_tokens"),
        cached_tokens=cached,
        turns=1,
    )
    return Answer(said, took, text(message, "model") or None, _FAULTS.get(reason))
