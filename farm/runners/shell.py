"""Run a command: a `run` task.

A string goes to `sh -c`, a list is executed as it is. stdout and stderr go
straight into the attempt's two log files, so output of any size and any bytes
costs this process nothing.

The command ends by itself, at its deadline, because it is cancelled or because the
worker must stop at once; but for the first its whole group gets TERM, the grace, and
KILL. When `run` returns, nothing of its group runs.
"""

import errno
import os
import time
from contextlib import suppress
from functools import lru_cache

import msgspec

from farm import disk, process
from farm.child import Child, Command, Exit
from farm.errors import MACHINE, TaskFileError
from farm.job import Job, environment, working_folder
from farm.ledger import Child as ChildLine
from farm.result import CANCELLED, Error, Outcome
from farm.states import Why

_LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_OURS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO must not block us
_KILLED = 128 + 9  # how a shell passes on that its command was killed
_LAST_WORDS = 300  # bytes of stderr from which the last line goes into the reason


def run(job: Job) -> Outcome:
    """Run the command of a claimed task to its end."""
    logs = {suffix: job.log(suffix) for suffix in ("out", "err")}
    fds: list[int] = []
    try:
        fds = [_open_log(logs["out"])]
        fds.append(_open_log(logs["err"]))
        outcome = _run(job, fds[0], fds[1])
    except TaskFileError as fault:
        outcome = Outcome(Why.FAILED, error=Error("environment", str(fault)))
    except (OSError, ValueError) as error:
        outcome = _not_started(job, error)
    finally:
        sizes = [os.fstat(fd).st_size for fd in fds]
        for fd in fds:
            os.close(fd)
    return _with_logs(outcome, list(logs.values()), sizes)


def _open_log(path: str) -> int:
    """An empty file, whatever lay there: a link or a FIFO is nobody's output."""
    try:
        return os.open(path, _LOG_FLAGS | _OURS, disk.FILE_MODE)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
    disk.unlink(path)
    return os.open(path, _LOG_FLAGS | _OURS, disk.FILE_MODE)


def _run(job: Job, stdout: int, stderr: int) -> Outcome:
    task, ledger = job.claim.task, job.claim.hold.ledger
    argv = (
        ["/bin/sh", "-c", task.run]
        if isinstance(task.run, str)
        else list(task.run or ())
    )
    env = environment(job)
    command = Command(argv, working_folder(job), env, stdout, stderr, ledger.fd)
    started = time.monotonic()
    oom_kills = _oom_kills_within(int(started))
    child = Child.start(command)
    try:
        ledger.append(ChildLine(job.claim.opened.token, child.group, child.ticks))
        why = _wait(job, child, started)
    finally:
        ended = child.end(job.stop.bell)
    killed = ended.signal == "SIGKILL" or ended.code == _KILLED
    out_of_memory = killed and process.oom_kills() > oom_kills
    if killed:
        _oom_kills_within.cache_clear()  # the next must not be taken for it
    return _outcome(job, why, ended, out_of_memory=out_of_memory)


@lru_cache(maxsize=1)
def _oom_kills_within(_second: int) -> int:
    """How many there were when the first command of a second started.

    To ask the kernel takes longer than quick commands should wait for, so a kill of up
    to a second before its start may be held to be a killed command's own.
    """
    return process.oom_kills()


def _wait(job: Job, child: Child, started: float) -> Why:
    """Until it ends by itself, its time is up or we must stop; says which."""
    timeout = job.claim.opened.timeout
    why = Why.SUCCEEDED
    while True:
        left = None if timeout is None else started + timeout - time.monotonic()
        if child.wait(job.stop.bell, left):
            return Why.SUCCEEDED
        if job.cancelled:
            why = Why.CANCELLED
            break
        if job.stop.now:
            why = Why.DRAINED
            break
        if left is not None and time.monotonic() >= started + (timeout or 0.0):
            why = Why.TIMED_OUT
            break
    child.terminate()
    until = time.monotonic() + job.settings.grace
    while (left := until - time.monotonic()) > 0:
        if child.wait(job.stop.bell, left):
            break
    return why


def _outcome(job: Job, why: Why, ended: Exit, *, out_of_memory: bool) -> Outcome:
    if why is Why.DRAINED:
        error = Error(
            "drained", f"ended because its worker was told to stop ({job.stop.reason})"
        )
    elif why is Why.CANCELLED:
        error = CANCELLED
    elif why is Why.TIMED_OUT:
        error = Error("timeout", f"timed out after {job.claim.opened.timeout:g} s")
    elif out_of_memory:
        message = "out of memory: the kernel ended it (SIGKILL)"
        why, error = Why.FAILED, Error("memory", message)
    elif ended.signal is not None:
        why, error = Why.FAILED, Error("signal", f"killed by {ended.signal}")
    elif ended.code not in job.claim.task.ok_exit_codes:
        why, error = Why.FAILED, Error("exit", f"exit code {ended.code}")
    else:
        return Outcome(Why.SUCCEEDED, exit_code=ended.code)
    return Outcome(why, exit_code=ended.code, signal=ended.signal, error=error)


def _not_started(job: Job, error: OSError | ValueError) -> Outcome:
    """Not the task's fault if the machine has no room for a process."""
    number = error.errno if isinstance(error, OSError) else None
    words = error.strerror if isinstance(error, OSError) else str(error)
    if number in MACHINE:
        return Outcome(Why.FAULT, error=Error("machine", f"could not start: {words}"))
    command = job.claim.task.run
    name = "sh" if isinstance(command, str) else (command or [""])[0]
    message = f"cannot start {name}: {words}"
    return Outcome(Why.FAILED, error=Error("spawn", message, type=type(error).__name__))


def _with_logs(outcome: Outcome, paths: list[str], sizes: list[int]) -> Outcome:
    kept: list[str | None] = []
    for path, size in zip(paths, sizes, strict=False):  # opening the second may fail
        if size == 0:
            with suppress(OSError):  # this only tidies up: what ran has run
                disk.unlink(path)
        kept.append(path if size else None)
    out, err = [*kept, None, None][:2]
    error = outcome.error
    if error is not None and error.kind == "exit" and (said := _last_line(err)):
        error = msgspec.structs.replace(error, message=f"{error.message}: {said}")
    return msgspec.structs.replace(outcome, error=error, stdout=out, stderr=err)


def _last_line(path: str | None) -> str:
    """What a command said last on stderr: usually why it failed."""
    if path is None:
        return ""
    tail, _ = disk.read_tail(path, _LAST_WORDS)
    lines = tail.decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""
