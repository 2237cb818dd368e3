"""What a turn of an agent came to, and the events of its output; pure.

An output is lines of JSON among anything: a line that was cut, garbage or an event that
nobody knows is passed over, for the rest may still say how it ended.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from farm import disk
from farm.keys import Key, variables
from farm.result import Error, Usage
from farm.trouble import Trouble

Event = Mapping[str, Any]

MOST_TEXT = 1 << 20  #: letters of an answer; its log has all of it
_MOST_WORDS = 500  # letters of a line that is no event
# Half a letter, as JavaScript writes one when it cuts a text in two; no UTF-8 has it.
_HALF = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)


class Exited(msgspec.Struct, frozen=True):
    """How the program ended, as far as that tells how its turn went."""

    ok: bool  #: by itself, with a code that means success
    words: str = "exit code 0"
    stderr: str = ""  #: its last line


class Answer(msgspec.Struct, frozen=True):
    """What came of one turn; it has succeeded if there is no `error`."""

    text: str | None = None
    usage: Usage | None = None
    session: str | None = None
    model: str | None = None
    error: Error | None = None
    trouble: Trouble | None = None  #: what its provider refused, if that is the error
    unknown_session: bool = False  #: the one that was to be resumed is not there

    @property
    def was_given(self) -> bool:
        """Whether its provider did what it was asked for, to the end or to a cap."""
        return self.error is None or self.error.kind in CAPS


#: errors that are a task's own caps
CAPS = ("max_turns", "budget")


class Sign(msgspec.Struct, frozen=True):
    """What one event tells while the program runs."""

    words: str = ""  #: for people
    is_work: bool = True  #: it does more than announce that it tries again
    is_final: bool = False  #: nothing follows but the program's end
    opened: tuple[str, ...] = ()  #: calls of tools that begin
    closed: tuple[str, ...] = ()


#: a line that is no event
NO_SIGN = Sign(is_work=False)


def events(lines: Iterable[bytes]) -> Iterator[Event | str]:
    """Each line's event; for a line that is none its words, if they can be any."""
    for line in lines:
        found = _decoded(line)
        if isinstance(found, dict):
            yield found
        elif not line.lstrip().startswith(b"{"):  # else the rest of an event
            yield line[:_MOST_WORDS].decode(errors="replace").strip()


def _decoded(line: bytes) -> object:
    try:
        return disk.decode(line)
    except ValueError:
        if b"\\u" not in line:
            return None
    try:
        return disk.decode(_HALF.sub(rb"\\ufffd", line))
    except ValueError:
        return None


def text_in(event: Event, key: str) -> str:
    """A text of an event; "" if it has none there."""
    found = event.get(key)
    return found if isinstance(found, str) else ""


def part_of(event: Event, key: str) -> Event:
    """An object in an event; an empty one if it has none there."""
    found = event.get(key)
    return found if isinstance(found, dict) else {}


def parts_of(event: Event, key: str) -> list[Event]:
    """The objects of a list in an event; none if it has no list there."""
    found = event.get(key)
    every = found if isinstance(found, list) else []
    return [one for one in every if isinstance(one, dict)]


def number_in(event: Event, key: str) -> float:
    """A number of an event that can count something; 0.0 if it has none there."""
    found = event.get(key)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return 0.0
    return float(found) if math.isfinite(found) and found > 0 else 0.0


def count_in(event: Event, key: str) -> int:
    """The same as a whole number."""
    return int(min(number_in(event, key), 2.0**53))


def variables_as(provider: str, key: Key) -> dict[str, str]:
    """A key under the names that a program reads which knows this provider only."""
    told = Key(key.id, provider, key.secret, base_url=key.base_url, model=key.model)
    return variables(told)


_SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


def session_in(event: Event, key: str) -> str | None:
    """A session's id, if it is one that can stand on a command line."""
    found = text_in(event, key)
    return found if _SESSION.fullmatch(found) else None


def last_session(lines: Iterable[bytes], key: str, *types: str) -> str | None:
    """The last session that events of these types name."""
    found = None
    for event in events(lines):
        if isinstance(event, Mapping) and event.get("type") in types:
            found = session_in(event, key) or found
    return found


def sentence(exited: Exited, said: Sequence[str], *, has_result: bool) -> str:
    """Why a turn came to nothing: what was said best, and how it ended."""
    words = said[0][:_MOST_WORDS].strip() if said else ""
    if not exited.ok:
        how = exited.words
    else:
        how = "" if has_result else "it ended without a result"
    return ": ".join(part for part in (how, words) if part) or "it does not say why"
