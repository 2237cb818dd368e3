"""A farm to measure: a project in a fresh folder, its task files, its processes.

    farm = Farm(folder)                   an empty project
    farm.drop(10_000, CALL)               task files, before anything runs
    farm.work(2)                          two workers until all is done
    farm.rate()                           tasks a second

What is measured is seen from outside and by no clock of farm's own: a task has ended
when its result file was written, so the rate counts from the first result to the last
by the files' mtimes, and no start of a process is in it. Processor time is what the
kernel says of a process and all its children (`wait4`).

Drops write the same few bytes under names in order; the folder is new each time.
"""

import os
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
PLUG = Path(__file__).parent / "plug"
CALL = b'{"call": "quick:nothing"}'
RUN = b'{"run": ["true"]}'
BURN = b'{"call": "quick:burn"}'
BURNT = 0.010  # seconds of processor time in each of those
QUICK = f"""
import time


def nothing():
    pass


def now():
    return time.time()


def fail():
    raise ValueError("as planned")


def burn():
    until = time.process_time() + {BURNT}
    while time.process_time() < until:
        pass
"""
PATIENCE = 300.0  # seconds that one measured thing may last
PATIENCE_TO_STOP = 15.0  # seconds
LOOK = 0.005  # seconds between two looks at whether something is so
ENDING = ".result.json"
WORKERS = 2
FOREIGN = ("FARM_", "ANTHROPIC_")  # settings and keys of who measures
SAMPLED = 100  # one of so many results is read, to see that its task succeeded


class GaveUpError(Exception):
    """What was to be measured did not happen; the sentence says what."""


class Used(NamedTuple):
    """What a process and its children took, as the kernel counts it."""

    seconds: float  #: by the clock
    processor: float  #: seconds, user and system


class Farm:
    """One project; see the module's docstring."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tasks = root / "tasks"
        self.tasks.mkdir(parents=True)
        (root / "quick.py").write_text(QUICK)
        self._dropped = 0

    def drop(self, count: int, raw: bytes) -> None:
        """Add so many task files with these bytes."""
        numbers = range(self._dropped, self._dropped + count)
        write_files(self.tasks, ((f"{self.name(n)}.json", raw) for n in numbers))
        self._dropped += count

    @staticmethod
    def name(number: int) -> str:
        """The id of a task by its number."""
        return f"t{number:07}"

    def command(self, *arguments: str) -> list[str]:
        """A command of farm, as it runs from this tree."""
        return [sys.executable, "-P", "-m", "farm", *arguments]

    def start(self, *arguments: str, **environ: str) -> "subprocess.Popen[bytes]":
        """Start a command of farm in the project; what it says is not kept."""
        return self.start_command(self.command(*arguments), **environ)

    def start_command(
        self, command: Sequence[str], **environ: str
    ) -> "subprocess.Popen[bytes]":
        """Start any command in the project, so that Python finds this tree's farm."""
        return start(
            command,
            self.root,
            PYTHONPATH=os.pathsep.join([str(PLUG), str(ROOT)]),
            **environ,
        )

    def work(self, workers: int, **environ: str) -> Used:
        """So many workers, without a supervisor, until all is done."""
        started = [self.worker(**environ) for _ in range(workers)]
        used = [finish(popen) for popen in started]
        seconds, processor = zip(*used, strict=True)
        return Used(max(seconds), sum(processor))

    def worker(self, **environ: str) -> "subprocess.Popen[bytes]":
        """A worker without a supervisor, as quiet as it is under one."""
        us = str(os.getpid())
        return self.start("worker", ".", "--until-done", "--supervisor", us, **environ)

    def endings(self) -> list[float]:
        """When each result was written, POSIX seconds in order."""
        return endings(self.tasks, ENDING)

    def has_begun(self, since: float) -> bool:
        """Whether a task has ended since then, in a folder too large to look at."""
        journals = (self.root / ".farm" / "journal").glob("*")
        return any(path.stat().st_mtime > since for path in journals)

    def rate(self) -> float:
        """Tasks a second, if all have ended, and well."""
        times = self.endings()
        if len(times) != self._dropped:
            raise GaveUpError(f"{len(times)} of {self._dropped} tasks ended")
        for number in range(0, self._dropped, SAMPLED):
            raw = (self.tasks / f"{self.name(number)}{ENDING}").read_bytes()
            if b'"status":"succeeded"' not in raw:
                raise GaveUpError(f"a task did not succeed: {raw.decode()}")
        return rate(times)


# -- files ---------------------------------------------------------------------------


def write_files(folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write many small files, quickly."""
    folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name, raw in files:
            flags = os.O_CREAT | os.O_WRONLY | os.O_EXCL
            fd = os.open(name, flags, 0o644, dir_fd=folder_fd)
            os.write(fd, raw)
            os.close(fd)
    finally:
        os.close(folder_fd)


def endings(folder: Path, ending: str) -> list[float]:
    """The mtimes of all files whose name ends so, in order."""
    with os.scandir(folder) as entries:
        found = [e.stat().st_mtime for e in entries if e.name.endswith(ending)]
    return sorted(found)


def rate(times: Sequence[float], within: float = float("inf")) -> float:
    """Ends a second, from the first to the last."""
    inside = [t for t in times if t - times[0] <= within]
    if len(inside) < 2 or inside[-1] == inside[0]:
        raise GaveUpError(f"only {len(inside)} tasks ended")
    return (len(inside) - 1) / (inside[-1] - inside[0])


# -- processes -----------------------------------------------------------------------


def start(
    command: Sequence[str], folder: Path, **environ: str
) -> "subprocess.Popen[bytes]":
    """A process in a session of its own; what it says goes to `said.log` there."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        # With that one farm would be compiled at each start, and no installed one is.
        if not name.startswith(FOREIGN) and name != "PYTHONDONTWRITEBYTECODE"
    }
    with (folder / "said.log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=inherited | environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def finish(popen: "subprocess.Popen[bytes]") -> Used:
    """Wait for its end. GaveUpError if it failed, or takes for ever."""
    began = time.monotonic()
    ended: list[tuple[int, resource.struct_rusage]] = []

    def has_ended() -> bool:
        pid, status, used = os.wait4(popen.pid, os.WNOHANG)
        if pid:
            ended.append((os.waitstatus_to_exitcode(status), used))
        return bool(pid)

    wait_until(has_ended, f"the end of {said(popen)}")
    popen.returncode, used = ended[0]
    if popen.returncode != 0:
        raise GaveUpError(f"{said(popen)} ended with {popen.returncode}")
    return Used(time.monotonic() - began, used.ru_utime + used.ru_stime)


def stop(popen: "subprocess.Popen[bytes]") -> None:
    """End it as a user would, and then for good."""
    if popen.returncode is not None:
        return
    popen.terminate()
    try:
        popen.wait(PATIENCE_TO_STOP)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()


def said(popen: "subprocess.Popen[bytes]") -> str:
    """Its command, to read."""
    arguments = popen.args
    return shlex.join(map(str, arguments) if isinstance(arguments, list) else [])


def wait_until(is_so: Callable[[], object], what: str, pause: float = LOOK) -> None:
    """Look every few milliseconds; GaveUpError if it does not come."""
    over = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > over:
            raise GaveUpError(f"waited {PATIENCE:g} s in vain for {what}")
        time.sleep(pause)
