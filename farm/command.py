"""Execute one command for a claimed task, to its end, with its two logs.

    ended = execute(job, Plan(argv, env, cwd))

What every runner that starts a program shares: stdout and stderr go straight into the
attempt's two log files, so output of any size and any bytes costs this process nothing
(but if it was given secrets, a pump takes them out of what it prints: `farm.pump`);
the ledger gets its `child` line; and the command ends by itself, at its deadline,
because it is cancelled or because the worker must stop at once. But for the first its
whole group gets the signals of its plan, a grace after each, and then KILL. When
`execute` returns or raises, nothing of its group runs. What an exit code means is the
runner's business.
"""

import errno
import math
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

import msgspec

from farm import disk, middle, process, program
from farm.child import Child, Command, Exit
from farm.errors import MACHINE
from farm.guard import Computed, Guard, Limits, Printed, Signs
from farm.job import Job, drained
from farm.ledger import Child as ChildLine
from farm.result import CANCELLED, Error, Outcome
from farm.states import Why
from farm.stop import ENDING

_LOG_FLAGS = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_OURS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO must not block us
_KILLED = 128 + 9  # how a shell passes on that its command was killed
_ENDING_NAMES = {number.name for number in ENDING}
_ENDING_CODES = {128 + number for number in ENDING}  # as a shell passes them on
_SAME_BLOW = 0.5  # seconds between the first and the last process that is signalled
_LAST_WORDS = 300  # bytes of stderr from which `last_line` takes it
_SUFFIXES = ("out", "err")


class Plan(msgspec.Struct, frozen=True):
    """What to execute: the whole environment, and a folder with all links followed."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    stdin: int | None = None  #: a descriptor; None for an empty one
    signals: tuple[int, ...] = (signal.SIGTERM,)  #: ask it to end, one after the other
    secrets: tuple[str, ...] = ()  #: what is in `env` and must not be in a log
    idle: float | None = None  #: seconds without a sign of work; None: any time
    #: those in its stdout, of a leader that began so (ticks); None: all that it does
    signs: Callable[[int, int], Signs] | None = None


class Ended(msgspec.Struct, frozen=True):
    """How a command ended; `stdout` and `stderr` are paths, None for nothing printed.

    `SUCCEEDED` means: by itself, with the exit code that `exit` tells, whichever that
    is. Otherwise `error` says why.
    """

    why: Why
    exit: Exit
    error: Error | None
    stdout: str | None
    stderr: str | None
    lingered: bool = False  #: it had said that all was done, and was ended


def execute(job: Job, plan: Plan) -> Ended:
    """Run it to its end. OSError or ValueError if it could not be started or noted."""
    paths = [job.log(suffix) for suffix in _SUFFIXES]
    fds: list[int] = []
    try:
        fds.append(_open_log(paths[0]))
        fds.append(_open_log(paths[1]))
        ended = _printing(job, plan, fds)
    finally:
        job.quiet.over()
        printed = _close_logs(paths, fds, job.most_output)
    return msgspec.structs.replace(ended, stdout=printed[0], stderr=printed[1])


def not_started(job: Job, name: str, error: OSError | ValueError) -> Outcome:
    """What `execute` raised, as an outcome: the machine's fault if it had no room."""
    number = error.errno if isinstance(error, OSError) else None
    words = error.strerror if isinstance(error, OSError) else str(error)
    if number in MACHINE:
        why, told = Why.FAULT, Error("machine", f"could not start: {words}")
    else:
        message = f"cannot start {name}: {words}"
        why, told = Why.FAILED, Error("spawn", message, type=type(error).__name__)
    # Something is there if it ran and only the ledger took no note of it.
    there = [p if os.path.isfile(p) else None for p in map(job.log, _SUFFIXES)]
    return Outcome(why, error=told, stdout=there[0], stderr=there[1])


def last_line(path: str | None) -> str:
    """What a command said last on stderr: usually why it failed."""
    if path is None:
        return ""
    tail, _ = disk.read_tail(path, _LAST_WORDS)
    lines = tail.decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""


