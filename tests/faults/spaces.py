"""Processes of a farm in namespaces of their own: containers without a container.

    box = Container(farm)                # PIDs and /proc of its own
    worker = box.start_worker(pid=500)   # its number inside
    farm.kill(inner(worker))             # its number outside
    box.end()                            # everything in it is killed

A container has an init that reaps what it adopts; processes enter it later, as
with `docker exec`. The project is the same folder inside and outside.
"""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from tests.driver import Farm
from tests.faults.tools import NSENTER, UNSHARE
from tests.waiting import wait_until

OWN_PROC = "--mount-proc"
_INIT = """
import pathlib, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
pathlib.Path(sys.argv[1]).touch()
while True:
    signal.pause()
"""
_AS_PID = 'echo $(($0 - 1)) > /proc/sys/kernel/ns_last_pid; "$@" & wait $!'


def farm_command(farm: Farm, verb: str, *args: str) -> list[str]:
    """A verb of farm on this project, from any folder."""
    return [sys.executable, "-P", "-m", "farm", "-C", str(farm.root), verb, *args]


def born(farm: Farm, popen: "subprocess.Popen[bytes]", before: set[str]) -> str:
    """Wait for the worker that was not there before; its name."""
    names: set[str] = wait_until(
        lambda: set(farm.worker_names()) - before, on_timeout=farm.describe
    )
    return names.pop()


def inner(popen: "subprocess.Popen[bytes]") -> int:
    """The process at the end of the prefixes, by its number outside.

    Each prefix starts the rest of its own command line.
    """
    whole = list(popen.args)  # type: ignore[arg-type]  # what `start_command` gave it

    def at_the_end() -> int:
        found = {}
        for process in psutil.Process(popen.pid).children(recursive=True):
            with suppress(psutil.Error):  # it ended while we looked
                words = process.cmdline()
                if words and whole[-len(words) :] == words:
                    found[len(words)] = process.pid
        shortest = min(found, default=len(whole))
        is_prefix = whole[-shortest] in ("sh", "nsenter", "unshare", "setsid")
        return 0 if is_prefix else found[shortest]

    return wait_until(at_the_end)


def number_inside(pid: int) -> int:
    """The number of a process in the innermost namespace that it is in."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [numbers] = [line.split() for line in lines if line.startswith("NSpid:")]
    return int(numbers[-1])


def commands_of(farm: Farm, task_id: str) -> list[psutil.Process]:
    """Living processes of a task's command, in whatever container."""
    found = []
    for process in farm.left_behind():
        with suppress(psutil.Error):  # it ended while we looked
            if process.environ().get("FARM_TASK_ID") == task_id:
                found.append(process)
    return found


def command_with(farm: Farm, task_id: str, pid: int) -> psutil.Process:
    """The command of a task that has this process id in its container."""
    for process in commands_of(farm, task_id):
        with suppress(psutil.Error, OSError):  # the same
            if number_inside(process.pid) == pid:
                return process
    raise AssertionError(f"{task_id} has no command {pid}\n{farm.describe()}")


class Container:
    """A PID namespace in which processes of a farm are started."""

    def __init__(self, farm: Farm, *options: str) -> None:
        """`options` are of unshare; with none the container has its own /proc."""
        options = options or (OWN_PROC,)
        self.farm = farm
        ready = farm.root / f"container-{len(farm.processes)}"
        unshare = [
            *UNSHARE,
            "--pid",
            "--fork",
            "--kill-child",
            *options,
        ]
        self._unshare = farm.start_command(
            *unshare, sys.executable, "-c", _INIT, str(ready)
        )
        wait_until(ready.exists, on_timeout=farm.describe)
        spaces = {OWN_PROC: "--mount", "--uts": "--uts"}
        entered = ["--pid", *(spaces[option] for option in options if option in spaces)]
        self._enter = [*NSENTER, f"--target={inner(self._unshare)}", *entered]

    def named(self, host: str) -> "Container":
        """Give it a host name; it must have been made with --uts."""
        naming = f"import socket; socket.sethostname({host!r})"
        subprocess.run([*self._enter, sys.executable, "-c", naming], check=True)
        return self

    def start(
        self, *command: str, pid: int | None = None, **environ: str
    ) -> "subprocess.Popen[bytes]":
        """Start a command inside, if asked with this process id there."""
        as_pid = ["sh", "-c", _AS_PID, str(pid)] if pid else []
        return self.farm.start_command(*self._enter, *as_pid, *command, **environ)

    def start_verb(
        self, verb: str, *args: str, pid: int | None = None, **environ: str
    ) -> "subprocess.Popen[bytes]":
        """Start a verb of farm inside."""
        return self.start(*farm_command(self.farm, verb, *args), pid=pid, **environ)

    def start_worker(
        self, *, pid: int | None = None, **environ: str
    ) -> "subprocess.Popen[bytes]":
        """Start a worker inside and wait until it is born."""
        before = set(self.farm.worker_names())
        popen = self.start_verb("worker", pid=pid, **environ)
        born(self.farm, popen, before)
        return popen

    def run(self, verb: str, *args: str) -> "subprocess.CompletedProcess[str]":
        """Run a verb of farm inside to its end."""
        return subprocess.run(
            [*self._enter, *farm_command(self.farm, verb, *args)],
            cwd=self.farm.root,
            env=self.farm.environ,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    def end(self) -> None:
        """Kill everything inside, as the end of a container does."""
        self.farm.kill(self._unshare)
