"""Give back what the dead held: orphaned commands, open attempts, leftovers.

    rescue(...)   a lock is refused: if its owner is dead, end what holds it
    sweep(...)    every ledger whose owner is dead, and dead workers' files

Nothing here breaks a lock. A refused lock belongs to somebody alive; if that is
only a command whose worker died, the *command* is ended, through its token, and
the kernel frees the lock. Two rescuers, or a late one, do no harm: everything is
bound to one attempt's token and checked again before a signal is sent.

Supervisors sweep at each death and now and then; idle workers rescue what they
find held. So a farm needs no supervisor to get well.
"""

import os
from collections.abc import Set
from contextlib import suppress

from farm import control, disk, life, process, register, trial
from farm.claim import Hold, Holder, Reason, hold, let_go, mark_of
from farm.errors import LedgerError
from farm.flock import lock_descriptor
from farm.journal import REBUILT, note
from farm.ledger import Claimed, Ledger, Past, open_attempt, peek
from farm.listing import Listing
from farm.process import Identity
from farm.project import MOVED, Project
from farm.result import posix
from farm.results import Known

OLD = 3600.0  # seconds; what somebody who is no worker needs is younger


def rescue(project: Project, holder: Holder, task_id: str) -> bool:
    """The lock of this task was refused: end its dead owner's processes, if so.

    Returns whether an orphan was found; the lock is then free, or soon.
    """
    path = project.ledger_path(task_id)
    past = _orphaned(project, holder, path)
    if past is None:
        return False
    try:
        ledger = os.stat(path)
    except FileNotFoundError:
        return False  # it ended in this moment
    process.end_marked(mark_of(past, (ledger.st_dev, ledger.st_ino)))
    return True


def _orphaned(project: Project, holder: Holder, path: str) -> Past | None:
    """The open attempt in a ledger whose owner, of this host, is dead.

    Read without the lock: enough, as all that follows is bound to its token.
    """
    past = open_attempt(peek(path))
    if past is None or past.claimed.holder == holder.name:
        return None
    owner = past.claimed
    if not process.is_here(owner.who):
        return None
    state = life.owner_of(project, owner.holder, owner.who, holder.name)
    return past if state is life.Owner.DEAD else None


def sweep(project: Project, holder: Holder, now: float, max_age: float = OLD) -> int:
    """Settle every open attempt of a dead owner, and tidy up after the dead.

    Also removes ledgers older than `max_age` seconds that mean nothing any more:
    of finished or deleted tasks. Returns how many stale attempts were settled.
    """
    settled = 0
    # An unlinked lock file is not safe on a network file system while a worker
    # lives: two owners of one name were seen on NFS.
    may_unlink = not (project.network and life.living(project))
    for name in project.ledger_names():
        path = f"{project.locks}/{name}"
        past = open_attempt(peek(path))
        if past is not None:
            settled += _settle(project, holder, past, now)
        elif may_unlink:
            _remove_meaningless(project, path, now - max_age)
    if was_unclean(project, holder.who):
        check_results(project, holder, now)  # before the signs of it are removed
    _bury_the_dead(project)
    for path in strays(project, set(project.worker_names()), set(), now - OLD):
        disk.unlink(path)
    _remove_late_orders(project)
    return settled


def _bury_the_dead(project: Project) -> None:
    """Remove dead workers' files, but those that an open attempt still needs."""
    dead = {
        worker
        for worker in project.worker_names()
        if life.observe(project, worker) is life.LifeLock.FREE
    }
    for worker in sorted(dead - _open_holders(project)) if dead else ():
        _bury(project, worker)


def _remove_late_orders(project: Project) -> None:
    """An order to cancel what has ended must not hit it when it is run again."""
    for name in control.Control(project).read().cancels:
        task_id = control.cancelled_id(name)
        if task_id is not None and register.counts(project, task_id) is not None:
            control.withdraw(project, name)


def _open_holders(project: Project) -> set[str]:
    """Whose attempts are open in some ledger."""
    names = project.ledger_names()
    pasts = (open_attempt(peek(f"{project.locks}/{name}")) for name in names)
    return {past.claimed.holder for past in pasts if past}