# -- its logs --------------------------------------------------------------------


def _open_log(path: str) -> int:
    """An empty file, whatever lay there: a link or a FIFO is nobody's output."""
    try:
        return os.open(path, _LOG_FLAGS | _OURS, disk.FILE_MODE)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
    disk.unlink(path)
    return os.open(path, _LOG_FLAGS | _OURS, disk.FILE_MODE)


def _close_logs(paths: list[str], fds: list[int], most: int) -> list[str | None]:
    """The paths of those that hold something; the others are removed."""
    kept: list[str | None] = []
    sizes = [os.fstat(fd).st_size for fd in fds]
    if sum(sizes) > most:
        middle.cut_to(fds, most)
    for path, fd, size in zip(paths, fds, sizes, strict=False):  # the second may fail
        os.close(fd)
        if size == 0:
            with suppress(OSError):  # this only tidies up: what ran has run
                disk.unlink(path)
        kept.append(path if size else None)
    return kept


def _printing(job: Job, plan: Plan, logs: list[int]) -> Ended:
    """Into the logs; through a pump if there are secrets to keep out of them."""
    if not plan.secrets:
        return _execute(job, plan, logs, logs)
    from farm.pump import Pump  # noqa: PLC0415 - most commands have no secrets
    from farm.redact import Redactor  # noqa: PLC0415 - as above

    with Pump(logs, Redactor(plan.secrets)) as pump:
        return _execute(job, plan, logs, pump.ends)


# -- its life --------------------------------------------------------------------


def _execute(job: Job, plan: Plan, logs: list[int], ends: list[int]) -> Ended:
    ledger = job.claim.hold.ledger
    command = Command(
        plan.argv, plan.cwd, plan.env, ends[0], ends[1], ledger.fd, plan.stdin
    )
    started = time.monotonic()
    oom_kills = _oom_kills_within(int(started))
    child = _started(command)
    try:
        ledger.append(ChildLine(job.claim.opened.token, child.group, child.ticks))
        end = _wait(job, child, started, _Watch(job, plan, logs, child))
        if end is not _BY_ITSELF:
            _ask_to_end(job, child, plan.signals)
    finally:
        ended = child.end(job.stop.bell)
    if end is _BY_ITSELF and _shared_our_stop(job, ended):
        end = _End(Why.DRAINED)
    killed = ended.signal == "SIGKILL" or ended.code == _KILLED
    out_of_memory = killed and process.oom_kills() > oom_kills
    if killed:
        _oom_kills_within.cache_clear()  # the next must not be taken for it
    return _judged(job, end, ended, out_of_memory=out_of_memory)


def _started(command: Command) -> Child:
    """OSError in words that name the true cause, which the kernel's do not always."""
    try:
        return Child.start(command)
    except OSError as error:
        if error.errno in MACHINE:
            raise
        places = command.env.get("PATH", os.defpath)
        fault = program.why_refused(command.argv[0], command.cwd, places)
        if fault is None:
            raise
        raise OSError(error.errno, fault) from error


@lru_cache(maxsize=1)
def _oom_kills_within(_second: int) -> int:
    """How many there were when the first command of a second started.

    To ask the kernel takes longer than quick commands should wait for, so a kill of up
    to a second before its start may be held to be a killed command's own.
    """
    return process.oom_kills()


class _End(NamedTuple):
    """Why nobody waits for a command any more."""

    why: Why
    error: Error | None = None
    lingers: bool = False  #: all has been done, and it has not ended


_BY_ITSELF = _End(Why.SUCCEEDED)
_LINGERS = _End(Why.SUCCEEDED, lingers=True)


