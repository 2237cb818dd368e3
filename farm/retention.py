"""Which logs in `.farm/logs/` may go, by age and then by size.

    trim(project, settings, now)     every hour or so: remove them; how many
    expired(...)                     pure: their names

Logs of a task whose ledger in `.farm/locks` is open stay: it is unfinished or running.
So does what is no task's log (`worker-N.log`: a living worker has it open). The size
that is bounded is that of all files there, but only logs of ended tasks are removed
for it.

What a trial of the mount left in `tasks/`, because its process was killed in the
middle, goes when it is an hour old. To find it takes a listing of that folder, however
many tasks lie there: so that is done here, and not at each sweep.

RACE: a task may start while logs are removed, under names that its earlier runs had.
So logs are listed before ledgers (a log is younger than its ledger), and one that was
written since it was listed stays. Two processes may trim at once.
"""

import os
import re
from collections.abc import Iterable, Iterator, Set
from contextlib import suppress

import msgspec

from farm import disk
from farm.config import Settings
from farm.ledger import peek
from farm.project import CHECK, Project

EVERY = 3600.0  # seconds between two times that one process trims; the age of strays

#: `<key>.<attempt>.out` and the like; a key may contain dots.
_LOG = re.compile(
    r"(?P<key>.+)\.[0-9]+\.(?:out|err|[^.]*\.fenced|[^.]*\.retried)", re.DOTALL
)
_LEDGER = re.compile(r"task-(?P<key>.+)\.lock", re.DOTALL)


class LogFile(msgspec.Struct, frozen=True):
    """One file in `.farm/logs/` as it was listed."""

    name: str
    size: int  #: bytes
    mtime: float  #: POSIX seconds


def expired(
    files: Iterable[LogFile],
    open_keys: Set[str],
    now: float,
    keep: float,
    max_total: int,
) -> list[str]:
    """The names that may go, the oldest first.

    `open_keys` are the keys (`farm.project.key`) of tasks with a ledger; `now` is
    POSIX seconds, `keep` seconds, `max_total` bytes.
    """
    every = sorted(files, key=lambda file: (file.mtime, file.name))
    total = sum(file.size for file in every)
    gone = []
    for file in every:
        too_old, too_much = now - file.mtime > keep, total > max_total
        if not (too_old or too_much):
            break  # all others are younger
        found = _LOG.fullmatch(file.name)
        if found is not None and found["key"] not in open_keys:
            gone.append(file.name)
            total -= file.size
    return gone


def trim(project: Project, settings: Settings, now: float) -> int:
    """Remove the logs that the settings let go; how many. OSError as the disk says.

    Strays in `tasks/` go as well, uncounted.
    """
    for path in strays(project, now - EVERY):
        disk.unlink(path)
    listed = {file.name: file for file in _listed(project.logs)}
    open_keys = set(_open_keys(project))
    names = expired(
        listed.values(), open_keys, now, settings.logs_keep, settings.logs_max_total
    )
    return sum(_remove(f"{project.logs}/{name}", listed[name]) for name in names)


def strays(project: Project, before: float) -> list[str]:
    """What trials of the mount left in `tasks/` before a time."""
    with suppress(FileNotFoundError), os.scandir(project.tasks) as entries:
        return [
            entry.path
            for entry in entries
            if entry.name.startswith(CHECK) and disk.is_old(entry, before)
        ]
    return []  # the folder is gone


def _open_keys(project: Project) -> Iterator[str]:
    """The keys of tasks that are unfinished: a ledger is removed with the result.

    On a network file system it stays, without a line after its last `final`.
    """
    for name in project.ledger_names():
        ledger = _LEDGER.fullmatch(name)
        if ledger is None:
            continue
        if not project.network or peek(f"{project.locks}/{name}"):
            yield ledger["key"]


def _listed(folder: str) -> list[LogFile]:
    files = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.is_file(follow_symlinks=False):
                    continue
                try:
                    seen = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # another trims, too
                files.append(LogFile(entry.name, _taken(seen), seen.st_mtime))
    except FileNotFoundError:
        return []  # .farm was deleted
    return files


def _taken(seen: os.stat_result) -> int:
    """What a log takes of the disk: the middle of a long one may be freed."""
    return min(seen.st_size, seen.st_blocks * 512)


def _remove(path: str, listed: LogFile) -> bool:
    try:
        seen = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if (_taken(seen), seen.st_mtime) != (listed.size, listed.mtime):
        return False  # a new run writes it
    try:
        return disk.unlink(path)
    except OSError:
        return False  # immutable, say: the others must not stay because of it
