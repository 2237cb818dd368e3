"""From what was decided to what is sent."""

import json
import threading
from typing import Any, NamedTuple

from tests.provider.answers import Answer, Cut, InStream, Says, Stall
from tests.provider.calls import OK
from tests.provider.echo import answer_to, words_in
from tests.provider.forms import Form, Said, as_json
from tests.provider.rows import JSON, KEY, Row
from tests.provider.wire import Reply, Request

CUT = 0  # the status of no answer at all


class Asked(NamedTuple):
    """One call, as far as its reply depends on it."""

    form: Form
    request: Request
    body: dict[str, Any]
    request_id: str
    headers: dict[str, str]  # of whatever is sent
    limit_headers: dict[str, str]  # of what is accepted

    @property
    def wants_stream(self) -> bool:
        return bool(self.body.get("stream"))


def read_object(raw: bytes) -> dict[str, Any]:
    """Empty if these bytes are no JSON object."""
    try:
        found = json.loads(raw)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def status_of(answer: Answer, *, wants_stream: bool) -> int:
    match answer:
        case Row(status=status):
            return status
        case Cut(midway=False):
            return CUT
        case InStream(row) if not wants_stream:
            return row.status
        case _:
            return OK


def reply_to(answer: Answer, asked: Asked, go_on: threading.Event) -> Reply:
    """`go_on` frees the second half of a reply that stalls."""
    match answer:
        case InStream(row) if asked.wants_stream:
            return broken_stream(row, asked)
        case (Row() as row) | InStream(row):
            return refusal(row, asked)
        case Cut(midway=False):
            return Reply(CUT, {}, [])
        case Cut():
            return said(Says(), asked)._replace(is_cut=True)
        case Stall():
            return said(Says(), asked)._replace(go_on=go_on)
        case Says():
            return said(answer, asked)


def refusal(row: Row, asked: Asked) -> Reply:
    return Reply(row.status, asked.headers | row.headers, [row_bytes(row, asked)])


def row_bytes(row: Row, asked: Asked) -> bytes:
    body = row.body
    if isinstance(body, dict):
        is_messages = body.get("type") == "error"
        body = body | ({"request_id": asked.request_id} if is_messages else {})
        body = as_json(body)
    return body.replace(KEY.encode(), asked.request.secret.encode())


def said(says: Says, asked: Asked) -> Reply:
    """A whole answer, in the form and the way that were asked for."""
    content = content_of(says, asked)
    if asked.wants_stream:
        return stream(asked.form.events(content), asked)
    body = as_json(asked.form.whole(content))
    half = len(body) // 2
    headers = asked.headers | asked.limit_headers | {"content-type": JSON}
    return Reply(OK, headers, [body[:half], body[half:]])


def broken_stream(row: Row, asked: Asked) -> Reply:
    events = asked.form.events(content_of(Says(), asked))
    error = asked.form.error_event(row_bytes(row, asked))
    return stream([*events[: len(events) // 2], error], asked)


def stream(events: list[bytes], asked: Asked) -> Reply:
    kind = {"content-type": "text/event-stream; charset=utf-8"}
    headers = asked.headers | asked.limit_headers | kind
    return Reply(OK, headers, events, is_stream=True)


def content_of(says: Says, asked: Asked) -> Said:
    text = answer_to(asked.body) if says.text is None else says.text
    return Said(
        asked.request_id,
        asked.body["model"],
        text,
        says.stop,
        words_in(asked.body),
        asked.body,
    )