class _Watch:
    """A running command's guard, from its first heartbeat on: most end before it."""

    def __init__(self, job: Job, plan: Plan, logs: list[int], child: Child) -> None:
        self._job = job
        self._child = child
        self._plan = plan
        self._logs = logs
        self._guard: Guard | None = None
        self._final_at: float | None = None
        self.due = time.monotonic() + job.settings.heartbeat  #: for the next look

    def look(self, now: float) -> _End | None:
        """Why it must end; None if it may go on."""
        if now < self.due:
            return None
        self.due = now + self._job.settings.heartbeat
        guard = self._guard = self._guard or self._begun(now)
        verdict = guard.look(now)
        self._job.quiet.note(guard, time.time())
        if guard.is_final:
            return self._linger(now)
        self._final_at = None
        return _End(verdict.why, verdict.error) if verdict else None

    def _linger(self, now: float) -> _End | None:
        """All has been done: for a grace it may still tidy up."""
        if self._final_at is None:
            self._final_at = now
        over = self._final_at + self._job.settings.grace
        self.due = min(self.due, over)
        return _LINGERS if now >= over else None

    def has_done_all(self) -> bool:
        """Whether it said so, perhaps in this moment."""
        self.due = -math.inf
        return self.look(time.monotonic()) is _LINGERS or self._final_at is not None

    def _begun(self, now: float) -> Guard:
        job, plan = self._job, self._plan
        limits = Limits(job.most_output, plan.idle, job.settings.heartbeat)
        if plan.signs is not None:
            signs = plan.signs(self._logs[0], self._child.ticks)
        else:
            computed = Computed(job.claim.opened.token)
            signs = Printed(self._logs, job.scratch.progress, computed)
        return Guard(limits, self._logs, signs, now - job.settings.heartbeat)


def _wait(job: Job, child: Child, started: float, watch: _Watch) -> _End:
    """Until it has ended by itself or must end; says which."""
    timeout = job.claim.opened.timeout
    deadline = math.inf if timeout is None else started + timeout
    while True:
        pause = min(watch.due, deadline) - time.monotonic()
        if child.wait(job.stop.bell, max(0.0, pause)):
            return _BY_ITSELF
        if job.cancelled:
            return _End(Why.CANCELLED)
        if job.stop.now:
            return _End(Why.DRAINED)
        now = time.monotonic()
        if (end := watch.look(now)) is not None:
            return end
        if now >= deadline:
            return _LINGERS if watch.has_done_all() else _End(Why.TIMED_OUT)


def _ask_to_end(job: Job, child: Child, signals: tuple[int, ...]) -> None:
    for signum in signals:
        child.terminate(signum)
        until = time.monotonic() + job.settings.grace
        while (left := until - time.monotonic()) > 0:
            if child.wait(job.stop.bell, left):
                return


def _shared_our_stop(job: Job, ended: Exit) -> bool:
    """Whether what told us to stop has ended the command as well.

    A service manager signals every process at once; so does `kill` to a group. A command
    whose task says that this exit code is well has done what it should.
    """
    by_signal = ended.signal in _ENDING_NAMES or ended.code in _ENDING_CODES
    if not by_signal or ended.code in job.claim.task.ok_exit_codes:
        return False
    # RACE: the same blow may still be on its way to us, or come through our supervisor.
    until = time.monotonic() + _SAME_BLOW
    while not job.stop.soon and (left := until - time.monotonic()) > 0:
        job.stop.bell.wait(left)
    return job.stop.soon


def _judged(job: Job, end: _End, exit_: Exit, *, out_of_memory: bool) -> Ended:
    why, error = end.why, end.error
    if why is Why.DRAINED:
        error = drained(job)
    elif why is Why.CANCELLED:
        error = CANCELLED
    elif why is Why.TIMED_OUT:
        timeout = job.claim.opened.timeout
        error = error or Error("timeout", f"timed out after {timeout:g} s")
    elif end is not _BY_ITSELF:
        pass  # it is known why
    elif out_of_memory:
        message = "out of memory: the kernel ended it (SIGKILL)"
        why, error = Why.FAILED, Error("memory", message)
    elif exit_.signal is not None:
        why, error = Why.FAILED, Error("signal", f"killed by {exit_.signal}")
    return Ended(why, exit_, error, None, None, lingered=end.lingers)
