"""What each setting may say: a reader for each, whichever source it comes from.

    READERS[name](value)    what `Settings` keeps; ValueError in words that follow a name
    meant(name, text)       the same text as farm.toml would have it without quotes

The words are "must be ...", and hold for farm.toml, for variables and for flags alike.
"""

import os
from collections.abc import Callable
from typing import Literal

from farm import duration, size
from farm.trust import Trust

Durability = Literal["auto", "always", "never"]
Hook = str | tuple[str, ...]  #: a command: for `sh -c`, or a list of words


def _whole(least: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"must be a whole number of at least {least}")
        return value

    return read


def _above_zero(value: object) -> float:
    found = duration.seconds(value)
    if found == 0.0:
        raise ValueError(_MUST_BE["above_zero"])
    return found


def _durability(value: object) -> Durability:
    if value not in ("auto", "always", "never"):
        raise ValueError(_MUST_BE["durability"])
    return value


def _size(most: str) -> Callable[[object], int]:
    return lambda value: size.number(value, most)


def _command(value: object) -> Hook:
    words = (value,) if isinstance(value, str) else value
    if (
        not isinstance(words, list | tuple)
        or not words
        or not all(map(_is_word, words))
    ):
        raise ValueError(_MUST_BE["command"])
    return value if isinstance(value, str) else tuple(words)


def _is_word(value: object) -> bool:
    return isinstance(value, str) and bool(value) and "\0" not in value


def _name(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(_MUST_BE["name"])
    return value


def _trust(value: object) -> Trust:
    """True, false, or from outside the paths of projects; farm.toml speaks for its own."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, tuple):
        raise ValueError(_MUST_BE["trust"])  # noqa: TRY004 - as above
    if not all(map(os.path.isabs, value)):
        raise ValueError(_MUST_BE["paths"])
    return value


_MUST_BE = {
    "above_zero": "must be above 0 seconds",
    "durability": 'must be "auto", "always" or "never"',
    "command": 'must be a command such as "notify.sh" or ["mail", "me"]',
    "name": 'must be a name such as "ask"',
    "trust": "must be true or false",
    "paths": "must be true, false, or absolute paths joined by `:`",
}
_TRUTHS = dict.fromkeys(("true", "yes", "1"), True) | dict.fromkeys(
    ("false", "no", "0"), False
)

READERS: dict[str, Callable[[object], object]] = {
    "workers": _whole(least=1),
    "timeout": _above_zero,
    "retries": _whole(least=0),
    "max_lost": _whole(least=1),  # with 0 even a task that never vanished is lost
    "max_wait": duration.seconds,
    "grace": duration.seconds,
    "heartbeat": _above_zero,
    "heartbeat_timeout": _above_zero,
    "durability": _durability,
    "inline_output": _size("GiB"),
    "max_output": _size("TiB"),
    "idle_timeout": duration.seconds,
    "trust": _trust,
    "default_agent": _name,
    "logs.keep": duration.seconds,
    "logs.max_total": _size("TiB"),
    "hooks.on_failure": _command,
    "hooks.on_done": _command,
}


def meant(name: str, text: str) -> object:
    """What a text from outside means for this setting: "4" is a number, "yes" is true."""
    if READERS[name] is _trust:
        return _TRUTHS.get(text.lower(), tuple(filter(None, text.split(":"))))
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue  # not this kind of number; what is none stays text
    return text
