"""Let tasks run again: what ended, and what was skipped because of it.

    order = with_skipped(...)      pure: which tasks, each after those it needs
    revive(project, holder, id, now)     one task, under its ledger's lock

A task runs again as soon as its result is gone. The old result is kept beside the logs
(`<id>.<attempts>.<token>.retried`). Earlier attempts no longer count: the new run has
all its retries. A task that waits for its next attempt need not wait any longer.

A worker that lost its lock and is still busy with the task is fenced as always: the
ledger is not the one that it knew, or not as long as it left it.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from graphlib import CycleError, TopologicalSorter

import msgspec

from farm import claim, control, disk, register
from farm.claim import Holder
from farm.journal import VERBS, Entry, note
from farm.ledger import Final, Ledger, history
from farm.project import Project
from farm.result import Head


class Revival(Enum):
    """What became of a task that was to run again."""

    REVIVED = "revived"  #: its result is gone; it is ready
    HURRIED = "hurried"  #: it waited for its next attempt, and does so no longer
    READY = "ready"  #: it had no result, and nothing that delays it
    BUSY = "busy"  #: somebody holds it
    GONE = "gone"  #: its task file is gone; its result stays
    CHANGED = "changed"  #: it has ended anew since it was looked at


def with_skipped(
    ids: Iterable[str],
    skipped: Mapping[str, Iterable[str]],
    expand: Callable[[str], Iterable[str]],
) -> list[str]:
    """These ids and all that were skipped because of one, each after what it needs.

    `skipped` is id -> needs of every task that was skipped; `expand` turns a need
    into ids.
    """
    members = {i: {m for n in needs for m in expand(n)} for i, needs in skipped.items()}
    needed_by: dict[str, list[str]] = {}
    for task_id in sorted(members):
        for member in members[task_id]:
            needed_by.setdefault(member, []).append(task_id)
    todo = list(dict.fromkeys(ids))
    seen = set(todo)
    for task_id in todo:  # it grows while we go
        new = [i for i in needed_by.get(task_id, ()) if i not in seen]
        seen |= set(new)
        todo += new
    try:
        return list(
            TopologicalSorter(
                {i: members.get(i, set()) & seen for i in todo}
            ).static_order()
        )
    except CycleError:
        return todo  # files that were edited since: whichever is first


def revive(
    project: Project,
    holder: Holder,
    task_id: str,
    now: float,
    seen: Head | None,
) -> Revival:
    """Let one task run again; OSError if the disk takes nothing.

    `seen` is its result as it was when somebody decided (`register.counts`): another
    one is left alone, because the task was run again meanwhile.
    """
    ledger = Ledger.open(project.ledger_path(task_id))
    if ledger is None:
        return Revival.BUSY
    unlink = ledger.size == 0
    try:
        if claim.settle_owner(project, holder, ledger, now):
            return Revival.BUSY
        if project.task_signature(task_id) is None:
            return Revival.GONE
        head = register.look(project, task_id)
        # A verdict on a file that was mended since is none: the next claim runs it.
        if not isinstance(head, Head) or register.is_outdated(project, task_id, head):
            return _hurry(ledger, now)
        if head != seen:
            return Revival.CHANGED
        if ledger.lines:
            # RACE: killed after this line, the result stands as it stood.
            ledger.append(Final(head.status))
        _keep_result(project, task_id, now)
        control.withdraw(project, control.cancel_name(task_id))
        note(project, VERBS, [Entry(task_id, now, VERBS)])
        unlink = True
    finally:
        ledger.let_go(unlink=unlink and not project.network)
    return Revival.REVIVED


def _hurry(ledger: Ledger, now: float) -> Revival:
    past = history(ledger.lines)
    last = past[-1].ended if past else None
    if last is None or last.not_before <= now:
        return Revival.READY
    ledger.append(msgspec.structs.replace(last, not_before=0.0))
    return Revival.HURRIED


class _Known(msgspec.Struct):
    """What the name of a kept result is made of."""

    attempts: list[msgspec.Raw] = []
    token: str = ""


def _keep_result(project: Project, task_id: str, now: float) -> None:
    path = project.result_path(task_id)
    try:
        known = msgspec.json.decode(disk.read_file(path), type=_Known)
    except disk.NO_JSON:
        known = _Known()  # of another version: kept all the same
    # Without a run there is no token, and the next one is to be kept, too.
    name = f"{known.token or int(now * 1000)}.retried"
    disk.move(path, project.log_path(task_id, len(known.attempts), name))
