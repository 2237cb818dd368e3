"""One place for a worker of a session; processes come and go in it.

    slot.start(now, recovers=...)    start a process: `is_starting`, then `born`
    slot.look_after(now)             see its birth; end it if that takes too long
    slot.spend(now)                  its worker failed a task, and ends by itself
    slot.has_ended(), slot.reap()    the process is gone: how it ended

Unlike the slots of a supervisor (`farm.slot`) it decides nothing: when the next process
starts, and what counts as a failure, is the session's business (`farm.sessions`). Its
worker is known by its process id, which is a part of its name (`farm.life`), also when
it starts afresh in that process.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time

import msgspec

from farm import life, process, processor, shield
from farm.child import signal_name
from farm.health import WorkerHealthState
from farm.life import LifeLock
from farm.process import Identity
from farm.project import Project
from farm.words import plain

PATIENCE = 60.0  # seconds; a process that is not born, or has not ended, is killed


class SessionSlot:
    """See the module's docstring. All times are monotonic seconds."""

    def __init__(
        self, project: Project, session: str, state: WorkerHealthState
    ) -> None:
        self.state = state
        self.born = False  #: its worker has come alive
        self.recovers = False  #: its start, not over yet, is a recovery
        self.spent = False  #: its worker failed a task, and ends
        self.owed: list[int] = []  #: tasks to try again when it is recovered
        self.trouble = ""  #: how the last process ended
        self.given_up = False
        self._project = project
        self._number = f"{session}/{state.worker_id}"
        self._popen: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._who: Identity | None = None  # its process
        self._due = float("inf")  # monotonic; it is to be born, or to have ended
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`

    @property
    def works(self) -> bool:
        """Whether a task that is dropped now finds it ready, or soon."""
        return self.born and not self.spent

    @property
    def is_starting(self) -> bool:
        """Whether a birth is to be looked for."""
        return self._popen is not None and not self.born

    @property
    def pidfd(self) -> list[int]:
        """What shows that its process has ended."""
        return [] if self._popen is None else [self._pidfd]

    def start(self, now: float, *, recovers: bool) -> None:
        """Start a process; if the machine cannot, it `has_ended` at once."""
        self.born, self.spent, self.recovers = False, False, recovers
        self._due = now + PATIENCE
        root = self._project.root
        command = [sys.executable, "-P", "-m", "farm", "worker", root]
        try:
            with shield.handed(os.environ) as to:
                popen = subprocess.Popen(
                    [*command, "--supervisor", str(os.getpid()), *to.words],
                    cwd=root,
                    env={**to.env, processor.SLOT: self._number},
                    pass_fds=to.fds,
                    stdin=subprocess.DEVNULL,
                    stdout=self._said,
                    stderr=self._said,
                    start_new_session=True,  # Ctrl-C at the terminal is ours to pass on
                )
        except OSError as error:
            self.trouble = f"cannot be started: {error.strerror}"
            return
        self._popen, self._pidfd = popen, os.pidfd_open(popen.pid)
        self._who = msgspec.structs.replace(process.identify(), pid=popen.pid)

    def has_ended(self) -> bool:
        """Whether its process is gone, and another may follow."""
        if self.given_up:
            return False
        return self._popen is None or self._popen.poll() is not None

    def is_born(self) -> bool:
        """Whether its worker holds its life lock now."""
        names = self._project.worker_names()
        ours = [name for name in names if self.ran(name)]
        return any(life.observe(self._project, n) is LifeLock.HELD for n in ours)

    def ran(self, worker: str) -> bool:
        """Whether a worker of this name is, or was, the one in this slot."""
        return self._who is not None and life.was_born_in(self._who, worker)

    def spend(self, now: float) -> None:
        """Its worker failed a task, and will end by itself (`farm.processor`)."""
        self.spent, self._due = True, now + PATIENCE

    def look_after(self, now: float) -> None:
        """Welcome a worker that has come alive; end one that takes too long."""
        if self.is_starting and self.is_born():
            self.born, self._due = True, float("inf")
        if now >= self._due:
            self.send(signal.SIGKILL)

    def reap(self) -> str:
        """Forget the process that ended; its signal or exit code, in a word or two."""
        if self._popen is None:
            return "OSError"
        code = self._popen.wait()
        os.close(self._pidfd)
        self._popen = None
        how = signal_name(-code) if code < 0 else f"exit code {code}"
        self.trouble = f"ended with {how}{self._last_words()}"
        return how

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return f" ({plain(lines[-1])})" if lines else ""

    def send(self, number: int) -> None:
        """Send a signal to its process, if there is one."""
        if self._popen is not None:
            self._popen.send_signal(number)

    def wait_gone(self, until: float) -> bool:
        """Whether no process is left by that time."""
        if self._popen is None:
            return True
        return process.wait_gone(self._pidfd, until - time.monotonic())

    def close(self) -> None:
        """Reap what has ended, and give all back."""
        self.reap()
        self._said.close()
