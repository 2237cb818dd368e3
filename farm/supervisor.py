"""Keep N workers alive; start, watch, restart, sweep, say what goes on.

The supervisor runs no task and imports no worker: it starts processes
(`python -m farm worker ...`) and meets them only on disk: their life locks,
health files, journals. If it dies, its workers finish what they hold and stop;
started again it carries on. There is one for each host and project.

The loop is `tick`: reap the dead, start what is due, look at the vitals, sweep,
report. `judge` and `restart_delay` (`farm.health`) decide; the loop obeys.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Protocol

from filelock import lock_descriptor

from farm import disk, life, process, rescue
from farm.backoff import exponential
from farm.child import signal_name
from farm.claim import Holder
from farm.config import Settings
from farm.control import DRAIN, Control
from farm.errors import BusyError
from farm.health import (
    LONGEST_REST,
    Action,
    Health,
    Vital,
    WorkerHealthState,
    judge,
    restart_delay,
    write_health,
)
from farm.journal import Entry, Reader
from farm.project import Project
from farm.report import Report, Survey
from farm.stop import Stop
from farm.watcher import Bell

TICK = 0.5  # seconds; the longest sleep of the loop
SWEEP_EVERY = 30.0  # seconds; a death sweeps at once
SURVEY_SHARE = 20  # a look that took t seconds is not repeated for 20 t
EXIT_UNWELL = 75  # of a worker that the machine failed three times in a row
LAST_PATIENCE = 5.0  # seconds beyond the grace, before workers are killed


class Screen(Protocol):
    """Where a supervisor says what goes on."""

    def event(self, text: str) -> None:
        """Something happened to a worker or to the farm."""

    def ended(self, entries: Sequence[Entry]) -> None:
        """These attempts ended."""

    def show(self, report: Report) -> None:
        """The project as it is now."""


class Slot:
    """One place for a worker; workers come and go in it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.state = WorkerHealthState(number)
        self.popen: subprocess.Popen[bytes] | None = None
        self.name: str | None = None  #: of the worker, once it was born
        self.vital = Vital()
        self.asked_at: float | None = None  #: when it was told to end, as unhealthy
        self.start_at = 0.0  #: monotonic seconds
        self.done = False  #: its worker ended because nothing was left


class Singleton:
    """One supervisor for each host and project, by a lock of its own."""

    def __init__(self, project: Project) -> None:
        who = process.identify()
        path = f"{project.farm}/supervisor-{who.host}.lock"
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, disk.FILE_MODE)
        if not lock_descriptor(self._fd, blocking=False):
            owner = disk.read_fd(self._fd).decode(errors="replace").strip()
            os.close(self._fd)
            raise BusyError(
                f"{project.root} already has a supervisor on this host: process"
                f" {owner}. Add workers with: farm worker {project.root}"
            )
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{who.pid}\n".encode(), 0)

    def release(self) -> None:
        """The next one may come; the file stays, which is harmless."""
        os.close(self._fd)


