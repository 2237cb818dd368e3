"""What a complaint about a file needs: the place, the value, the likely word.

Parsers say what is wrong with a value, not where it stands. `value_place` and
`key_place` look for it afterwards, in JSON text that a parser has accepted. A
path names a place from the outside in: `("retries", "max")`, `("needs", 2)`.
Where a key is repeated, the last one is meant, as with every parser.
`broken_json` does the same for text that no parser accepts.

Lines and columns count from 1; a column counts characters, a tab is one, and
"\\r\\n" ends one line. `NOWHERE` is the answer if there is no such place or the
text is no JSON: finding never raises. Cost: one pass over the text, so look only
when there is something to complain about.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import orjson

from farm.errors import TaskFileError

Path = Sequence[str | int]


class Place(NamedTuple):
    """A place in a text, for people."""

    line: int
    column: int


NOWHERE = Place(0, 0)

_MOST_COMPARED = 4_000_000  # pairs of letters; a third of a second
_SHOWN = 60  # characters of a value; more would bury the sentence

_SPACE = re.compile(r"[ \t\r\n]*+")
_TEXT = r'"(?:[^"\\]++|\\.)*+"'
_STRING = re.compile(_TEXT, re.DOTALL)
_SCALAR = re.compile(r"[^\s,:\[\]{}\"]++")
_BRACKET = re.compile(rf"{_TEXT}|[\[\]{{}}]", re.DOTALL)
_NUMBER = re.compile(rf"{_TEXT}|-?[0-9][0-9.eE+-]*+", re.DOTALL)


class _Member(NamedTuple):
    """One entry of an object or a list; offsets into the text."""

    name: str | int
    key: int  # where its key begins; in a list, where its value begins
    value: int


class _LostError(ValueError):
    """The text is not what JSON allows here; never leaves this module."""


def place_of(text: str, offset: int) -> Place:
    """The line and column of a character's offset."""
    before = text[:offset]
    return Place(before.count("\n") + 1, offset - before.rfind("\n"))


def value_place(text: str, path: Path) -> Place:
    """Where the value at `path` begins; the whole value's place for ()."""
    try:
        return place_of(text, _walk(text, path).value)
    except ValueError:
        return NOWHERE


def key_place(text: str, path: Path) -> Place:
    """Where the key at the end of `path` begins; in a list, its entry."""
    try:
        return place_of(text, _walk(text, path).key)
    except ValueError:
        return NOWHERE


def repeated_key(text: str) -> tuple[str, Place] | None:
    """The first key of the outermost object that stood there before."""
    seen = set()
    try:
        for member in _members(text, _skip_space(text, 0)):
            if member.name in seen:
                return str(member.name), place_of(text, member.key)
            seen.add(member.name)
    except ValueError:
        return None  # no JSON, so no keys
    return None


def wide_integer(text: str) -> Place | None:
    """The first integer that 64 bits cannot hold; parsers would round it."""
    for token in _NUMBER.finditer(text):
        digits = token[0]
        if digits.startswith('"') or not digits.lstrip("-").isdigit():
            continue
        if not -(1 << 63) <= int(digits[:30]) < 1 << 64:
            return place_of(text, token.start())
    return None


