"""Server-sent events: JSON objects out of a stream of bytes, however it is cut.

Only what the APIs of agents use: the `data` lines of an event are its JSON; its name,
comments and everything else are skipped, and so is the word `[DONE]`. Lines end with LF
or CR LF. Data that is no JSON object is an error: an answer with a hole is no answer.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

NO_OBJECT = "an event that is no JSON object"
LONGEST = 64 * 1024 * 1024  # bytes of one event; more is no answer of an agent
_NOTHING = (b"", b"[DONE]")


class EventError(Exception):
    """One event is longer than any sensible one, or cannot be read."""


class Events:
    """Bytes in, events out."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []  # of the line that has not ended yet
        self._data: list[bytes] = []
        self._held = 0  # bytes in `_data`, and one for each of its lines
        self._size = 0  # of the event that has not ended yet

    def feed(self, chunk: bytes) -> Iterator[dict[str, Any]]:
        """The events that are complete with these bytes."""
        self._size += len(chunk)
        if self._size > LONGEST:
            raise EventError(f"an event of more than {LONGEST} bytes")
        if b"\n" not in chunk:  # a long line must not be copied with every chunk
            self._rest.append(chunk)
            return
        lines = b"".join([*self._rest, chunk]).split(b"\n")
        self._rest = [lines.pop()]
        for line in lines:
            yield from self._line(line.removesuffix(b"\r"))
        self._size = len(self._rest[0]) + self._held

    def _line(self, line: bytes) -> Iterator[dict[str, Any]]:
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
            self._held += len(self._data[-1]) + 1
        elif not line:
            raw, self._data, self._held = b"\n".join(self._data), [], 0
            if raw.strip() not in _NOTHING:
                yield _object(raw)


def _object(raw: bytes) -> dict[str, Any]:
    try:
        event = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        event = None
    if not isinstance(event, dict):
        raise EventError(NO_OBJECT)
    return event
