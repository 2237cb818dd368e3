"""Archives as files in `archive/`: their names, their lines, written in one step.

    path = moving_path(project, now)      `.<UTC time>.jsonl.gz.moving`: under way
    write(path, pairs, aside)             a new archive, or one in place of another
    publish(path)                         to `<UTC time>.jsonl.gz`
    archives(project), moving(project)    paths, the oldest first
    pairs(path)                           the lines of one
    placed(project)                       in which archive each id lies, without its line
    begin_restore(...), end_restore(...)  around a restore: `.restoring` tells of it

A line is `{"id": ..., "task": the file's text or null, "result": the file's text}`.
A name sorts after all that were there before, also when the clock was put back, so
the last archive with an id has its newest copy. Writers keep others away
(`farm.archive.alone`); readers see the old lines, the new ones, or no file.
"""

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from farm import disk
from farm.errors import FarmError
from farm.project import MAX_TASK_BYTES, Project, is_usable
from farm.result import parse_head
from farm.states import Status

_SUFFIX, _MOVING = ".jsonl.gz", ".jsonl.gz.moving"
_LONGEST_LINE = 2 * (MAX_TASK_BYTES + disk.MOST)  # each quote in them is escaped
_TOO_LONG = f"a line of more than {_LONGEST_LINE >> 20} MiB, unpacked"
_RESTORING = ".restoring"  # see `project.UNDER_WAY`
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


class Place(NamedTuple):
    """Where the newest copy of an id lies, and how it had ended."""

    archive: str  #: the file's path
    status: Status


class _Contents(msgspec.Struct, frozen=True):
    """What one archive holds: a cache in `.farm/archived/`, made anew if it is not there."""

    file: int  #: the archive's identity
    ids: dict[str, Status]


def placed(project: Project, *, writes: bool = False) -> dict[str, Place]:
    """Where each archived id lies; an archive that cannot be read is passed over.

    The same id may lie in `tasks/`, too: then that is where it is. With `writes` what
    was read is remembered, so that nobody need read it again.
    """
    found = {}
    for path in archives(project):
        with suppress(ArchiveError):
            contents = _remembered(project, path) or _read_contents(path)
            if writes:
                _remember(project, path, contents)
            ids = contents.ids.items()
            found.update({i: Place(path, status) for i, status in ids})
    return found


def ids(project: Project) -> set[str]:
    """Every archived id, also of archives that are under way."""
    found: set[str] = set()
    for path in moving(project):  # first: each gets its final name at some moment
        with suppress(ArchiveError):
            found.update(pair.id for pair in pairs(path))
    return found | placed(project, writes=True).keys()


def newest(project: Project, task_id: str) -> Pair | None:
    """The newest copy of an archived pair; None if there is none."""
    place = placed(project).get(task_id)
    if place is None:
        return None
    found = (pair for pair in pairs(place.archive) if pair.id == task_id)
    return next(found, None)  # RACE: it may have been restored since


def _read_contents(path: str) -> _Contents:
    file = disk.identity_of(
        path
    )  # before its lines: were it replaced, it is read again
    return _Contents(file, {pair.id: status_of(pair) for pair in pairs(path)})


def _remembered(project: Project, path: str) -> _Contents | None:
    """What is remembered of this very file."""
    with suppress(OSError, *disk.NO_JSON):
        raw = disk.read_file(_cache_path(project, path))
        known = msgspec.json.decode(raw, type=_Contents)
        return known if known.file == disk.identity_of(path) else None
    return None


def status_of(pair: Pair) -> Status:
    """How the task of a line had ended."""
    head = parse_head(pair.result.encode())
    assert head is not None, "a line is checked as it is read"  # noqa: S101 - for mypy
    return head.status


def _remember(project: Project, path: str, contents: _Contents) -> None:
    if _remembered(project, path) is not None:
        return
    aside = project.aside_path(f"archived-{os.urandom(8).hex()}", "new")
    with suppress(OSError):  # only a cache
        disk.make_folders(project.archived, disk.FOLDER_MODE)
        disk.replace(_cache_path(project, path), msgspec.json.encode(contents), aside)


def forget_removed(project: Project) -> None:
    """Nothing is remembered of archives that are gone."""
    there = {f"{os.path.basename(path)}.json" for path in archives(project)}
    with suppress(OSError):  # none was ever remembered
        for name in set(os.listdir(project.archived)) - there:
            disk.unlink(f"{project.archived}/{name}")


def _cache_path(project: Project, path: str) -> str:
    return f"{project.archived}/{os.path.basename(path)}.json"


class Restoring(msgspec.Struct, frozen=True):
    """Which lines of which archive are being put back."""

    archive: str  #: its name in archive/
    ids: list[str]


def begin_restore(project: Project, path: str, ids: Iterable[str], aside: str) -> None:
    """Write down what is put back before anything is; on the platter, as moves are."""
    told = Restoring(os.path.basename(path), sorted(ids))
    with _said(path):
        disk.write_aside(aside, msgspec.json.encode(told), sync=True)
        os.replace(aside, f"{project.archive}/{_RESTORING}")
        disk.sync_folder(project.archive)


def restoring(project: Project) -> Restoring | None:
    """What a killed restore was putting back; None if there was none."""
    try:
        raw = disk.read_file(f"{project.archive}/{_RESTORING}")
        return msgspec.json.decode(raw, type=Restoring)
    except (OSError, *disk.NO_JSON):
        return None  # one that cannot be read is not ours: it is written in one step


def end_restore(project: Project) -> None:
    """All of it has been put back, or given up."""
    with _said(project.archive):
        disk.unlink(f"{project.archive}/{_RESTORING}")


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
    except (FileNotFoundError, NotADirectoryError):
        return []  # nothing was ever archived: what is no folder has no archives
