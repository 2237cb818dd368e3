"""One place for a worker under a supervisor; workers come and go in it.

    slot.start_if_due(...)   start a process, unless one runs or its time has not come
    slot.reap(now, ...)      has it ended? DONE, DIED, or None
    slot.look_after(...)     its vitals: keep it, ask it to end, or kill it
    slot.leave()             let its worker finish what it runs; no other follows

A slot never gives up: after each death it waits for `restart_delay`. What becomes
of the dead worker's task is not its business (`farm.rescue`), but it writes down
how the worker died, for whoever inherits that task.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from enum import Enum

import msgspec

from farm import disk, life, process, shield
from farm.child import signal_name
from farm.config import Settings
from farm.health import (
    Action,
    Health,
    Vital,
    WorkerHealthState,
    judge,
    restart_delay,
    write_health,
)
from farm.process import Identity
from farm.process_state import SPOILT
from farm.project import Project
from farm.stop import PASSED_ON, SOON
from farm.words import plain


class SlotEnd(Enum):
    """How the process in a slot ended."""

    DONE = "done"  #: it was asked to end, or nothing was left to do
    DIED = "died"


class Slot:
    """See the module's docstring. All times are monotonic seconds."""

    def __init__(self, number: int, project: Project, settings: Settings) -> None:
        self.state = WorkerHealthState(number)
        self.popen: subprocess.Popen[bytes] | None = None
        self.name: str | None = None  #: of the worker, once it was seen
        self.done = False  #: its worker found nothing left to do
        self.leaving = False  #: no worker is to follow the one that runs
        self.start_at = 0.0
        self._project = project
        self._settings = settings
        self._who: Identity | None = None  # its process, as names of workers have it
        self._log = project.slot_log_path(number)
        self._vital = Vital()
        self._looked_at = 0.0  # at the vitals, last
        self._asked_at: float | None = None  # when it was told to end, as unhealthy
        self._silence = ""  # why it was
        self._oom_kills = 0  # of this host, before the worker last beat
        self._oom_looked = 0  # the same, at the last look

    @property
    def is_empty(self) -> bool:
        """Whether the next worker is to start, when its time has come."""
        return not (self.popen or self.done or self.leaving)

    def start_if_due(self, now: float, supervisor: int, *, until_done: bool) -> None:
        """Start a worker; OSError if the machine cannot."""
        if not self.is_empty or now < self.start_at:
            return
        command = [sys.executable, "-P", "-m", "farm", "worker", self._project.root]
        command += ["--supervisor", str(supervisor)]
        if until_done:
            command.append("--until-done")
        self.start_at = now + restart_delay(self.state)  # should this very start fail
        self._project.restore_folders()
        log = disk.open_to_append(self._log, disk.MOST_LOG)
        try:
            with shield.handed(os.environ) as to:
                self.popen = subprocess.Popen(
                    [*command, *to.words],
                    cwd=self._project.root,
                    env=to.env,
                    pass_fds=to.fds,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # a Ctrl-C at the terminal is ours to pass on
                )
        except OSError:
            self._rest(now, "spawn")
            raise
        finally:
            os.close(log)
        self.name, self._asked_at = None, None
        self._who = msgspec.structs.replace(process.identify(), pid=self.popen.pid)
        self._vital = Vital(beat_at=now, busy_at=now)
        self._looked_at = now
        self._oom_kills = self._oom_looked = process.oom_kills()

    def leave(self) -> None:
        """Ask the worker to finish what it runs; the slot ends with it."""
        self.leaving = True
        self.tell(SOON)

    def tell(self, request: int) -> None:
        """Ask its worker to end: `SOON` or `NOW`, which may be said again."""
        if self.popen is not None:
            self.popen.send_signal(request)

    def has_ended(self) -> bool:
        """Whether its process is gone and was not reaped yet."""
        return self.popen is not None and self.popen.poll() is not None

    def ran(self, worker: str) -> bool:
        """Whether a worker of this name is, or was, the one in this slot's process."""
        return self._who is not None and life.was_born_in(self._who, worker)

    def reap(self, now: float, *, is_last: bool) -> tuple[SlotEnd, str] | None:
        """Whether its process ended, and a sentence; None while it runs."""
        if self.popen is None or (code := self.popen.poll()) is None:
            return None
        name = self.name or str(self.popen.pid)
        if self.name is None:
            with suppress(OSError):  # its name is only for people
                name = self._find_name() or name
        self.popen = None
        if code == 0:
            self.start_at = now
            return SlotEnd.DONE, f"worker {name} ended"
        if self._ended_with_its_task(name):
            how, self.start_at = "ended with a callable that did not yield", now
        elif code == SPOILT:
            how, self.start_at = "ended, as a task had changed its process", now
        else:
            how = self._how(code)
            self._rest(now, how)
        wait = self.start_at - now
        again = "at once" if wait <= 0 else f"in {wait:.1f} s"
        follows = "" if is_last or self.leaving else f"; another starts {again}"
        with suppress(OSError):  # a full disk, say: then its end has no known cause
            self._write_down(name, how)
        return SlotEnd.DIED, f"worker {name} {how}{follows}"

    def _ended_with_its_task(self, name: str) -> bool:
        """Whether its own watchdog ended it, which left the stacks of all threads."""
        return disk.read_tail(self._project.aside_path(name, "stacks"), 0)[1] > 0

    def _how(self, code: int) -> str:
        if self._asked_at is not None:
            return f"had {self._silence} and was ended"
        if -code in PASSED_ON:
            return "was told to end before it could listen"
        if code > 0:
            return f"ended with code {code}{self._last_words()}"
        of_memory = -code == signal.SIGKILL and process.oom_kills() > self._oom_kills
        why = ", out of memory" if of_memory else ""
        return f"was killed by {signal_name(-code)}{why}"

    def _write_down(self, name: str, how: str) -> None:
        # RACE: another's sweep may bury it in this moment, and nobody would ever find
        # again what was written after that.
        with life.unburied(self._project, name) as lies_there:
            if lies_there:
                writer = f"slot-{os.urandom(8).hex()}"
                write_health(self._project, name, Health(died=how), writer)

    def look_after(self, now: float, oom_kills: int) -> str | None:
        """End a worker that neither beats nor computes; a sentence if so.

        `oom_kills` are those of this host until just now.
        """
        if self.popen is None:
            return None
        with suppress(OSError):  # no room for what was said: it is cut off
            disk.set_aside(self._log, disk.MOST_LOG)
        # RACE: where all processes stood still together (frozen, or their machine was),
        # we may look before the worker could beat. We look as often as a heart beats.
        still = max(0.0, now - self._looked_at - 2 * self._settings.heartbeat)
        self._looked_at, self._vital = now, self._vital.later(still)
        if self._asked_at is not None:
            self._asked_at += still
        beat_at = self._vital.beat_at
        seen = life.read(self._project, self.name) if self.name else None
        if seen is None:  # not born yet, or started afresh under a new name
            self.name = self._find_name()
        counter = seen[0] if seen else -1
        beats = counter != self._vital.counter  # then nobody asks what else it does
        running = None if beats else process.stat(self.popen.pid)
        self._vital = self._vital.seen(
            counter, running.cpu_ticks if running else -1, now
        )
        # RACE: who is being killed is seen alive for a while, and may have beaten since
        # the last look. But it beat after that look: what was counted then is not it.
        if self._vital.beat_at > beat_at:
            self._oom_kills = self._oom_looked
        self._oom_looked = oom_kills
        action = judge(
            self._vital,
            now,
            patience=self._settings.heartbeat_timeout,
            grace=self._settings.grace,
            asked_at=self._asked_at,
        )
        if action is Action.KILL:
            self.popen.kill()
        if action is not Action.TERMINATE:
            return None
        self._asked_at = now
        self.tell(SOON)
        self._silence = f"no heartbeat for {now - self._vital.beat_at:.0f} s"
        return f"worker {self.name}: {self._silence}; ending it"

    def _rest(self, now: float, error_type: str) -> None:
        self.state.record_failure(error_type)
        self.start_at = now + restart_delay(self.state)
        self.state.record_recovery(success=False)

    def _last_words(self) -> str:
        raw, _ = disk.read_tail(self._log, 2000)
        lines = raw.decode(errors="replace").strip().splitlines()
        said = [line for line in lines if " works on /" not in line]
        return f" ({plain(said[-1])})" if said else ""

    def _find_name(self) -> str | None:
        """The worker that runs in this slot, by the process id in its life file."""
        for name in self._project.worker_names():
            seen = life.read(self._project, name)
            who = seen[1].who if seen else None
            if (
                who
                and self.popen
                and who.pid == self.popen.pid
                and process.has_our_numbers(who)
            ):
                return name
        return None
