"""Put archived pairs of task and result back into `tasks/`.

    with pair.alone(project):                 one at a time
        archive.finish(project, holder)       what killed runs left half done
        finish(project, holder)
        copies, faults = catalogue(project)
        restore(project, holder, copies, now)     these copies, and back
        bring_needs(project, holder, needs, ...)  what tasks need that run again

What can go wrong. A killed `restore` leaves `archive/.restoring`, from which `finish`
completes what it had begun; and lines of what lies in `tasks/` already, which the next
one removes. With the disk full nothing is removed.
"""

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from hashlib import blake2b

import msgspec

from farm import disk, shelf
from farm.claim import Holder
from farm.journal import VERBS, Entry, note
from farm.needs import Needs
from farm.pair import PASSED_OVER, Lies, Moved, StaysError, lies, locked, words
from farm.project import Project
from farm.shelf import ArchiveError, Pair
from farm.states import Status

_AT_ONCE = 1000  # pairs; they lie aside together
_ELSEWHERE = "a folder on its way is a symbolic link"
_TAKEN = "a task or result of this name lies in tasks/"


class Copy(msgspec.Struct, frozen=True):
    """Where the line of an id is that `restore` would take."""

    path: str
    result: bytes  #: a digest
    has_task: bool
    status: Status


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
    return Copy(path, digest, pair.task is not None, shelf.status_of(pair))


def bring_needs(
    project: Project, holder: Holder, needs: Iterable[str], here: Set[str], now: float
) -> list[str]:
    """Put back what these needs mean and has succeeded, unless it is `here`; the ids.

    Needs are looked for in `tasks/` alone: a task that runs again without what it had
    would wait for ever, or run with a part of it. ArchiveError if one cannot be put
    back, or an archive may have more.
    """
    copies, faults = catalogue(project)
    if faults:
        raise ArchiveError(faults[0])
    archived = {i for i, c in copies.items() if c.status is Status.SUCCEEDED} - here
    every = Needs(archived, archived, lambda _: Status.SUCCEEDED)
    wanted = set().union(*map(every.expand, needs)) & archived
    moved = restore(project, holder, {i: copies[i] for i in sorted(wanted)}, now)
    for task_id, why in moved.left.items():
        raise ArchiveError(f"{task_id}, which is needed, stays in archive/: {why}")
    return moved.ids


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
    aside = project.aside_path(holder.name, "archive")
    shelf.begin_restore(project, path, wanted, aside)
    back: list[str] = []
    coming = (pair for pair in shelf.pairs(path) if pair.id in wanted)
    while batch := list(itertools.islice(coming, _AT_ONCE)):
        back += _put_back_all(project, holder, batch, moved.left)
    if back:
        os.sync()  # the names, before the lines that hold the same go
        gone = set(back)
        kept = (pair for pair in shelf.pairs(path) if pair.id not in gone)
        shelf.write(path, kept, aside)
        moved.ids += back
    shelf.end_restore(project)


def finish(project: Project, holder: Holder) -> list[str]:
    """Put back what a killed run had put back by half; a sentence per fault."""
    begun = shelf.restoring(project)
    if begun is None:
        return []
    wanted, path = set(begun.ids), f"{project.archive}/{begun.archive}"
    try:
        for pair in shelf.pairs(path) if os.path.lexists(path) else ():
            if pair.id in wanted:
                with suppress(*PASSED_OVER):  # it lies there as well as before
                    _complete(project, holder, pair)
        os.sync()
        shelf.end_restore(project)
    except ArchiveError as error:
        return [str(error)]
    return []


def _complete(project: Project, holder: Holder, pair: Pair) -> None:
    """Bring the task after its result; or remove that, if another task was dropped."""
    with locked(project, pair.id):
        there = lies(project, pair)
        if there is Lies.NEWER:
            disk.unlink(project.result_path(pair.id))
        elif there is Lies.RESULT and pair.task is not None:
            put(project, holder, project.task_path(pair.id), pair.task)


def _put_back_all(
    project: Project, holder: Holder, pairs: list[Pair], left: dict[str, str]
) -> list[str]:
    """Put these pairs back; the ids of those that are, `left` says why others are not.

    Bytes first, then names: a power cut must not leave a result that is empty, for
    then a task that has finished would run again.
    """
    asides = [
        [project.aside_path(holder.name, f"{kind}-{n}") for kind in ("result", "task")]
        for n in range(len(pairs))
    ]
    back = []
    try:
        for pair, (result, task) in zip(pairs, asides, strict=True):
            with _noted(pair, left):
                disk.write_aside(result, pair.result.encode())
                disk.write_aside(task, (pair.task or "").encode())
        os.sync()  # one for all of them: one for each file takes many times as long
        for pair, (result, task) in zip(pairs, asides, strict=True):
            if pair.id in left:
                continue
            with _noted(pair, left):
                _put_back(project, pair, result, task)
                back.append(pair.id)
    finally:
        for path in itertools.chain(*asides):
            disk.unlink(path)
    return back


@contextmanager
def _noted(pair: Pair, left: dict[str, str]) -> Iterator[None]:
    """What keeps one pair where it is keeps no other."""
    try:
        yield
    except PASSED_OVER as error:
        left[pair.id] = words(error)


def _put_back(project: Project, pair: Pair, result: str, task: str) -> None:
    """Give the files that were written aside their names."""
    with locked(project, pair.id):
        if not project.lies_inside(pair.id):
            raise StaysError(_ELSEWHERE)
        there = lies(project, pair)
        if there in (Lies.OTHER, Lies.NEWER):
            raise StaysError(_TAKEN)
        if there is Lies.NOTHING:
            _link(result, project.result_path(pair.id))
        if there is not Lies.WHOLE and pair.task is not None:
            try:
                _link(task, project.task_path(pair.id))
            except StaysError:
                # RACE: a task was dropped just now; our result must not end it.
                disk.unlink(project.result_path(pair.id))
                raise


def put(project: Project, holder: Holder, path: str, text: str) -> None:
    """Make a file that was archived; StaysError if something has its name."""
    aside = project.aside_path(holder.name, "restored")
    disk.write_aside(aside, text.encode(), sync=True)
    try:
        _link(aside, path)
    finally:
        disk.unlink(aside)


def _link(aside: str, path: str) -> None:
    disk.make_folders(os.path.dirname(path))
    if not disk.link_new(aside, path):
        raise StaysError(_TAKEN)
