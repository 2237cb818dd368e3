"""Archives as files in `archive/`: their names, their lines, written in one step.

    path = moving_path(project, now)      `.<UTC time>.jsonl.gz.moving`: under way
    write(path, pairs, aside)             a new archive, or one in place of another
    publish(path)                         to `<UTC time>.jsonl.gz`
    archives(project), moving(project)    paths, the oldest first
    pairs(path)                           the lines of one

A line is `{"id": ..., "task": the file's text or null, "result": the file's text}`.
A name sorts after all that were there before, also when the clock was put back, so
the last archive with an id has its newest copy. Writers keep others away
(`farm.archive.alone`); readers see the old lines, the new ones, or no file.
"""

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import msgspec

from farm import disk
from farm.errors import FarmError
from farm.project import MAX_TASK_BYTES, Project, is_usable
from farm.result import parse_head

_SUFFIX, _MOVING = ".jsonl.gz", ".jsonl.gz.moving"
_LONGEST_LINE = 2 * (MAX_TASK_BYTES + disk.MOST)  # each quote in them is escaped
_TOO_LONG = f"a line of more than {_LONGEST_LINE >> 20} MiB, unpacked"
_TIME = "%Y%m%dT%H%M%S.%fZ"


class ArchiveError(FarmError):
    """An archive cannot be read or written."""


class Pair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line: the texts of both files; `task` is None if there was only a result."""

    id: str
    task: str | None
    result: str


_PAIR = msgspec.json.Decoder(Pair)


def archives(project: Project) -> list[str]:
    """Paths of all archives, the oldest first."""
    names = _names(project)
    wanted = (n for n in names if n.endswith(_SUFFIX) and not n.startswith("."))
    return [f"{project.archive}/{name}" for name in wanted]


def moving(project: Project) -> list[str]:
    """Paths of those that a killed run left under way."""
    names = _names(project)
    wanted = (n for n in names if n.endswith(_MOVING) and n.startswith("."))
    return [f"{project.archive}/{name}" for name in wanted]


def moving_path(project: Project, now: float) -> str:
    """Where a new archive goes at first; `now` is POSIX seconds. Makes the folder."""
    folder = project.archive
    with _said(folder):
        if not os.path.isdir(folder):
            os.mkdir(folder, disk.FOLDER_MODE)
            disk.sync_folder(project.root)
    moment = datetime.fromtimestamp(now, UTC)
    for name in _names(project):
        try:
            stem = name.removeprefix(".").removesuffix(".moving").removesuffix(_SUFFIX)
            taken = datetime.strptime(stem, _TIME).replace(tzinfo=UTC)
        except ValueError:
            continue  # somebody gave it a name of their own
        moment = max(moment, taken + timedelta(microseconds=1))
    return f"{folder}/.{moment.strftime(_TIME)}{_MOVING}"


def publish(path: str) -> str | None:
    """Give an archive its final name and return that; None if it is not there."""
    folder, name = os.path.split(path)
    final = f"{folder}/{name.removeprefix('.').removesuffix('.moving')}"
    with _said(final):
        if not disk.move(path, final):
            return None
        disk.sync_folder(folder)
    return final


def pairs(path: str) -> Iterator[Pair]:
    """The lines of an archive, one at a time; ArchiveError at the first that is none.

    A reader that came to the end has seen that the checksum holds.
    """
    try:
        with disk.open_file(path) as file, gzip.GzipFile(fileobj=file) as lines:
            while line := lines.readline(_LONGEST_LINE + 1):
                if len(line) > _LONGEST_LINE:
                    raise ArchiveError(f"{path} is damaged: {_TOO_LONG}. {_MEND}")
                yield _checked(_PAIR.decode(line))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ArchiveError(f"cannot read {path}: {reason}. {_MEND}") from error
    except (EOFError, zlib.error, *disk.NO_JSON) as error:
        raise ArchiveError(f"{path} is damaged: {error}. {_MEND}") from error


def _checked(pair: Pair) -> Pair:
    if not is_usable(pair.id):
        raise msgspec.ValidationError(f"no task can have the id {pair.id!r}")
    if parse_head(pair.result.encode()) is None:
        raise msgspec.ValidationError(f"the result of {pair.id} is none")
    return pair


_MEND = (
    "Replace it from a backup, or move it out of archive/; gzip -dc shows the lines"
    " that can be read"
)


def write(path: str, lines: Iterable[Pair], aside: str) -> int:
    """Put these lines under `path` in one step and on the platter; how many.

    Without any, nothing lies there afterwards. ArchiveError if the disk takes them
    not; what lay there is as it was. `aside` is a name of our own in `.farm/tmp`.
    """
    with _said(path):
        disk.unlink(aside)
        try:
            if count := _write_aside(aside, lines):
                os.replace(aside, path)
            else:
                disk.unlink(path)
            disk.sync_folder(os.path.dirname(path))
        finally:
            disk.unlink(aside)
    return count


def _write_aside(aside: str, lines: Iterable[Pair]) -> int:
    count = 0
    with open(aside, "xb", opener=_for_us_alone) as file:
        with gzip.GzipFile(filename="", fileobj=file, mode="wb") as packed:
            for pair in lines:
                packed.write(msgspec.json.encode(pair) + b"\n")
                count += 1
        file.flush()
        os.fsync(file.fileno())
    return count


def _for_us_alone(path: str, flags: int) -> int:
    return os.open(path, flags, disk.FILE_MODE)


@contextmanager
def _said(path: str) -> Iterator[None]:
    """What the disk refuses, as a sentence."""
    try:
        yield
    except OSError as error:
        raise ArchiveError(
            f"cannot write {path}: {error.strerror or error}. Nothing is lost: make"
            " room, or mend what is wrong there, and run the same command again"
        ) from error


def _names(project: Project) -> list[str]:
    try:
        return sorted(os.listdir(project.archive))
    except FileNotFoundError:
        return []  # nothing was ever archived
