"""farm.toml: its text, its table, and the place of a key in it.

    file = TomlFile.read(path)
    file.table                     what it says, as Python has it
    file.where("logs", "keep")     "farm.toml:7:1", for who must mend it

A missing file is an empty one. ConfigError, with the place, for what is no TOML.
"""

import os
import re
from typing import Any, NamedTuple, Self

from farm import disk
from farm.errors import ConfigError
from farm.locate import NOWHERE, Place, place_of

MOST = 1 << 20  #: bytes of farm.toml
_MOST_PARTS = 64  # of a dotted key
_PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
_MANY_PARTS = re.compile(rf"(?<![\w.-])(?:{_PART}[ \t]*+\.[ \t]*+){{{_MOST_PARTS}}}")
FilePath = str | os.PathLike[str]


class TomlFile(NamedTuple):
    """See the module's docstring."""

    path: FilePath
    text: str
    table: dict[str, Any]
    owner: int | None  #: the user to whom it belongs; None if there is no file

    @classmethod
    def read(cls, path: FilePath) -> Self:
        """The file as it is now."""
        text, owner = _text_of(path)
        return cls(path, text, _table(path, text), owner)

    def where(self, outer: str, *inner: str) -> str:
        """Where a key stands: in its table, or else where its table is named."""
        start = _offset_of_key(self.text, outer, r"^[ \t\[]*")
        for name in inner:
            if start >= 0:
                before = r"(?:^|[.{,])[ \t]*"
                start = max(start, _offset_of_key(self.text, name, before, start))
        place = place_of(self.text, start) if start >= 0 else NOWHERE
        return _located(self.path, place)


def _text_of(path: FilePath) -> tuple[str, int | None]:
    """What it says, and whose it is."""
    try:
        fd = disk.open_to_read(path, follow=True)
        try:
            return _text_in(fd).decode(), os.fstat(fd).st_uid
        finally:
            os.close(fd)
    except FileNotFoundError:
        return "", None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8: save it as UTF-8") from None


def _text_in(fd: int) -> bytes:
    disk.check_regular(fd)
    return disk.read_fd(fd, MOST)


def _table(path: FilePath, text: str) -> dict[str, Any]:
    if not text:
        return {}
    import tomllib  # noqa: PLC0415 - most projects have no farm.toml

    if found := _MANY_PARTS.search(text):  # tomllib takes quadratic time for them
        where = _located(path, place_of(text, found.start()))
        raise ConfigError(
            f"{where}: a key of more than {_MOST_PARTS} parts: shorten it"
        )
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"cannot read {path}: it is nested too deep") from None
    except ValueError as error:  # TOMLDecodeError, or an integer beyond all limits
        words, _, where = str(error).partition(" (at ")
        numbers = [int(number) for number in re.findall("[0-9]+", where)]
        # Without numbers it is the end of the document.
        place = Place(*numbers) if numbers else place_of(text, len(text))
        message = f"{_located(path, place)}: this is not TOML: {words}"
        raise ConfigError(message) from None


def _offset_of_key(text: str, name: str, before: str, start: int = 0) -> int:
    """Where a key stands for the first time from `start` on; -1 if nowhere."""
    shape = rf"{before}(?P<key>([\"']?){re.escape(name)}\2)[ \t]*[=.\]]"
    found = re.compile(shape, re.MULTILINE).search(text, start)
    return found.start("key") if found else -1


def _located(path: FilePath, place: Place) -> str:
    return f"{path}:{place.line}:{place.column}" if place != NOWHERE else str(path)
