"""Pack finished pairs of task and result into `archive/`.

    with pair.alone(project):                 one at a time
        finish(project, holder)               what a killed run left half done
        archive(project, holder, ids, now)    from tasks/ into a new archive

The files and their lines are `farm.shelf`'s; what a pair is, and the order in which its
parts move, are `farm.pair`'s; `farm.restore` is the way back.

What can go wrong. A killed `archive` leaves `archive/.<name>.moving`; `finish` rolls
it forward, line by line. With the disk full nothing is removed.
"""

import os
from collections.abc import Iterable, Iterator, Set
from hashlib import blake2b

from farm import disk, register, shelf
from farm.claim import Holder
from farm.ledger import Final
from farm.look import read_look
from farm.needs import Needs
from farm.pair import (
    PASSED_OVER,
    Lies,
    Moved,
    StaysError,
    is_whole,
    lies,
    locked,
    read,
    words,
)
from farm.project import MOVED, Project
from farm.result import parse_head
from farm.shelf import ArchiveError, Pair

_LINK = "its task file is a symbolic link"
_NO_RESULT = "what lies there as its result is none, or no longer counts"
_NO_TEXT = "its files are not UTF-8"
_CHANGED = "it was changed while it was packed"


def needed(project: Project, tasks: Set[str], finished: Set[str]) -> set[str]:
    """The finished ids that an unfinished task needs; without them it would wait.

    RACE: a task dropped after this look may need what is packed: it waits, its
    need "not in tasks/", until that is restored.
    """
    asked: set[str] = set()
    for task_id in tasks - finished:
        look = read_look(project, task_id)
        if look is not None and look.task is not None:
            asked.update(look.task.needs)
    needs = Needs(tasks, finished, lambda _: None)
    return set().union(*map(needs.expand, asked)) & finished


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
            _move_all(project, holder, moving, moved, killed=True)
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
        except PASSED_OVER as error:
            left[task_id] = words(error)


def _read_pair(project: Project, task_id: str) -> Pair:
    if os.path.islink(project.task_path(task_id)):
        raise StaysError(_LINK)
    try:
        task = project.read_task(task_id).raw
    except FileNotFoundError:
        task = None
    result = read(project.result_path(task_id)) or b""
    head = parse_head(result)
    if head is None or register.is_outdated(project, task_id, head):
        raise StaysError(_NO_RESULT)
    try:
        return Pair(task_id, None if task is None else task.decode(), result.decode())
    except UnicodeDecodeError:
        raise StaysError(_NO_TEXT) from None


def _move_all(
    project: Project, holder: Holder, moving: str, moved: Moved, *, killed: bool = False
) -> None:
    """Remove from `tasks/` what an archive holds, then give it its final name."""
    left = {}
    for pair in shelf.pairs(moving):
        try:
            _remove(project, pair, killed=killed)
            moved.ids.append(pair.id)
        except PASSED_OVER as error:
            left[pair.id] = words(error)
    if left:
        # A line stays if any part of its pair might be nowhere else.
        kept = (
            pair
            for pair in shelf.pairs(moving)
            if pair.id not in left or not is_whole(project, pair)
        )
        shelf.write(moving, kept, _aside(project, holder))
    moved.left |= left
    moved.file = shelf.publish(moving)


def _remove(project: Project, pair: Pair, *, killed: bool) -> None:
    """Remove task and result if they are still those of the line, or one is gone.

    RACE: a run that was killed may have removed the task, and another was dropped
    since: it would never run beside the result, which is the line's.
    """
    with locked(project, pair.id) as ledger:
        _give_back_other(project, pair)
        there = lies(project, pair)
        if there is Lies.OTHER or (there is Lies.NEWER and not killed):
            raise StaysError(_CHANGED)
        if ledger.lines and (head := parse_head(pair.result.encode())):
            # RACE: killed before the ledger is gone, its attempts must not count
            # for a new task of this name.
            ledger.append(Final(head.status))
        if there is Lies.WHOLE and pair.task is not None:
            _remove_task(project, pair)
        disk.unlink(project.result_path(pair.id))


def _remove_task(project: Project, pair: Pair) -> None:
    """Remove a task file if it is still that of the line.

    RACE: people drop files without a lock, so another may have come since the look.
    What was moved away is looked at once more, and put back if it is not ours.
    """
    aside = _moved_path(project, pair.id)
    if disk.move(project.task_path(pair.id), aside) and _give_back_other(project, pair):
        raise StaysError(_CHANGED)


def _give_back_other(project: Project, pair: Pair) -> bool:
    """What was moved away is removed if it is the line's, else put back: if it was.

    Also called before a move, for a run that was killed right after it: only here a
    file of a person's lies in `.farm/tmp` alone, so nobody sweeps it from there.
    """
    aside = _moved_path(project, pair.id)
    raw = read(aside)
    other = raw is not None and (pair.task is None or raw != pair.task.encode())
    if other:
        disk.link_new(aside, project.task_path(pair.id))
    disk.unlink(aside)
    return other


def _moved_path(project: Project, task_id: str) -> str:
    """One name for each task, so that who is killed leaves it to who comes next."""
    digest = blake2b(task_id.encode(), digest_size=16).hexdigest()
    return project.aside_path(MOVED, digest)


def _aside(project: Project, holder: Holder) -> str:
    return project.aside_path(holder.name, "archive")
