"""A command as a process group: start it, wait for it, end all of it.

Order of calls: `Child.start(...)` -> `wait` as often as you like -> `end()`,
always: when it returns nothing of its session runs any more, in whatever group. What
made a session of its own is a daemon, and lives on.

The child inherits one descriptor, the task's ledger: *the lock follows the
work*. If the worker is killed, the command keeps the task locked until it ends
or is found and ended (`farm.rescue`).

While the leader's exit status is not collected, its number cannot be used
again. So the group and the session are killed first and the leader reaped after that;
only then is the group asked whether it is empty.
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec

from farm import poll, process
from farm.bell import Bell

_YOUNG = 1.0  # seconds, in which process ids do not go round
_REAPED = 3.0  # seconds, in which the slowest init that we met looks for the dead
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

    init_reaps = True  # as far as this process knows

    def __init__(self, popen: "subprocess.Popen[bytes]", ticks: int) -> None:
        self._popen = popen
        self.group = popen.pid
        self.pidfd = os.pidfd_open(popen.pid)
        self.ticks = ticks
        self._started = time.monotonic()

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
        """Kill what is left of the group and the session; wait until nothing is."""
        self.terminate(signal.SIGKILL)
        self._end_session(bell)
        code = self._popen.wait()
        os.close(self.pidfd)
        while self._somebody_left():
            bell.wait(_EMPTY_CHECK)  # killed, but not gone: an uninterruptible wait
        if code < 0:
            return Exit(None, signal_name(-code))
        return Exit(code, None)

    def _end_session(self, bell: Bell) -> None:
        """End what made a group of its own: a background job of a shell with `set -m`."""
        is_young = time.monotonic() - self._started < _YOUNG
        killed: set[int] = set()
        not_ours: set[int] = set()
        while left := self._members(is_young=is_young) - not_ours:
            is_young = False  # they may have forked for long
            for pid in left:
                (killed if self._kill(pid) else not_ours).add(pid)
            bell.wait(_EMPTY_CHECK)
        if killed:
            self._wait_reaped(killed)

    def _members(self, *, is_young: bool) -> set[int]:
        return set(process.session_members(self.group, is_young=is_young))

    def _kill(self, pid: int) -> bool:
        """Kill one of the session; False if it became another user's (sudo, say)."""
        try:
            fd = process.kill(pid, self._is_in_session)
        except PermissionError:
            return False
        if fd is not None:
            process.wait_gone(fd, _EMPTY_CHECK)
            os.close(fd)
        return True

    def _wait_reaped(self, killed: set[int]) -> None:
        """Until init has taken note of these, so that nobody sees them any more.

        Where it never does so (a container whose first process reaps nothing) that is
        waited for only once.
        """
        if not Child.init_reaps:
            return
        gone = poll.until(lambda: self._are_gone(killed) or None, _REAPED)
        Child.init_reaps = gone is not None

    def _are_gone(self, killed: set[int]) -> bool:
        return not any(process.session_of(pid) == self.group for pid in killed)

    def _is_in_session(self, pid: int) -> bool:
        return process.is_in_session(pid, self.group)

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
