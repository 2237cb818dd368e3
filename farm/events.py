"""Server-sent events: JSON objects out of a stream of bytes, however it is cut.

Only what the APIs of agents use: the `data` lines of an event are its JSON; its name,
comments and everything else are skipped, and so is what is no JSON object (`[DONE]`).
Lines end with LF or CR LF.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

LONGEST = 64 * 1024 * 1024  # bytes of one event; more is no answer of an agent


class EventTooLongError(Exception):
    """One event is longer than any sensible one."""


class Events:
    """Bytes in, events out."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []  # of the line that has not ended yet
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[dict[str, Any]]:
        """The events that are complete with these bytes."""
        self._size += len(chunk)
        if self._size > LONGEST:
            raise EventTooLongError(f"an event of more than {LONGEST} bytes")
        if b"\n" not in chunk:  # a long line must not be copied with every chunk
            self._rest.append(chunk)
            return
        lines = b"".join([*self._rest, chunk]).split(b"\n")
        self._rest = [lines.pop()]
        for line in lines:
            yield from self._line(line.removesuffix(b"\r"))

    def _line(self, line: bytes) -> Iterator[dict[str, Any]]:
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        elif not line and self._data:
            raw = b"\n".join(self._data)
            self._data, self._size = [], 0
            try:
                event = msgspec.json.decode(raw)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                return  # the word at the end, or a gateway's garbage
            if isinstance(event, dict):
                yield event
