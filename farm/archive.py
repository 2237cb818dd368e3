"""Pack finished pairs of task and result into `archive/`, and put them back.

    with alone(project):                      one at a time
        finish(project, holder)               what a killed run left half done
        archive(project, holder, ids, now)    from tasks/ into a new archive
        copies, faults = catalogue(project)
        restore(project, holder, copies, now)     these copies, and back

The files and their lines are `farm.shelf`'s.

What a reader may assume. The folder wins: while a task file or a result of an id
lies in `tasks/`, that is where it is, and a line of an archive counts only when
neither does. So a line too many does no harm, and it is safe to write first and
to remove afterwards: a pair leaves one place when the other has it on the platter.
Every move is made under the lock of the task's ledger and only if the bytes are
still those of the line. A result alone is final, a task alone would run again: so
the task goes first, and comes back last.

What can go wrong. A killed `archive` leaves `archive/.<name>.moving`; `finish` rolls
it forward, line by line. A killed `restore` leaves lines of what lies in `tasks/`
already; the next one removes them. With the disk full nothing is removed.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from enum import Enum
from hashlib import blake2b

import msgspec

from farm import disk, poll, register, shelf
from farm.claim import Holder
from farm.errors import BusyError, LedgerError, TaskFileError
from farm.journal import VERBS, Entry, note
from farm.ledger import Final, Ledger
from farm.look import read_look
from farm.needs import Needs
from farm.project import MOVED, Project
from farm.result import parse_head
from farm.shelf import ArchiveError, Pair

PATIENCE = 1.0  # seconds; a worker holds the lock for a moment after the result


class Moved(msgspec.Struct):
    """What a run did: the ids it moved, and why others stay where they are."""

    ids: list[str] = []
    left: dict[str, str] = {}
    file: str | None = None  #: the new archive; None if there is none


class Copy(msgspec.Struct, frozen=True):
    """Where the line of an id is that `restore` would take."""

    path: str
    result: bytes  #: a digest
    has_task: bool


class _StaysError(Exception):
    """This pair is not moved, and the sentence says why."""


_LINK = "its task file is a symbolic link"
_NO_RESULT = "what lies there as its result is none, or no longer counts"
_NO_TEXT = "its files are not UTF-8"
_CHANGED = "it was changed while it was packed"
_TAKEN = "a task or result of this name lies in tasks/"

_PASSED_OVER = (_StaysError, TaskFileError, LedgerError, OSError)


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


def needed(project: Project, tasks: Set[str], finished: Set[str]) -> set[str]:
    """The finished ids that an unfinished task needs; without them it would wait.

    RACE: a task dropped after this look may need what is packed: it waits, its
    need "nobody has dropped", until somebody restores that.
    """
    asked: set[str] = set()
    for task_id in tasks - finished:
        look = read_look(project, task_id)
        if look is not None and look.task is not None:
            asked.update(look.task.needs)
    needs = Needs(tasks, finished, lambda _: None)
    return set().union(*map(needs.expand, asked)) & finished


# -- from tasks/ into an archive --------------------------------------------------


def archive(project: Project, holder: Holder, ids: Iterable[str], now: float) -> Moved:
    """Move these finished pairs into a new archive, named by `now` (POSIX seconds).

    ArchiveError if it cannot be written; then nothing was removed.
    """
    moving = shelf.moving_path(project, now)
    moved = Moved()
    if shelf.write(moving, _packed(project, ids, moved.left), _aside(project, holder)):
        _move_all(project, holder, moving, moved)
    return moved


def finish(project: Project, holder: Holder) -> tuple[list[str], list[str]]:
    """Roll forward what killed runs began; the ids moved, and a sentence per fault."""
    moved, faults = Moved(), []
    for moving in shelf.moving(project):
        try:
            _move_all(project, holder, moving, moved)
        except ArchiveError as error:
            faults.append(str(error))
    return moved.ids, faults


def _packed(
    project: Project, ids: Iterable[str], left: dict[str, str]
) -> Iterator[Pair]:
    """The pairs of these ids; what cannot be packed is noted in `left`."""
    for task_id in ids:
        try:
            yield _read_pair(project, task_id)
        except _PASSED_OVER as error:
            left[task_id] = _words(error)


def _read_pair(project: Project, task_id: str) -> Pair:
    if os.path.islink(project.task_path(task_id)):
        raise _StaysError(_LINK)
    try:
        task = project.read_task(task_id).raw
    except FileNotFoundError:
        task = None
    result = _read(project.result_path(task_id)) or b""
    head = parse_head(result)
    if head is None or register.is_outdated(project, task_id, head):
        raise _StaysError(_NO_RESULT)
    try:
        return Pair(task_id, None if task is None else task.decode(), result.decode())
    except UnicodeDecodeError:
        raise _StaysError(_NO_TEXT) from None


def _move_all(project: Project, holder: Holder, moving: str, moved: Moved) -> None:
    """Remove from `tasks/` what an archive holds, then give it its final name."""
    left = {}
    for pair in shelf.pairs(moving):
        try:
            _remove(project, pair)
            moved.ids.append(pair.id)
        except _PASSED_OVER as error:
            left[pair.id] = _words(error)
    if left:
        # A line stays if any part of its pair might be nowhere else.
        kept = (
            pair
            for pair in shelf.pairs(moving)
            if pair.id not in left or not _is_whole(project, pair)
        )
        shelf.write(moving, kept, _aside(project, holder))
    moved.left |= left
    moved.file = shelf.publish(moving)


def _remove(project: Project, pair: Pair) -> None:
    """Remove task and result if they are still those of the line, or one is gone."""
    with _locked(project, pair.id) as ledger:
        _give_back_other(project, pair)
        lies = _lies(project, pair)
        if lies is _Lies.OTHER:
            raise _StaysError(_CHANGED)
        if ledger.lines and (head := parse_head(pair.result.encode())):
            # RACE: killed before the ledger is gone, its attempts must not count
            # for a new task of this name.
            ledger.append(Final(head.status))
        if lies is _Lies.WHOLE and pair.task is not None:
            _remove_task(project, pair)
        disk.unlink(project.result_path(pair.id))


def _remove_task(project: Project, pair: Pair) -> None:
    """Remove a task file if it is still that of the line.

    RACE: people drop files without a lock, so another may have come since the look.
    What was moved away is looked at once more, and put back if it is not ours.
    """
    aside = _moved_path(project, pair.id)
    if disk.move(project.task_path(pair.id), aside) and _give_back_other(project, pair):
        raise _StaysError(_CHANGED)


def _give_back_other(project: Project, pair: Pair) -> bool:
    """What was moved away is removed if it is the line's, else put back: if it was.

    Also called before a move, for a run that was killed right after it: only here a
    file of a person's lies in `.farm/tmp` alone, so nobody sweeps it from there.
    """
    aside = _moved_path(project, pair.id)
    raw = _read(aside)
    other = raw is not None and (pair.task is None or raw != pair.task.encode())
    if other:
        disk.link_new(aside, project.task_path(pair.id))
    disk.unlink(aside)
    return other


def _moved_path(project: Project, task_id: str) -> str:
    """One name for each task, so that who is killed leaves it to who comes next."""
    digest = blake2b(task_id.encode(), digest_size=16).hexdigest()
    return project.aside_path(MOVED, digest)


# -- from an archive into tasks/ --------------------------------------------------


def catalogue(project: Project) -> tuple[dict[str, Copy], list[str]]:
    """The newest copy of each archived id, and a sentence for each unusable archive.

    RACE: a killed `restore` leaves a result without its task, and if that is
    archived in turn, its line has no task. So of lines with one result that counts
    which has the task as well.
    """
    copies: dict[str, Copy] = {}
    faults = []
    for path in shelf.archives(project):
        try:
            found = [(pair.id, _copy(path, pair)) for pair in shelf.pairs(path)]
        except ArchiveError as error:
            faults.append(str(error))
            continue
        for task_id, copy in found:
            older = copies.get(task_id)
            same = older is not None and older.result == copy.result
            if older is None or copy.has_task or not (same and older.has_task):
                copies[task_id] = copy
    return copies, faults


def _copy(path: str, pair: Pair) -> Copy:
    digest = blake2b(pair.result.encode(), digest_size=16).digest()
    return Copy(path, digest, pair.task is not None)


def restore(
    project: Project, holder: Holder, copies: Mapping[str, Copy], now: float
) -> Moved:
    """Put these copies back (id -> where it is, from `catalogue`); `now` POSIX seconds.

    ArchiveError if an archive cannot be rewritten: what was put back lies in
    `tasks/` all the same.
    """
    # What journals tell of these ids may be of a later run than the one that comes.
    note(project, VERBS, (Entry(task_id, now, VERBS) for task_id in copies))
    by_path: dict[str, set[str]] = {}
    for task_id, copy in copies.items():
        by_path.setdefault(copy.path, set()).add(task_id)
    moved = Moved()
    for path, wanted in sorted(by_path.items()):
        _restore_from(project, holder, path, wanted, moved)
    return moved


def _restore_from(
    project: Project, holder: Holder, path: str, wanted: set[str], moved: Moved
) -> None:
    back = []
    for pair in shelf.pairs(path):
        if pair.id in wanted:
            try:
                _put_back(project, holder, pair)
                back.append(pair.id)
            except _PASSED_OVER as error:
                moved.left[pair.id] = _words(error)
    if back:
        os.sync()  # one for all of them: one for each file takes many times as long
        gone = set(back)
        kept = (pair for pair in shelf.pairs(path) if pair.id not in gone)
        shelf.write(path, kept, _aside(project, holder))
        moved.ids += back


def _put_back(project: Project, holder: Holder, pair: Pair) -> None:
    with _locked(project, pair.id):
        lies = _lies(project, pair)
        if lies is _Lies.OTHER:
            raise _StaysError(_TAKEN)
        if lies is _Lies.NOTHING:
            _put(project, holder, project.result_path(pair.id), pair.result)
        if lies is not _Lies.WHOLE and pair.task is not None:
            try:
                _put(project, holder, project.task_path(pair.id), pair.task)
            except _StaysError:
                # RACE: a task was dropped just now; our result must not end it.
                disk.unlink(project.result_path(pair.id))
                raise


def _put(project: Project, holder: Holder, path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    aside = project.aside_path(holder.name, "restored")
    disk.write_aside(aside, text.encode())
    try:
        if not disk.link_new(aside, path):
            raise _StaysError(_TAKEN)
    finally:
        disk.unlink(aside)


# -- a pair and the folder --------------------------------------------------------


class _Lies(Enum):
    """What lies in `tasks/` of the pair that a line holds."""

    WHOLE = "whole"
    RESULT = "result"  #: the task file is missing: a run was killed there
    NOTHING = "nothing"
    OTHER = "other"  #: something that the line does not hold


def _lies(project: Project, pair: Pair) -> _Lies:
    path = project.task_path(pair.id)
    if project.network:
        disk.drop_stale_names(os.path.dirname(path))
    task, result = _read(path), _read(project.result_path(pair.id))
    if task is None and result is None:
        return _Lies.NOTHING
    if result != pair.result.encode():
        return _Lies.OTHER
    if task == (None if pair.task is None else pair.task.encode()):
        return _Lies.WHOLE
    return _Lies.RESULT if task is None else _Lies.OTHER


def _is_whole(project: Project, pair: Pair) -> bool:
    try:
        return _lies(project, pair) is _Lies.WHOLE
    except OSError:
        return False  # nobody knows, so the line stays


def _read(path: str) -> bytes | None:
    try:
        return disk.read_file(path)
    except FileNotFoundError:
        return None


@contextmanager
def _locked(project: Project, task_id: str) -> Iterator[Ledger]:
    """The ledger's lock; the ledger is removed if the move succeeds."""
    path = project.ledger_path(task_id)
    ledger = poll.until(lambda: Ledger.open(path), PATIENCE)
    if ledger is None:
        raise _StaysError(f"somebody holds it: farm why {task_id} says who")
    unlink = ledger.size == 0  # we made it
    try:
        yield ledger
        unlink = True
    finally:
        # See farm.ledger: on a network file system none is unlinked.
        ledger.let_go(unlink=unlink and not project.network)


def _aside(project: Project, holder: Holder) -> str:
    return project.aside_path(holder.name, "archive")


def _words(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
