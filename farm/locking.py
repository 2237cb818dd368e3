"""`TaskLock`: the pattern's face of the ledger, for programs of one's own.

    lock = TaskLock(project_dir)
    with lock.lock("build", "worker-7") as acquired:
        if acquired: ...

It takes the same lock, in the same files, as farm's own workers, so both may
work on one project. A lock is never broken because a process id is gone or time
has passed: the kernel frees it when its last holder dies, and only then. *Stale*
means that the lock was free and its record says that a process was at work.

What this process holds is kept in one place, `held`, so that `TaskStateManager` can
end an attempt under the very lock that its caller took.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from farm import claim, commit, rescue
from farm.claim import Claim, Exhausted, Hold, Holder
from farm.commit import Desk
from farm.config import load_settings
from farm.ledger import Claimed, Ended, Ledger, endings
from farm.look import Look, read_look
from farm.project import Project
from farm.retry import Finish, next_step
from farm.states import Why


class Held:
    """A lock that this process holds, and what became of its task meanwhile."""

    def __init__(
        self, ledger: Ledger, opened: Claimed, holder: Holder, holder_id: str
    ) -> None:
        self.ledger = ledger
        self.opened = opened  #: the attempt that taking the lock has opened
        self.holder = holder
        self.holder_id = holder_id
        self.since = time.monotonic()
        self.claim: Claim | None = None  #: what runs, once its task was started
        self.is_over = False  #: the attempt has ended, and the lock went with it
        self.process = os.getpid()  #: a child that was forked holds nothing


_HELD: dict[tuple[str, str], Held] = {}  # by the project's real path and the task's id


def held(project: Project, task_id: str) -> Held | None:
    """The lock of a task, if this process holds it and its attempt has not ended."""
    found = _HELD.get((os.path.realpath(project.root), task_id))
    if found is None or found.is_over or found.process != os.getpid():
        return None
    return found


class TaskLock:
    """Exclusive right to work on a task, among all processes of all hosts.

    Ids are strings, or numbers as in the published pattern.
    """

    LOCK_DIR = ".farm/locks"  #: below the project's folder
    LOCK_TIMEOUT = 300  # seconds; only written down, for people who look

    def __init__(self, project_dir: str | Path) -> None:
        """The locks of the project in this folder; it is made if it is new."""
        self._project = Project.open(project_dir)
        self._holder = Holder.passing()
        self._held: dict[str, Held] = {}
        self.project_dir = Path(project_dir)
        self.lock_dir = Path(self._project.locks)

    def acquire(
        self,
        task_id: str | int,
        holder_id: str = "worker-0",
        timeout: float = LOCK_TIMEOUT,
    ) -> bool:
        """Take the lock without waiting; False if another process has it.

        It opens the task's next attempt. False, too, if the attempts that are over
        leave none: then the task has its result now, as a worker would have written it.
        `timeout` (seconds) is recorded and breaks nothing: a lock that is held
        longer is still held.
        """
        name = str(task_id)
        if name in self._held:
            return False
        ledger = Ledger.open(self._project.ledger_path(name))
        if ledger is None:
            return False
        opened = None
        try:
            opened = self._open_attempt(ledger, name, timeout)
        finally:
            if opened is None:
                ledger.let_go(unlink=self._leaves_nothing(ledger))
        if opened is None:
            return False
        self._held[name] = Held(ledger, opened, self._holder, holder_id)
        _HELD[os.path.realpath(self._project.root), name] = self._held[name]
        return True

    def _open_attempt(
        self, ledger: Ledger, name: str, timeout: float
    ) -> Claimed | None:
        now = time.time()
        if claim.settle_owner(self._project, self._holder, ledger, now):
            return None
        look = read_look(self._project, name)
        if look is not None and self._is_exhausted(ledger, look, now):
            return None
        opened = claim.next_claimed(ledger, self._holder, name, now, timeout=timeout)
        opened = msgspec.structs.replace(opened, sha256=look.sha256 if look else None)
        ledger.append(opened)
        return opened

    def _is_exhausted(self, ledger: Ledger, look: Look, now: float) -> bool:
        """Whether earlier attempts leave no other; the task has its result then."""
        if look.task is None or look.sha256 is None or not ledger.lines:
            return False
        hold = Hold(look.id, ledger, now, look.signature or ())
        past = hold.past(look.sha256)
        settings = load_settings(self._project.settings, os.environ, {})
        step = next_step(endings(past), claim.policy_of(look.task, settings), now)
        if not isinstance(step, Finish):
            return False
        desk = Desk(self._project, self._holder, settings)
        commit.exhaust(desk, Exhausted(hold, past, step.status, look.sha256))
        return True

    def _leaves_nothing(self, ledger: Ledger) -> bool:
        return ledger.size == 0 and not self._project.network

    def release(self, task_id: str | int, holder_id: str | None = None) -> bool:
        """Give it back; False if it was not held here, or by another holder."""
        name = str(task_id)
        mine = self._held.get(name)
        if mine is None or holder_id not in (None, mine.holder_id):
            return False
        del self._held[name], _HELD[os.path.realpath(self._project.root), name]
        if mine.is_over:
            return True  # `update_task` has ended the attempt, and let go
        ledger, opened = mine.ledger, mine.opened
        is_trace = mine.claim is not None or len(ledger.lines) > 1
        if not is_trace and not self._project.network:
            ledger.let_go(unlink=True)  # nothing but our own line: no history
            return True
        ledger.append(
            Ended(
                token=opened.token,
                attempt=opened.attempt,
                why=Why.RELEASED,
                counted=False,
                finished=time.time(),
            )
        )
        ledger.let_go()
        return True

    @contextmanager
    def lock(self, task_id: str | int, holder_id: str = "worker-0") -> Iterator[bool]:
        """`with lock.lock("build") as acquired:`; given back at the end."""
        acquired = self.acquire(task_id, holder_id)
        try:
            yield acquired
        finally:
            if acquired:
                self.release(task_id, holder_id)

    def clean_all_stale_locks(self, max_age_seconds: float = 3600) -> int:
        """Give back what dead holders left open; how many there were.

        Age makes nothing stale. `max_age_seconds` only bounds how long ledgers of
        tasks that no longer exist are kept.
        """
        now = time.time()
        return rescue.sweep(self._project, self._holder, now, max_age_seconds)