def strays(
    project: Project, spared: Set[str], dead: Set[str], before: float
) -> list[str]:
    """Temporary files of the dead, and old ones of whoever is neither dead nor spared.

    That is somebody who has no life file any more, or not yet: then they are young.
    """
    found = []
    with suppress(FileNotFoundError), os.scandir(project.tmp) as entries:
        for entry in entries:
            maker = entry.name.split(".")[0]
            if maker == MOVED:
                continue
            is_dead = maker in dead or _died_in_trial(maker)
            if is_dead or (maker not in spared and disk.is_old(entry, before)):
                found.append(entry.path)
    return found


def _died_in_trial(name: str) -> bool:
    """Whether this is of a trial of the mount, and who made it is seen dead."""
    who = trial.maker(name)
    return who is not None and process.is_here(who) and not process.is_alive(who)


def was_unclean(project: Project, me: Identity) -> bool:
    """Whether a worker of another boot died here: a power cut empties files."""
    for name in project.worker_names():
        if life.observe(project, name) is life.LifeLock.FREE:
            seen = life.read(project, name)
            if seen is None or seen[1].who.boot != me.boot:
                return True
    return False


def check_results(project: Project, holder: Holder, now: float) -> int:
    """Read every result once, and take away those that are none; how many.

    After a power cut files that were linked but not synced are empty or torn.
    """
    listing = Listing(project)
    listing.refresh()
    taken = 0
    for task_id in sorted(listing.tasks() & listing.results()):
        with suppress(OSError, LedgerError):  # one odd file must not hide the others
            if register.look(project, task_id) is register.Lying.GARBAGE:
                held = hold(project, holder, task_id, now)  # sets it aside
                if isinstance(held, Hold):
                    let_go(project, held)
                    taken += 1
    return taken


def _settle(project: Project, holder: Holder, past: Past, now: float) -> int:
    """Note how a dead owner's open attempt ended; 1 if it was settled."""
    owner = past.claimed
    if life.owner_of(project, owner.holder, owner.who, holder.name) is life.Owner.ALIVE:
        return 0
    rescue(project, holder, owner.task)
    try:
        held = hold(project, holder, owner.task, now)
    except LedgerError:
        return 0  # not a ledger any more; whoever wants the task says so
    if isinstance(held, Hold):
        let_go(project, held)
        return 1
    if held.reason is Reason.FINAL:
        _tell(project, owner.task)
    return int(held.reason in (Reason.FINAL, Reason.GONE))


def _tell(project: Project, task_id: str) -> None:
    """Its worker died between the result and the journal's line about it."""
    file = disk.identity_of(project.result_path(task_id))  # before its bytes are read
    head = register.counts(project, task_id)
    if head is not None:
        at = posix(head.finished)
        known = Known(head.status, at, head.duration_s, file)
        note(project, REBUILT, [known.entry(task_id)])


def _remove_meaningless(project: Project, path: str, before: float) -> None:
    """Unlink, under its lock, a ledger that decides nothing any more."""
    try:
        old = os.lstat(path).st_mtime < before
        ledger = Ledger.open(path, create=False)
    except (FileNotFoundError, LedgerError):
        return
    if ledger is not None:
        ledger.let_go(unlink=_means_nothing(project, ledger, old=old))


def _means_nothing(project: Project, ledger: Ledger, *, old: bool) -> bool:
    """Whether all that it tells of is over: has a result, or is gone for long."""
    if not ledger.size and not project.network:
        return True  # its maker was killed before it wrote a line
    if open_attempt(ledger.lines) is not None:
        return False
    tasks = {line.task for line in ledger.lines if isinstance(line, Claimed)}
    if any(register.counts(project, task) is None for task in tasks):
        return old and not any(os.path.lexists(project.task_path(t)) for t in tasks)
    return bool(tasks) or old


def _bury(project: Project, worker: str) -> None:
    """Remove a dead worker's files; its life file last, and under its lock."""
    try:
        fd = os.open(project.life_path(worker), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if lock_descriptor(fd):
            for name in os.listdir(project.tmp):
                if name.startswith(f"{worker}."):
                    disk.clear(f"{project.tmp}/{name}")
            disk.unlink(project.health_path(worker))
            disk.unlink(project.life_path(worker))
    finally:
        os.close(fd)
