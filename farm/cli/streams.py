"""stdin, stdout and stderr, such that a verb can rely on them, however it was started.

    guard()       at the very start of the `farm` command
    give_up()     what stdout does not take any more goes nowhere
    unguarded()   what runs within has the streams as Python made them

A descriptor that was closed is opened, so that no file of farm gets its number. An error
of stdout has the file name `stdout`, so that it is not mistaken for one of the project.
A letter that a stream cannot show is written as its number, `\\u2713`. What stderr does
not take is dropped: it only tells people what goes on, and that must not end the work.
"""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

STDOUT = "stdout"  #: the file name in an error of it
_replaced: list[TextIO] = []  # stdout and stderr, as Python made them


class _Stdout(io.FileIO):
    """Says in an error that it was stdout."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, STDOUT) from None


class _Stderr(io.FileIO):
    """Drops what cannot be written."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def guard() -> None:
    """See the module's docstring; for a process that is only the `farm` command."""
    _fill()
    _replaced[:] = [_or_new(sys.stdout, 1), _or_new(sys.stderr, 2)]
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - as long as we live
    sys.stdout = _text(_Stdout(1, "w", closefd=False), _replaced[0])
    sys.stderr = _text(_Stderr(2, "w", closefd=False), _replaced[1])


@contextmanager
def unguarded() -> Iterator[None]:
    """For a worker: what a callable prints, and what refuses it, is the callable's own."""
    ours = sys.stdout, sys.stderr
    if _replaced:
        sys.stdout.flush()
        sys.stdout, sys.stderr = _replaced
    try:
        yield
    finally:
        sys.stdout, sys.stderr = ours


def give_up() -> None:
    """Let what stdout does not take go nowhere; else Python complains at its end."""
    with suppress(OSError):
        sys.stdout.flush()
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _fill() -> None:
    """Open descriptors that were closed: reading finds nothing, writing is refused."""
    fd = 0
    while fd <= 2:  # noqa: PLR2004 - the number of stderr; open takes the lowest free one
        fd = os.open(os.devnull, os.O_RDONLY)
    os.close(fd)


def _or_new(stream: TextIO | None, fd: int) -> TextIO:
    """A stream; Python makes none for a descriptor that was closed."""
    return stream or open(fd, "w", errors="backslashreplace", closefd=False)


def _text(raw: io.FileIO, like: TextIO) -> TextIO:
    strict = like.errors in (None, "strict")
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=like.encoding,
        errors="backslashreplace" if strict else like.errors,
        line_buffering=raw.isatty() or raw.fileno() == 2,  # noqa: PLR2004 - stderr
    )
