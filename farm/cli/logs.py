"""`farm logs`: what a task printed, also while it runs."""

import codecs
import os
import re
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from functools import partial

import click

from farm import disk, middle, poll
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
_LONGEST = 4096  # letters of a sequence that is waited for
_HALF = re.compile(r"\r\Z|\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b\n]*\x1b?)?\Z")
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
        found = poll.until(partial(self._open, number))
        printer = _Printer()
        if isinstance(found, _Reader):
            _print_file(found, printer, partial(self._stands, number))
        elif isinstance(found, bytes):
            printer.write(_last_lines(found, self._tail))
        printer.end()
        if not printer.wrote and self._tail != 0:
            _say_nothing_was(self._project, self.history(), number, self._suffix)

    def _open(self, number: int) -> "_Reader | bytes | None":
        """Its output, as far as there is any; None: look again."""
        past = self.history()
        if number not in numbers(past):  # RACE: it was there a moment ago
            raise FarmError(
                f"attempt {number} of {self.task_id} is gone: its result was deleted, or"
                " the task is to run again"
            )
        source = output(self._project, past, number, self._suffix)
        if source.lost is not None:
            raise FarmError(
                f"{source.lost} is gone: [logs] in farm.toml says how long logs are kept"
            )
        if source.path is not None:
            try:
                return _Reader(source.path, self._tail, scratch=source.scratch)
            except FileNotFoundError:
                return None  # RACE: it ended; its result has what lay there
        # RACE: it has not opened its log yet, or it ended and the log was removed.
        runs = self._stands(number) is not _Stands.ENDED
        return (
            None
            if source.growing and (self.follow or not runs)
            else source.text.encode()
        )

    def _stands(self, number: int) -> "_Stands":
        past = self.history()
        if past.open is None or past.open.claimed.attempt != number:
            return _Stands.ENDED
        return _Stands.RUNS if self.follow and past.alive else _Stands.STOPS


class _Stands(Enum):
    """Where an attempt is."""

    RUNS = "runs"  #: and is followed
    STOPS = "stops"  #: what there is is enough, or all there will be
    ENDED = "ended"


def _say_nothing_was(project: Project, past: History, number: int, suffix: str) -> None:
    other = "err" if suffix == "out" else "out"
    source = output(project, past, number, other)
    size = os.stat(source.path).st_size if source.path else len(source.text.encode())
    hint = f"; it wrote {size} bytes to {_NAMES[other]}" if size else ""
    if past.result is not None and past.result.text:
        hint += f"; farm show {plain(past.id)} has its answer"
    click.echo(f"attempt {number} wrote nothing to {_NAMES[suffix]}{hint}", err=True)


def _last_lines(raw: bytes, count: int | None) -> bytes:
    if count is None:
        return raw
    lines = _LINE.findall(raw)
    return b"".join(lines[max(0, len(lines) - count) :])


class _Printer:
    """Puts bytes on stdout, on a terminal without what could steer it."""

    def __init__(self) -> None:
        self.wrote = False
        self._out = sys.stdout.buffer
        self._cleans = sys.stdout.isatty()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""  # a sequence that is not whole yet

    def write(self, raw: bytes, *, last: bool = False) -> None:
        """Print these bytes, at once; of half a sequence the other half is awaited."""
        self.wrote |= bool(raw)
        if self._cleans:
            text = self._rest + self._decoder.decode(raw, final=last)
            half = None if last else _HALF.search(text, max(0, len(text) - _LONGEST))
            at = half.start() if half else len(text)
            self._rest = text[at:]
            raw = clean(text[:at]).encode()
        self._out.write(raw)
        self._out.flush()

    def end(self) -> None:
        """Nothing follows."""
        self.write(b"", last=True)


class _Reader:
    """Reads an output file from its last lines on; it may be renamed meanwhile."""

    def __init__(self, path: str, last: int | None, *, scratch: bool = False) -> None:
        self.scratch = scratch
        self._fd = disk.open_regular(path)
        seen = os.fstat(self._fd)
        size, self._inode = seen.st_size, seen.st_ino
        self._path = path
        self._offset = 0 if last is None else _start_of_last(self._fd, size, last)

    def read(self) -> Iterator[bytes]:
        """What there is now."""
        if os.fstat(self._fd).st_size < self._offset:
            self._offset = 0  # emptied for a run of the same number
        for piece in middle.pieces(self._fd, self._offset):
            if isinstance(piece, int):
                self._offset += piece
                yield _left_out(piece)
            else:
                self._offset += len(piece)
                yield piece

    @property
    def has_its_name(self) -> bool:
        """Whether the file lies where it was opened: nobody took it away since."""
        try:
            return os.stat(self._path).st_ino == self._inode
        except FileNotFoundError:
            return False


def _start_of_last(fd: int, size: int, count: int) -> int:
    """Where the last `count` lines of an open file begin; reads only its end."""
    start, found, blocks = size, 0, []
    first = middle.last_part(fd, size)
    while start > first and found <= count and size - start < _FARTHEST:
        begin = max(first, start - _CHUNK)
        blocks.append(os.pread(fd, start - begin, begin))
        found += blocks[-1].count(b"\n")
        start = begin
    return size - len(_last_lines(b"".join(reversed(blocks)), count))


def _left_out(size: int) -> bytes:
    return b"\n[... %d bytes left out: more than `max_output` ...]\n" % size


def _print_file(
    reader: _Reader, printer: _Printer, stands: Callable[[], _Stands]
) -> None:
    def look() -> bool | None:
        # RACE: asked before reading, so that nothing written before its end is missed.
        before = stands()
        for chunk in reader.read():
            # RACE: a worker's scratch file is the next callable's if this one wrote
            # nothing; if it wrote something, the file was renamed before its end.
            if reader.scratch and stands() is _Stands.ENDED and reader.has_its_name:
                return True
            printer.write(chunk)
        return None if before is _Stands.RUNS else True

    poll.until(look)
