"""One run of many tasks in workers of its own: what `farm.sessions` promises, kept.

    session.run()      in a thread: drop, watch, try again, recover; all results
    session.stop()     from anywhere: be over soon; once more: sooner
    session.close()    when nobody calls any of these any more

`after_failure` decides what becomes of a task that did not succeed; the rest obeys. Each
tick sees which processes ended, reads results, replaces processes, drops what there is
room for, and then sleeps until a file changes or a process ends.
"""

import os
import signal
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum
from typing import Any

import msgspec
import watchdog.observers  # noqa: F401 - here, for `Session.run` must import nothing

from farm import cancel, claim, disk, poll, register, rescue
from farm.bell import Bell
from farm.cancel import Step
from farm.claim import Holder, Reason, Refused
from farm.commit import Desk
from farm.config import load_settings
from farm.drop import drop
from farm.errors import LedgerError
from farm.health import WorkerHealthState
from farm.project import Project
from farm.result import Error
from farm.revive import Revival, revive
from farm.session_slot import SessionSlot
from farm.states import Status
from farm.stop import NOW, SOON
from farm.watcher import Watcher

LONGEST_NAP = 1.0  # seconds; mounts tell of no events
BIRTH_NAP = 0.02  # seconds; a worker's birth is no event
LAST_PATIENCE = 5.0  # seconds beyond the grace, before workers are killed
REPEAT = 0.2  # seconds; a worker is told again to end at once
TAKE_BACK = 30.0  # seconds; others' workers obey an order to cancel at their next beat
_MORE_URGENT = 2  # requests to stop
MOST_TRIES = WorkerHealthState.MAX_RECOVERY_ATTEMPTS  #: of one task, after the first


class Next(Enum):
    """What becomes of a task that did not succeed."""

    RECOVER = "recover"  #: again, when its slot is recovered
    AGAIN = "again"  #: again, at once
    EXHAUSTED = "exhausted"  #: it has failed; it was tried as often as may be
    FAILED = "failed"  #: it has failed, and another try makes no sense


def after_failure(status: Status, tries: int, slot: WorkerHealthState | None) -> Next:
    """What follows when a task ended otherwise than well.

    `tries` is how often it was tried again before, `slot` the state of the slot that
    ran it; None if that was nobody of ours.
    """
    if status is Status.LOST or tries >= MOST_TRIES:
        return Next.EXHAUSTED
    if status not in (Status.FAILED, Status.TIMED_OUT):
        return Next.FAILED  # somebody cancelled it, say
    if slot is None:
        return Next.AGAIN
    return Next.RECOVER if slot.should_attempt_recovery() else Next.EXHAUSTED


class _Attempt(msgspec.Struct, frozen=True):
    worker: str = ""


class _Ended(msgspec.Struct, frozen=True):
    """As much of a result as matters here."""

    status: Status
    attempts: Sequence[_Attempt] = ()
    finished: str = ""
    value: Any = None
    error: Error | None = None

    @property
    def worker(self) -> str:
        """Who ran it last; the result itself may be by who found that one dead."""
        return self.attempts[-1].worker if self.attempts else ""

    @property
    def words(self) -> str:
        """What the exception said, as `str(error)` has it."""
        if self.error is None:
            return self.status.value
        return self.error.message.removeprefix(f"{self.error.type}: ")

    @property
    def error_type(self) -> str:
        """The exception's class, or the kind of what went wrong."""
        error = self.error
        return (error.type or error.kind) if error else self.status.value


# -- one run -----------------------------------------------------------------------


