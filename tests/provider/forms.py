"""The two formats of an answer: `Messages` and `Chat`, whole or as a stream of events.

A form knows its path, what it refuses to read, and the names of its rows for what the
server itself refuses. It decides nothing and keeps no state.
"""

import json
import math
from datetime import UTC, datetime
from typing import Any, ClassVar, NamedTuple, Protocol

from tests.provider.buckets import Limits
from tests.provider.rows import ROWS, Row

PIECES = 5  # a text comes in about so many events


class Said(NamedTuple):
    """The content of one answer, before it has a form."""

    request_id: str
    model: str
    text: str
    stop: str  # in the words of the Messages API
    words_in: int
    body: dict[str, Any]  # of the call

    @property
    def words_out(self) -> int:
        return max(1, len(self.text.split()))


class Form(Protocol):
    """What the server asks of a format."""

    path: str
    unknown_key: Row
    over_limit: Row
    bad_request: Row

    def complaint(
        self, body: dict[str, Any], headers: dict[str, str]
    ) -> str | None: ...
    def whole(self, said: Said) -> dict[str, Any]: ...
    def events(self, said: Said) -> list[bytes]: ...
    def error_event(self, body: bytes) -> bytes: ...
    def limit_headers(self, limits: Limits, now: float) -> dict[str, str]: ...
    def other_headers(self, request_id: str, pool: str | None) -> dict[str, str]: ...


def as_json(body: dict[str, Any]) -> bytes:
    """Text as it is, as the real ones send it: no backslash hides what is not ASCII."""
    return json.dumps(body, ensure_ascii=False).encode(errors="replace")


def pieces(text: str) -> list[str]:
    size = max(1, math.ceil(len(text) / PIECES))
    return [text[start : start + size] for start in range(0, len(text), size)]


def missing(body: dict[str, Any], needed: tuple[str, ...]) -> str | None:
    """The first of these fields that a call does not have."""
    return next((name for name in needed if not body.get(name)), None)