class Supervisor:
    """See the module's docstring. Times inside are monotonic seconds."""

    def __init__(
        self, project: Project, settings: Settings, screen: Screen, *, workers: int
    ) -> None:
        self.project = project
        self.settings = settings
        self.screen = screen
        self.stop = Stop(Bell())
        self.slots = [Slot(number) for number in range(workers)]
        self.holder = Holder.passing()
        self.until_done = False
        self._journal = Reader(project, from_now=True)
        self._survey = Survey(project)
        self._survey_due = 0.0
        self._sweep_due = 0.0
        self._vitals_due = 0.0
        self._kill_at = float("inf")
        self._trouble = ""  # the last one that was said
        self._idle_rounds = 0  # starts that found nothing to do after all

    def run(self, *, until_done: bool) -> Report:
        """Supervise until stopped, or until nothing is left; the last report.

        Main thread only: it takes SIGINT, SIGTERM and SIGCHLD. Raises BusyError
        if this project has a supervisor on this host already.
        """
        singleton = Singleton(self.project)
        self.until_done = until_done
        self.stop.listen()
        signal.signal(signal.SIGCHLD, _wake_up)
        told = 0
        try:
            while not self._is_over():
                self.tick(time.monotonic())
                if self.stop.asked > told:
                    told = self._pass_on_stop()
                if time.monotonic() > self._kill_at:
                    break
                self.stop.bell.wait(TICK)
        finally:
            self._end_workers()
            singleton.release()
        self._say_what_ended()
        return self._survey.look(time.time(), time.monotonic())

    # -- the loop's steps ----------------------------------------------------

    def tick(self, now: float) -> None:
        """Do once everything that is due."""
        for slot in self.slots:
            self._guarded(self._reap, slot, now)
        if now >= self._sweep_due:
            self._sweep_due = now + SWEEP_EVERY
            self._guarded(self._sweep)
        if not self.stop.soon:
            for slot in self.slots:
                self._guarded(self._start_if_due, slot, now)
        if now >= self._vitals_due:
            self._vitals_due = now + self.settings.heartbeat
            for slot in self.slots:
                self._guarded(self._look_after, slot, now)
        self._guarded(self._say_what_ended)
        if now >= self._survey_due:
            self._survey_due = now + TICK
            self._guarded(self._look_around, now)

    def _guarded(self, step: Callable[..., None], *arguments: object) -> None:
        """A full disk, or no descriptors left: say so once, and go on."""
        try:
            step(*arguments)
        except OSError as error:
            trouble = f"supervisor: {error.strerror}: {error.filename or step.__name__}"
            if trouble != self._trouble:
                self.screen.event(trouble)
            self._trouble = trouble

    def _is_over(self) -> bool:
        if any(slot.popen for slot in self.slots):
            return False
        if self.stop.soon:
            return True
        if not self.until_done or not all(slot.done for slot in self.slots):
            return False
        report = self._survey.look(time.time(), time.monotonic())
        if report.pending:  # somebody dropped a task as the last worker ended
            self._idle_rounds += 1
            wait = exponential(self._idle_rounds, TICK, LONGEST_REST)
            for slot in self.slots:
                slot.done = False
                slot.start_at = time.monotonic() + wait
        return not report.pending

    def _start_if_due(self, slot: Slot, now: float) -> None:
        if slot.popen is not None or slot.done or now < slot.start_at:
            return
        command = [sys.executable, "-P", "-m", "farm", "worker", self.project.root]
        command += ["--supervisor", str(os.getpid())]
        if self.until_done:
            command.append("--until-done")
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        log = os.open(self.project.slot_log_path(slot.number), flags, disk.FILE_MODE)
        try:
            slot.popen = subprocess.Popen(
                command,
                cwd=self.project.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C at the terminal is ours to pass on
            )
        except OSError as error:
            self.screen.event(f"cannot start a worker: {error.strerror}")
            self._rest(slot, now, "spawn")
        finally:
            os.close(log)
        slot.name, slot.asked_at = None, None
        slot.vital = Vital(beat_at=now, busy_at=now)

    def _reap(self, slot: Slot, now: float) -> None:
        if slot.popen is None or (code := slot.popen.poll()) is None:
            return
        pid, slot.popen = slot.popen.pid, None
        if code == 0:
            slot.done = self.until_done
            slot.start_at = now
            if Control(self.project).read().drain:
                self.stop.ask_once("drain")
            return
        how = (
            f"was killed by {signal_name(-code)}"
            if code < 0
            else f"ended with code {code}"
        )
        name = slot.name or self._name_of(pid)
        self._sweep_due = now
        self._rest(slot, now, how)
        wait = slot.start_at - now
        again = "at once" if wait <= 0 else f"in {wait:.1f} s"
        last_words = "" if code < 0 else self._last_words(slot)
        self.screen.event(
            f"worker {name or pid} {how}{last_words}; another starts {again}"
        )
        if name is not None and os.path.exists(self.project.life_path(name)):
            health = Health(died=how)
            write_health(self.project, name, health, self.holder.name)

    def _rest(self, slot: Slot, now: float, error_type: str) -> None:
        slot.state.record_failure(error_type)
        slot.start_at = now + restart_delay(slot.state)
        slot.state.record_recovery(success=False)

    def _last_words(self, slot: Slot) -> str:
        raw, _ = disk.read_tail(self.project.slot_log_path(slot.number), 2000)
        lines = raw.decode(errors="replace").strip().splitlines()
        return f" ({lines[-1]})" if lines else ""

    def _name_of(self, pid: int) -> str | None:
        for name in self.project.worker_names():
            seen = life.read(self.project, name)
            if seen and seen[1].who.pid == pid and process.is_here(seen[1].who):
                return name
        return None

    def _look_after(self, slot: Slot, now: float) -> None:
        if slot.popen is None:
            return
        pid = slot.popen.pid
        slot.name = self._name_of(pid)
        seen = life.read(self.project, slot.name) if slot.name else None
        running = process.stat(pid)
        slot.vital = slot.vital.seen(
            seen[0] if seen else -1, running.cpu_ticks if running else -1, now
        )
        action = judge(
            slot.vital,
            now,
            patience=self.settings.heartbeat_timeout,
            grace=self.settings.grace,
            asked_at=slot.asked_at,
        )
        if action is Action.TERMINATE:
            silent = now - slot.vital.beat_at
            self.screen.event(
                f"worker {slot.name or pid}: no heartbeat for {silent:.0f} s"
            )
            slot.asked_at = now
            slot.popen.terminate()
        elif action is Action.KILL:
            slot.popen.kill()

    def _sweep(self) -> None:
        settled = rescue.sweep(self.project, self.holder, time.time())
        if settled:
            self.screen.event(f"gave back {settled} task(s) of dead workers")

    def _say_what_ended(self) -> None:
        entries = self._journal.poll()
        names = {entry.worker for entry in entries}
        for slot in self.slots:
            if slot.name in names:
                slot.state.record_success()
        if entries:
            self.screen.ended(entries)

    def _look_around(self, now: float) -> None:
        report = self._survey.look(time.time(), now)
        took = time.monotonic() - now
        self._survey_due = now + max(TICK, SURVEY_SHARE * took)
        self.screen.show(report)

    # -- the end -------------------------------------------------------------

    def _pass_on_stop(self) -> int:
        if self.stop.now:
            self.screen.event("ending what runs; it is given back")
            self._kill_at = time.monotonic() + self.settings.grace + LAST_PATIENCE
        else:
            self.screen.event(
                f"{self.stop.reason}: finishing what runs, taking nothing new"
                " (once more ends it at once)"
            )
        for slot in self.slots:
            if slot.popen is not None:
                slot.popen.terminate()
        return self.stop.asked

    def _end_workers(self) -> None:
        """Nobody is left behind, however the loop ended."""
        until = time.monotonic() + self.settings.grace + LAST_PATIENCE
        left = [slot.popen for slot in self.slots if slot.popen is not None]
        for popen in left:
            popen.terminate()
        for popen in left:
            try:
                popen.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                popen.kill()
                popen.wait()
        if left:
            rescue.sweep(self.project, self.holder, time.time())
        if self.stop.reason == "drain":
            disk.unlink(f"{self.project.control}/{DRAIN}")


def _wake_up(_number: int, _frame: FrameType | None) -> None:
    """SIGCHLD: the wake-up pipe of `Stop.listen` has rung already."""