class Session:
    """One run of many tasks; see the module's docstring."""

    def __init__(
        self,
        project: Project,
        name: str,
        tasks: Sequence[dict[str, Any]],
        files: Sequence[bytes],
        states: Sequence[WorkerHealthState],
    ) -> None:
        self.is_shared = False  #: others may work in this project
        self._project = project
        self._settings = load_settings(project.settings, os.environ, {})
        self._holder = Holder.passing()
        self._bell = Bell()  # after what may refuse
        self._watcher = Watcher(project, self._bell)
        # No more than there are tasks.
        self._slots = [
            SessionSlot(project, name, state)
            for state, _ in zip(states, tasks, strict=False)
        ]
        self._tasks, self._files = tasks, files
        digits = len(str(len(tasks)))
        self._ids = [f"{name}/{n:0{digits}}" for n in range(len(tasks))]
        self._waiting = deque(range(len(tasks)))
        self._dropped: set[int] = set()
        self._tries: Counter[int] = Counter()
        self._errors: dict[int, str] = {}  # of those that are tried again
        self._results: list[dict[str, Any]] = []
        self._asked = 0  # how often to stop
        self._deaths = 0

    def stop(self) -> None:
        """End what runs and be over soon; more than once: sooner."""
        self._asked += 1
        self._bell.ring()

    def close(self) -> None:
        """When `run` is over, and nobody stops it any more."""
        self._bell.close()

    def run(self) -> list[dict[str, Any]]:
        """Run all tasks; the results in the order in which they ended."""
        try:
            disk.make_folders(os.path.dirname(self._project.task_path(self._ids[0])))
            # RACE: it takes a folder out of `sys.path` while it imports, and that is the
            # caller's; so what it needs is imported already (see above).
            self._watcher.start()
            for slot in self._slots:
                slot.start(time.monotonic(), recovers=False)
            while not self._asked and len(self._results) < len(self._tasks):
                self._tick(time.monotonic())
                self._sleep()
        finally:
            self._end()
        return self._results

    def _sleep(self) -> None:
        if len(self._results) == len(self._tasks):
            return
        starting = any(slot.is_starting for slot in self._slots)
        pidfds = [fd for slot in self._slots for fd in slot.pidfd]
        self._bell.wait(BIRTH_NAP if starting else LONGEST_NAP, *pidfds)

    def _tick(self, now: float) -> None:
        # In this order: what a process wrote before it ended is there to be read.
        gone = [slot for slot in self._slots if slot.has_ended()]
        self._settle(now)
        for slot in gone:
            self._replace(slot, now)
        for slot in self._slots:
            slot.look_after(now)
            if slot.born and slot.recovers:
                self._recovered(slot)
        if all(slot.given_up for slot in self._slots):
            self._fail_the_rest(self._slots[-1].trouble)
        self._drop_next()

    # -- what has ended ----------------------------------------------------------

    def _settle(self, now: float) -> None:
        ended = {n: e for n in self._dropped if (e := self._ended(n)) is not None}
        for number in sorted(ended, key=lambda n: ended[n].finished):
            self._dropped.discard(number)
            ran = [s for s in self._slots if s.ran(ended[number].worker)]
            slot = ran[0] if ran else None
            if ended[number].status is not Status.SUCCEEDED:
                self._failed(number, ended[number], slot, now)
                continue
            if slot is not None:
                slot.state.forgive()
            self._report(number, result=ended[number].value, success=True)

    def _ended(self, number: int) -> _Ended | None:
        """The result of a task; None while there is none."""
        task_id = self._ids[number]
        try:
            raw = disk.read_file(self._project.result_path(task_id))
            return msgspec.json.decode(raw, type=_Ended)
        except disk.NO_JSON:
            return None  # somebody emptied it: it runs again
        except FileNotFoundError:
            if os.path.lexists(self._project.task_path(task_id)):
                return None
        return self._taken_away(task_id)

    def _taken_away(self, task_id: str) -> _Ended | None:
        """What a task comes to whose file is gone; None if somebody runs it still."""
        held = claim.hold(self._project, self._holder, task_id, time.time())
        if not isinstance(held, Refused):
            claim.let_go(self._project, held)  # it is back
        elif held.reason is Reason.GONE:
            error = Error("gone", "somebody took its task file away")
            return _Ended(Status.CANCELLED, error=error)
        return None

    def _failed(
        self, number: int, ended: _Ended, slot: SessionSlot | None, now: float
    ) -> None:
        ours = slot if ended.status in (Status.FAILED, Status.TIMED_OUT) else None
        if ours is not None:
            ours.state.record_failure(ended.error_type)
            ours.spend(now)
        state = ours.state if ours else None
        step = after_failure(ended.status, self._tries[number], state)
        self._errors[number] = ended.words
        if step is Next.RECOVER and ours is not None:
            ours.owed.append(number)
        elif step is Next.AGAIN:
            self._try_again(number)
        else:
            self._fail(number, exhausted=step is Next.EXHAUSTED)

    def _try_again(self, number: int) -> None:
        self._tries[number] += 1
        self._waiting.append(number)

    def _fail(self, number: int, *, exhausted: bool) -> None:
        flag = {"exhausted_recovery": True} if exhausted else {}
        self._report(number, error=self._errors[number], success=False, **flag)

    def _report(self, number: int, **what: object) -> None:
        self._results.append({"task": self._tasks[number], **what})

    # -- processes ---------------------------------------------------------------

    def _replace(self, slot: SessionSlot, now: float) -> None:
        """Start the next process in a slot, unless it is over with that."""
        how = slot.reap()
        recovers = bool(slot.owed)
        if not slot.spent:
            self._deaths += 1
            recovers = True
            if slot.recovers:
                slot.state.record_recovery(success=False)
            else:
                slot.state.record_failure(how)
            for number in slot.owed:
                self._fail(number, exhausted=False)
            slot.owed = []
        if recovers and not slot.state.should_attempt_recovery():
            slot.given_up = True
        else:
            slot.start(now, recovers=recovers)

    def _recovered(self, slot: SessionSlot) -> None:
        slot.recovers = False
        slot.state.record_recovery(success=True)
        for number in slot.owed:
            self._try_again(number)
        slot.owed = []

    def _fail_the_rest(self, trouble: str) -> None:
        for number in [*sorted(self._dropped), *self._waiting]:
            self._errors[number] = f"no worker stays alive; the last one {trouble}"
            self._fail(number, exhausted=True)
        self._waiting.clear()

    def _drop_next(self) -> None:
        room = sum(slot.works for slot in self._slots) - len(self._dropped)
        for _ in range(min(room, len(self._waiting))):
            number = self._waiting.popleft()
            if not self._tries[number]:
                drop(self._project, self._ids[number], self._files[number])
            elif not self._is_revived(number):
                self._waiting.append(number)
                continue
            self._dropped.add(number)

    def _is_revived(self, number: int) -> bool:
        """Whether a task that failed runs again; if not, the next tick tries it."""
        task_id = self._ids[number]
        seen = register.counts(self._project, task_id)
        now = revive(self._project, self._holder, task_id, time.time(), seen)
        return now is not Revival.BUSY  # gone, or ended anew: the next tick sees it

    # -- the end -----------------------------------------------------------------

    def _end(self) -> None:
        """Nobody is left behind, and nothing that would run later."""
        self._watcher.stop()
        self._end_workers()
        with suppress(OSError):  # a full disk, say: the next worker there tidies up
            if self._deaths:
                rescue.sweep(self._project, self._holder, time.time())
            if self.is_shared and self._dropped:
                poll.until(self._take_back, TAKE_BACK)

    def _end_workers(self) -> None:
        grace = self._settings.grace
        patience = 0.0 if self._asked else grace
        left = _told(self._slots, SOON, time.monotonic() + patience)
        until = time.monotonic() + grace + LAST_PATIENCE
        while left and time.monotonic() < until:
            # RACE: a signal may go to another thread of the worker than the one that
            # waits in a system call. So again.
            left = _told(left, NOW, time.monotonic() + REPEAT)
        for slot in left:
            self._deaths += 1
            slot.send(signal.SIGKILL)
        for slot in self._slots:
            slot.close()

    def _take_back(self) -> bool | None:
        """One step towards the end of what lies there unfinished; True at the end."""
        desk = Desk(self._project, self._holder, self._settings)
        for number in sorted(self._dropped):
            with suppress(LedgerError):  # one odd file must not keep the others
                now = cancel.cancel(desk, self._ids[number], time.time())
                if now.step is Step.ORDERED:
                    continue
                cancel.forget(desk, self._ids[number])
            self._dropped.discard(number)
        return None if self._dropped and self._asked < _MORE_URGENT else True


def _told(slots: Sequence[SessionSlot], number: int, until: float) -> list[SessionSlot]:
    """Send a signal to each; those whose process is left at that time."""
    for slot in slots:
        slot.send(number)
    return [slot for slot in slots if not slot.wait_gone(until)]
