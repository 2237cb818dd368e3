"""A finished pair of task and result, as it lies in `tasks/` and as an archive holds it.

    with alone(project):                 one at a time: `farm.archive`, `farm.restore`
        with locked(project, pair.id):   nobody else changes this pair
            lies(project, pair)          WHOLE, RESULT, NOTHING, OTHER

What a reader of both may assume. The folder wins: while a task file or a result of an
id lies in `tasks/`, that is where it is, and a line of an archive counts only when
neither does. So a line too many does no harm, and it is safe to write first and to
remove afterwards: a pair leaves one place when the other has it on the platter. Every
move is made under the lock of the task's ledger and only if the bytes are still those
of the line. A result alone is final, a task alone would run again: so the task goes
first, and comes back last. Who is killed in between leaves a result alone, and a task
that is dropped beside it would never run; `farm.archive.finish` sees to that.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

import msgspec

from farm import disk, poll
from farm.errors import BusyError, LedgerError, TaskFileError
from farm.ledger import Ledger
from farm.project import Project
from farm.shelf import Pair

PATIENCE = 1.0  # seconds; a worker holds the lock for a moment after the result


class Moved(msgspec.Struct):
    """What a run did: the ids it moved, and why others stay where they are."""

    ids: list[str] = []
    left: dict[str, str] = {}
    file: str | None = None  #: the new archive; None if there is none


class StaysError(Exception):
    """This pair is not moved, and the sentence says why."""


#: what keeps one pair where it is, and no other
PASSED_OVER = (StaysError, TaskFileError, LedgerError, OSError)


@contextmanager
def alone(project: Project) -> Iterator[None]:
    """The right to write archives; BusyError if somebody else has it."""
    lock = Ledger.open(project.archive_lock)
    if lock is None:
        raise BusyError(
            f"another farm archive or farm restore works in {project.root}:"
            " wait until it has ended, then try again"
        )
    try:
        yield
    finally:
        lock.let_go()


class Lies(Enum):
    """What lies in `tasks/` of the pair that a line holds."""

    WHOLE = "whole"
    RESULT = "result"  #: the task file is missing: a run was killed there
    NOTHING = "nothing"
    NEWER = "newer"  #: beside its result lies another task
    OTHER = "other"  #: something that the line does not hold


def lies(project: Project, pair: Pair) -> Lies:
    """What lies in `tasks/` of this pair."""
    path = project.task_path(pair.id)
    if project.network:
        disk.drop_stale_names(os.path.dirname(path))
    task, result = read(path), read(project.result_path(pair.id))
    if task is None and result is None:
        return Lies.NOTHING
    if result != pair.result.encode():
        return Lies.OTHER
    if task == (None if pair.task is None else pair.task.encode()):
        return Lies.WHOLE
    return Lies.RESULT if task is None else Lies.NEWER


def is_whole(project: Project, pair: Pair) -> bool:
    """Whether all of it lies in `tasks/`, for sure."""
    try:
        return lies(project, pair) is Lies.WHOLE
    except OSError:
        return False  # nobody knows, so the line stays


def read(path: str) -> bytes | None:
    """The bytes of a file; None if there is none."""
    try:
        return disk.read_file(path)
    except FileNotFoundError:
        return None


@contextmanager
def locked(project: Project, task_id: str) -> Iterator[Ledger]:
    """The ledger's lock; the ledger is removed if the move succeeds."""
    path = project.ledger_path(task_id)
    ledger = poll.until(lambda: Ledger.open(path), PATIENCE)
    if ledger is None:
        raise StaysError(f"somebody holds it: farm why {task_id} says who")
    unlink = ledger.size == 0  # we made it
    try:
        yield ledger
        unlink = True
    finally:
        # See farm.ledger: on a network file system none is unlinked.
        ledger.let_go(unlink=unlink and not project.network)


def words(error: Exception) -> str:
    """Why a pair stays, in a few words."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
