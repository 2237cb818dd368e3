"""What a check of the folder found out: `ok`, `warn` or `fail`, and what to do.

`unable` makes a `fail` of what kept a check from being made.
"""

import errno
from collections.abc import Callable
from enum import StrEnum

import msgspec

from farm.errors import FarmError
from farm.project import Project
from farm.trial import NEEDS


class Level(StrEnum):
    """How bad it is, in this order."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Told(msgspec.Struct, frozen=True):
    """What a check found out."""

    level: Level
    said: str  #: what was measured
    advice: str = ""  #: what to do about it


Check = Callable[[Project], Told]


def ok(said: str) -> Told:
    """All is well."""
    return Told(Level.OK, said)


def warn(said: str, advice: str) -> Told:
    """It works, but somebody should know."""
    return Told(Level.WARN, said, advice)


def fail(said: str, advice: str) -> Told:
    """The promises do not hold here."""
    return Told(Level.FAIL, said, advice)


def worst(told: list[Told]) -> Told:
    """The first of the worst."""
    return max(told, key=lambda one: list(Level).index(one.level))


_TODO = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room, or raise the quota",
    errno.EROFS: "mount it read-write",
    errno.EACCES: "give the farm's user the right to write there",
    errno.EPERM: "give the farm's user the right to do that there",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.EAGAIN: "allow more processes (ulimit -u)",
    errno.EXDEV: "keep tasks/ and .farm/ on one file system",
}


def unable(error: Exception, what: str = "") -> Told:
    """A check could not be made, for this reason: then nothing can be promised."""
    cause = error.__cause__ if isinstance(error, FarmError) else error
    if not isinstance(cause, OSError):
        return fail(str(error), "")  # such a sentence says what to do
    where = what or cause.filename
    start = f"{where}: " if where else ""
    todo = _TODO.get(cause.errno or 0, NEEDS)
    return fail(f"{start}{cause.strerror or cause}", todo)