class Messages:
    """POST /v1/messages."""

    path = "/v1/messages"
    unknown_key = ROWS["authentication"]
    over_limit = ROWS["rate_limit"].saying(
        "This request would exceed your organization's rate limit."
    )
    bad_request = ROWS["invalid_request"]

    def complaint(self, body: dict[str, Any], headers: dict[str, str]) -> str | None:
        if "anthropic-version" not in headers:
            return "anthropic-version: header is required"
        lacks = missing(body, ("model", "max_tokens", "messages"))
        return f"{lacks}: Field required" if lacks else None

    def whole(self, said: Said) -> dict[str, Any]:
        refused = said.stop == "refusal"
        return self._message(said) | {
            "content": [text_block(said.text)],
            "stop_reason": said.stop,
            "stop_details": {"type": "refusal"} if refused else None,
            "usage": {"input_tokens": said.words_in, "output_tokens": said.words_out},
        }

    def events(self, said: Said) -> list[bytes]:
        deltas = [
            self._event("content_block_delta", index=0, delta=text_delta(piece))
            for piece in pieces(said.text)
        ]
        ending = {"stop_reason": said.stop, "stop_sequence": None}
        return [
            self._event("message_start", message=self._message(said)),
            self._event("content_block_start", index=0, content_block=text_block("")),
            self._event("ping"),
            *deltas,
            self._event("content_block_stop", index=0),
            self._event(
                "message_delta", delta=ending, usage={"output_tokens": said.words_out}
            ),
            self._event("message_stop"),
        ]

    def error_event(self, body: bytes) -> bytes:
        return b"event: error\ndata: " + body.strip() + b"\n\n"

    def limit_headers(self, limits: Limits, now: float) -> dict[str, str]:
        reset = datetime.fromtimestamp(math.ceil(now + limits.full_in), UTC)
        prefix = "anthropic-ratelimit-requests"
        return {
            f"{prefix}-limit": str(limits.per_minute),
            f"{prefix}-remaining": str(limits.remaining),
            f"{prefix}-reset": reset.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def other_headers(self, request_id: str, pool: str | None) -> dict[str, str]:
        owner = {"anthropic-organization-id": pool} if pool else {}
        return {"request-id": request_id} | owner

    def _message(self, said: Said) -> dict[str, Any]:
        """As the first event of a stream has it."""
        return {
            "id": said.request_id.replace("req_", "msg_"),
            "type": "message",
            "role": "assistant",
            "model": said.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": said.words_in, "output_tokens": 1},
        }

    def _event(self, kind: str, **fields: object) -> bytes:
        data = as_json({"type": kind} | fields)
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def text_block(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def text_delta(text: str) -> dict[str, str]:
    return {"type": "text_delta", "text": text}


class Chat:
    """POST /v1/chat/completions."""

    path = "/v1/chat/completions"
    unknown_key = ROWS["openai_invalid_api_key"]
    over_limit = ROWS["openai_rate_limit"].saying(
        "Rate limit reached on requests per min (RPM)."
    )
    bad_request = ROWS["openai_bad_request"]

    finish: ClassVar = {"max_tokens": "length", "refusal": "content_filter"}

    def complaint(self, body: dict[str, Any], headers: dict[str, str]) -> str | None:
        lacks = missing(body, ("model", "messages"))
        return f"Missing required parameter: '{lacks}'." if lacks else None

    def whole(self, said: Said) -> dict[str, Any]:
        message = {"role": "assistant", "content": said.text, "refusal": None}
        choice = self._choice(said.stop) | {"message": message}
        return self._frame(said, "chat.completion") | {
            "choices": [choice],
            "usage": self._usage(said),
        }

    def events(self, said: Said) -> list[bytes]:
        deltas: list[dict[str, str]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": piece} for piece in pieces(said.text)]
        choices = [self._choice(None) | {"delta": delta} for delta in deltas]
        choices.append(self._choice(said.stop) | {"delta": {}})
        frame = self._frame(said, "chat.completion.chunk")
        chunks = [frame | {"choices": [choice]} for choice in choices]
        if (said.body.get("stream_options") or {}).get("include_usage"):
            chunks.append(frame | {"choices": [], "usage": self._usage(said)})
        return [*map(self._data, chunks), b"data: [DONE]\n\n"]

    def error_event(self, body: bytes) -> bytes:
        return b"data: " + body.strip() + b"\n\n"

    def limit_headers(self, limits: Limits, now: float) -> dict[str, str]:
        return {
            "x-ratelimit-limit-requests": str(limits.per_minute),
            "x-ratelimit-remaining-requests": str(limits.remaining),
            "x-ratelimit-reset-requests": short_duration(limits.full_in),
        }

    def other_headers(self, request_id: str, pool: str | None) -> dict[str, str]:
        owner = {"openai-organization": pool} if pool else {}
        return {"request-id": request_id, "x-request-id": request_id} | owner

    def _frame(self, said: Said, kind: str) -> dict[str, Any]:
        name = said.request_id.replace("req_", "chatcmpl-")
        return {"id": name, "object": kind, "created": 1_700_000_000} | {
            "model": said.model
        }

    def _choice(self, stop: str | None) -> dict[str, Any]:
        finish = self.finish.get(stop, "stop") if stop else None
        return {"index": 0, "logprobs": None, "finish_reason": finish}

    def _usage(self, said: Said) -> dict[str, int]:
        return {
            "prompt_tokens": said.words_in,
            "completion_tokens": said.words_out,
            "total_tokens": said.words_in + said.words_out,
        }

    def _data(self, body: dict[str, Any]) -> bytes:
        return b"data: " + as_json(body) + b"\n\n"


def short_duration(seconds: float) -> str:
    """`120ms`, `1s`, `6m0s`, `1h0m0s`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


FORMS: dict[str, Form] = {form.path: form for form in (Messages(), Chat())}
