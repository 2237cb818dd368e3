"""A command as a process group: start it, wait for it, end all of it.

Order of calls: `Child.start(...)` -> `wait` as often as you like -> `end()`,
always: when it returns nobody in the group runs any more.

The child inherits one descriptor, the task's ledger: *the lock follows the
work*. If the worker is killed, the command keeps the task locked until it ends
or is found and ended (`farm.rescue`).

While the leader's exit status is not collected, its number cannot be used
again. So the group is killed first and the leader reaped after that; only then
is the group asked whether it is empty.
"""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec

from farm import process
from farm.bell import Bell

_EMPTY_CHECK = 0.05  # seconds between two looks at a group that will not end


class Command(msgspec.Struct, frozen=True):
    """What to start. Paths are absolute; `lock` is the ledger's descriptor."""

    argv: Sequence[str]
    cwd: str
    env: Mapping[str, str]
    stdout: int
    stderr: int
    lock: int
    stdin: int | None = None  #: None for an empty one


class Exit(msgspec.Struct, frozen=True):
    """How the leader ended: exactly one of the two is set."""

    code: int | None
    signal: str | None  #: its name, "SIGSEGV"


class Child:
    """A running command and all that it started in its own group."""

    def __init__(self, popen: "subprocess.Popen[bytes]", ticks: int) -> None:
        self._popen = popen
        self.group = popen.pid
        self.pidfd = os.pidfd_open(popen.pid)
        self.ticks = ticks

    @classmethod
    def start(cls, command: Command) -> "Child":
        """Start it in its own session; OSError or ValueError if that fails."""
        program = _program(command)
        earliest = process.ticks_now()
        popen = subprocess.Popen(
            command.argv,
            executable=program,
            cwd=command.cwd,
            env=command.env,
            stdin=subprocess.DEVNULL if command.stdin is None else command.stdin,
            stdout=command.stdout,
            stderr=command.stderr,
            pass_fds=(command.lock,),
            start_new_session=True,
        )
        latest = process.ticks_now()
        try:
            return cls(popen, _ticks(popen.pid, earliest, latest))
        except OSError:  # no descriptor for its pidfd: nobody could wait for it
            os.killpg(popen.pid, signal.SIGKILL)
            popen.wait()
            raise

    def has_ended(self) -> bool:
        """Whether the leader is dead. It is not reaped by asking."""
        flags = os.WEXITED | os.WNOWAIT | os.WNOHANG
        return os.waitid(os.P_PID, self.group, flags) is not None

    def wait(self, bell: Bell, timeout: float | None) -> bool:
        """Until the leader is dead, the bell rings or `timeout` seconds passed."""
        bell.wait(timeout, self.pidfd)
        return self.has_ended()

    def terminate(self, signum: int = signal.SIGTERM) -> None:
        """Ask the whole group to end."""
        with suppress(ProcessLookupError, PermissionError):
            # The leader is not reaped, so the number is ours. A group that became
            # another user's (sudo, say) can only be waited for.
            os.killpg(self.group, signum)

    def end(self, bell: Bell) -> Exit:
        """Kill what is left of the group and wait until it is empty."""
        self.terminate(signal.SIGKILL)
        code = self._popen.wait()
        os.close(self.pidfd)
        while self._somebody_left():
            bell.wait(_EMPTY_CHECK)  # killed, but not gone: an uninterruptible wait
        if code < 0:
            return Exit(None, signal_name(-code))
        return Exit(code, None)

    def _somebody_left(self) -> bool:
        try:
            os.killpg(self.group, 0)
        except ProcessLookupError:
            return False  # the usual case, without a look through /proc
        except PermissionError:
            pass  # somebody is left who changed its user
        return any(process.find(self._is_member))

    def _is_member(self, pid: int) -> bool:
        found = process.stat(pid)
        return found is not None and found.group == self.group


def _program(command: Command) -> str | None:
    """Where on its own PATH the program lies; None leaves the search to `execve`.

    That goes through folder after folder, and a refusal costs it many times this look.
    """
    name = command.argv[0]
    if "/" in name:
        return None
    for folder in command.env.get("PATH", os.defpath).split(os.pathsep):
        if not folder.startswith("/"):
            return None  # seen from the command's folder, which is not ours
        path = f"{folder}/{name}"
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return None


def _ticks(pid: int, earliest: int, latest: int) -> int:
    """When a child of ours started; /proc is slow to tell it of a new process."""
    if earliest == latest:
        return earliest
    leader = process.stat(pid)
    return leader.ticks if leader else 0


def signal_name(number: int) -> str:
    """`SIGKILL` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"  # a real-time signal has no name
