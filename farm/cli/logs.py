"""`farm logs`: what a task printed, also while it runs."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial

import click

from farm import poll
from farm.cli.common import (
    ID_ARGUMENT,
    PROJECT_OPTION,
    Place,
    example,
    one_task,
    read_project,
)
from farm.errors import FarmError, UsageError
from farm.history import History, numbers, output, read_history
from farm.project import Project
from farm.words import clean, plain

FIRST_LINES = 10  # shown by -f before it follows, as tail(1) does
_CHUNK = 1 << 16  # bytes read at once
_FARTHEST = 1 << 23  # bytes from the end in which the last lines are looked for
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")
_NAMES = {"out": "stdout", "err": "stderr"}


@click.command(
    epilog=example(
        "farm logs build",
        "farm logs build -f --stderr",
        "farm logs build --attempt 1 --tail 20",
    ),
)
@PROJECT_OPTION
@ID_ARGUMENT
@click.option("-f", "--follow", is_flag=True, help="Go on until the task has ended.")
@click.option(
    "--attempt", type=click.IntRange(min=1), help="Which  [default: the last]"
)
@click.option("--stderr", is_flag=True, help="What it wrote to stderr instead.")
@click.option("--tail", type=click.IntRange(min=0), help="Only the last N lines.")
@click.pass_obj
def command(
    place: Place,
    project: str | None,
    task_id: str,
    attempt: int | None,
    tail: int | None,
    *,
    follow: bool,
    stderr: bool,
) -> None:
    """Print what an attempt of a task wrote to stdout.

    With -f the last 10 lines, or --tail N, and then what comes, until the task has
    ended; with --attempt until that attempt has. On a terminal without what could
    steer it; elsewhere byte for byte.
    """
    there = read_project(place.find(project))
    one_task(there, task_id)
    wanted = _Wanted(there, task_id, "err" if stderr else "out", tail, follow=follow)
    number = _number(wanted, attempt)
    while number:
        wanted.print_attempt(number)
        number = wanted.next_number(number) if follow and attempt is None else 0


def _number(wanted: "_Wanted", asked: int | None) -> int:
    """The attempt that is meant; FarmError if there was none."""
    there = numbers(wanted.history())
    task_id = wanted.task_id
    if not there and wanted.follow and asked is None:
        click.echo(f"waiting for the first attempt of {plain(task_id)}", err=True)
        return wanted.next_number(0)
    if not there:
        raise FarmError(f"{task_id} has not run yet: farm why {task_id} says why")
    if asked is not None and asked not in there:
        known = ", ".join(map(str, there))
        raise UsageError(f"there is no attempt {asked} of {task_id}: there are {known}")
    return asked or there[-1]


class _Wanted:
    """One stream of one task, as it was asked for."""

    def __init__(
        self,
        project: Project,
        task_id: str,
        suffix: str,
        tail: int | None,
        *,
        follow: bool,
    ) -> None:
        self.task_id = task_id
        self.follow = follow
        self._project = project
        self._suffix = suffix
        self._tail = FIRST_LINES if follow and tail is None else tail

    def history(self) -> History:
        """What is known of the task now."""
        return read_history(self._project, self.task_id)

    def next_number(self, before: int) -> int:
        """The attempt after this one, when it begins; 0 if the task has ended."""

        def look() -> int | None:
            past = self.history()
            later = [number for number in numbers(past) if number > before]
            if later:
                return later[0]
            gone = self._project.task_signature(self.task_id) is None
            return 0 if past.result is not None or gone else None

        number = poll.until(look) or 0
        if number:
            click.echo(f"attempt {number} begins", err=True)
        return number

    def print_attempt(self, number: int) -> None:
        """Print it, to its end if it is to be followed."""
        past = self.history()
        source = output(self._project, past, number, self._suffix)
        if source.lost is not None:
            raise FarmError(
                f"{source.lost} is gone: [logs] in farm.toml says how long logs are kept"
            )
        printer = _Printer()
        if source.path is None:
            text = source.text.encode()
            printer.write(text if self._tail is None else _last_lines(text, self._tail))
        else:
            reader = _Reader(source.path, self._tail)
            _print_file(reader, printer, partial(self._is_over, number))
        printer.end()
        if not printer.wrote:
            _say_nothing_was(self._project, past, number, self._suffix)

    def _is_over(self, number: int) -> bool:
        past = self.history()
        runs = past.open if self.follow and past.alive else None
        return runs is None or runs.claimed.attempt != number


def _say_nothing_was(project: Project, past: History, number: int, suffix: str) -> None:
    other = "err" if suffix == "out" else "out"
    source = output(project, past, number, other)
    size = os.stat(source.path).st_size if source.path else len(source.text)
    hint = f"; it wrote {size} bytes to {_NAMES[other]}" if size else ""
    click.echo(f"attempt {number} wrote nothing to {_NAMES[suffix]}{hint}", err=True)


def _last_lines(raw: bytes, count: int) -> bytes:
    lines = _LINE.findall(raw)
    return b"".join(lines[max(0, len(lines) - count) :])


class _Printer:
    """Puts bytes on stdout, on a terminal without what could steer it."""

    def __init__(self) -> None:
        self.wrote = False
        self._out = sys.stdout.buffer
        self._cleans = sys.stdout.isatty()
        self._rest = b""  # a line that is not whole: a sequence may be cut in it

    def write(self, raw: bytes) -> None:
        """Print these bytes, at once."""
        self.wrote |= bool(raw)
        if self._cleans:
            whole, line_end, self._rest = (self._rest + raw).rpartition(b"\n")
            raw = clean((whole + line_end).decode(errors="replace")).encode()
            if len(self._rest) > _CHUNK:
                self.end()
        self._out.write(raw)
        self._out.flush()

    def end(self) -> None:
        """Print a last line that has no end."""
        self._out.write(clean(self._rest.decode(errors="replace")).encode())
        self._rest = b""
        self._out.flush()


class _Reader:
    """Reads an output file from its last lines on; it may be renamed meanwhile."""

    def __init__(self, path: str, last: int | None) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        size = os.fstat(self._fd).st_size
        self._offset = 0 if last is None else _start_of_last(self._fd, size, last)

    def read(self) -> Iterator[bytes]:
        """What there is now."""
        while chunk := os.pread(self._fd, _CHUNK, self._offset):
            self._offset += len(chunk)
            yield chunk


def _start_of_last(fd: int, size: int, count: int) -> int:
    """Where the last `count` lines of an open file begin; reads only its end."""
    start, found, blocks = size, 0, []
    while start > 0 and found <= count and size - start < _FARTHEST:
        begin = max(0, start - _CHUNK)
        blocks.append(os.pread(fd, start - begin, begin))
        found += blocks[-1].count(b"\n")
        start = begin
    return size - len(_last_lines(b"".join(reversed(blocks)), count))


def _print_file(
    reader: _Reader, printer: _Printer, is_over: Callable[[], bool]
) -> None:
    def look() -> bool | None:
        # RACE: asked before reading, so that nothing written before its end is missed.
        over = is_over()
        for chunk in reader.read():
            printer.write(chunk)
        return True if over else None

    poll.until(look)
