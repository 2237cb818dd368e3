"""`TaskLock`: the pattern's face of the ledger, for programs of one's own.

    lock = TaskLock(project_dir)
    with lock.lock("build", "worker-7") as acquired:
        if acquired: ...

It takes the same lock, in the same files, as farm's own workers, so both may
work on one project. A lock is never broken because a process id is gone or time
has passed: the kernel frees it when its last holder dies, and only then. *Stale*
means that the lock was free and its record says that somebody was at work.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from farm import claim, rescue
from farm.claim import Holder
from farm.ledger import Claimed, Ended, Ledger
from farm.project import Project
from farm.states import Why


class _Held(NamedTuple):
    ledger: Ledger
    opened: Claimed
    holder_id: str


class TaskLock:
    """Exclusive right to work on a task, among all processes of all hosts.

    Ids are strings, or numbers as in the published pattern.
    """

    LOCK_TIMEOUT = 300  # seconds; only written down, for people who look

    def __init__(self, project_dir: str | Path) -> None:
        self._project = Project.open(project_dir)
        self._holder = Holder.passing()
        self._held: dict[str, _Held] = {}

    def acquire(
        self,
        task_id: str | int,
        holder_id: str = "worker-0",
        timeout: float = LOCK_TIMEOUT,
    ) -> bool:
        """Take the lock without waiting; False if somebody alive has it.

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
        if opened is not None:
            self._held[name] = _Held(ledger, opened, holder_id)
        return opened is not None

    def _open_attempt(
        self, ledger: Ledger, name: str, timeout: float
    ) -> Claimed | None:
        now = time.time()
        if claim.settle_owner(self._project, self._holder, ledger, now):
            return None
        opened = claim.next_claimed(ledger, self._holder, name, now, timeout=timeout)
        ledger.append(opened)
        return opened

    def _leaves_nothing(self, ledger: Ledger) -> bool:
        return ledger.size == 0 and not self._project.network

    def release(self, task_id: str | int, holder_id: str | None = None) -> bool:
        """Give it back; False if it was not held here, or by another holder."""
        held = self._held.get(str(task_id))
        if held is None or holder_id not in (None, held.holder_id):
            return False
        del self._held[str(task_id)]
        ledger, opened = held.ledger, held.opened
        if len(ledger.lines) == 1 and not self._project.network:
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