def shown(value: object) -> str:
    """A refused value, as a few words for the end of a sentence."""
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, dict):
        return "an object" if value else "an empty object"
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)  # JSON has no word for it
    try:
        text = orjson.dumps(value).decode()
    except TypeError:  # a setting may be anything that TOML or a caller knows
        text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`, did you mean `retries`?` if one of the known words is close, else "".

    Of many long words only the first are compared: it takes their lengths' product.
    """
    import difflib  # noqa: PLC0415 - only where something is refused

    every = list(known)
    sizes = accumulate(len(word) * len(other) for other in every)
    compared = sum(size <= _MOST_COMPARED for size in sizes)
    close = difflib.get_close_matches(word, every[:compared], n=1)
    return f", did you mean `{close[0]}`?" if close else ""


# -- text that is no JSON ---------------------------------------------------------


def broken_json(raw: bytes, error: orjson.JSONDecodeError) -> TaskFileError:
    """What is wrong with bytes that `orjson.loads` refused with `error`."""
    if not raw.strip():
        return TaskFileError("the file is empty: it must hold a JSON object", 1, 1)
    try:
        text = raw.decode()
    except UnicodeDecodeError as fault:
        return _not_utf8(raw, fault)
    if text.startswith("\ufeff"):
        return TaskFileError(
            "the file begins with a byte order mark, which JSON forbids:"
            " save it as UTF-8 without one",
            1,
            1,
        )
    if error.pos >= len(text.rstrip()):
        return TaskFileError(_ENDS_EARLY, *place_of(text, len(text)))
    return TaskFileError(_syntax_words(text, error), *place_of(text, error.pos))


_ENDS_EARLY = "the file ends in the middle: write the rest of it"

_BY_WORD = {  # what orjson calls it, in part: what to do
    "trailing comma": "remove the comma behind the last entry",
    "depth": "lists and objects are nested too deep",
    "ecursion": "lists and objects are nested too deep",
    "infinity": "the number is too large: write it as a string",
    "control character": r"inside a string, write a line break as \n, a tab as \t",
}
_BY_LETTER = {  # what stands there: what to do
    "'": "write strings in double quotes",
    "/": "JSON has no comments; notes can stand in `meta`",
    "#": "JSON has no comments; notes can stand in `meta`",
    "N": "JSON has no NaN and no None; write null",
    "T": "write true in small letters",
    "F": "write false in small letters",
    "I": "JSON has no Infinity; write null",
}


def _syntax_words(text: str, error: orjson.JSONDecodeError) -> str:
    for word, advice in _BY_WORD.items():
        if word in error.msg:
            return f"this is not JSON that farm can read: {advice}"
    advice = _BY_LETTER.get(text[error.pos], "")
    return f"this is not JSON: {error.msg}" + (f": {advice}" if advice else "")


def _not_utf8(raw: bytes, fault: UnicodeDecodeError) -> TaskFileError:
    before = raw[: fault.start].decode()
    place = place_of(before, len(before))
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return TaskFileError("the file is UTF-16: save it as UTF-8", *place)
    if fault.reason == "unexpected end of data":
        return TaskFileError(_ENDS_EARLY, *place)
    return TaskFileError(
        f"the file is not UTF-8: it holds the byte 0x{raw[fault.start]:02x} here;"
        " save it as UTF-8",
        *place,
    )


# -- walking through text ---------------------------------------------------------


def _walk(text: str, path: Path) -> _Member:
    start = _skip_space(text, 0)
    found = _Member("", start, start)
    for step in path:
        inside = [m for m in _members(text, found.value) if m.name == step]
        if not inside:
            raise _LostError
        found = inside[-1]
    return found


def _members(text: str, at: int) -> Iterator[_Member]:
    """The entries of the object or list that begins at `at`; none of a scalar."""
    closing = {"{": "}", "[": "]"}.get(text[at : at + 1])
    if closing is None:
        return
    at = _skip_space(text, at + 1)
    count = 0
    while not text.startswith(closing, at):
        name: str | int = count
        key = value = at
        if closing == "}":
            name, value = _read_key(text, at)
        yield _Member(name, key, value)
        count += 1
        at = _skip_space(text, _end_of_value(text, value))
        if text.startswith(",", at):
            at = _skip_space(text, at + 1)
        elif not text.startswith(closing, at):
            raise _LostError


def _read_key(text: str, at: int) -> tuple[str, int]:
    """The key that begins at `at`, and where its value begins."""
    end = _end(_STRING, text, at)
    colon = _skip_space(text, end)
    if not text.startswith(":", colon):
        raise _LostError
    return orjson.loads(text[at:end]), _skip_space(text, colon + 1)


def _end_of_value(text: str, at: int) -> int:
    first = text[at : at + 1]
    if first == '"':
        return _end(_STRING, text, at)
    if first not in ("{", "["):
        return _end(_SCALAR, text, at)
    depth = 0
    for token in _BRACKET.finditer(text, at):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token[0], 0)
        if depth == 0:
            return token.end()
    raise _LostError


def _skip_space(text: str, at: int) -> int:
    return _end(_SPACE, text, at)


def _end(shape: re.Pattern[str], text: str, at: int) -> int:
    found = shape.match(text, at)
    if found is None:
        raise _LostError
    return found.end()
