"""What a storm's tasks do: note that they run, hold on, fail as planned, note the end.

Copied into the storm's project, where workers import it (`work:body`) or start it
(`python work.py ...`). It uses the standard library alone and nothing of farm: what
it notes is the storm's independent record.

    marks/<id>        locked from the beginning to the end, by all processes of an
                      attempt: who cannot have the lock has caught two at once
    marks/<id>.log    a line for each beginning and end, appended in one write
    marks/VIOLATIONS  a line for each fact that must never be
"""

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(os.environ.get("FARM_PROJECT", "."))
MARKS = ROOT / "marks"


class PlannedError(Exception):
    """A failure that the storm wants."""


def note(task_id: str, *words: object) -> None:
    """Add a line to a task's own log: attempt, token, time, process, words."""
    said = (
        os.environ["FARM_ATTEMPT"],
        os.environ["FARM_TOKEN"],
        f"{time.time():.4f}",
        os.getpid(),
        *words,
    )
    _append(f"{task_id}.log", " ".join(map(str, said)))


def _append(name: str, line: str) -> None:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    fd = os.open(f"{MARKS}/{name}", flags, 0o644)
    os.write(fd, f"{line}\n".encode())
    os.close(fd)


def begin(task_id: str) -> int:
    """Note that an attempt runs; the descriptor that says so as long as it is open."""
    fd = os.open(f"{MARKS}/{task_id}", os.O_RDWR | os.O_CREAT, 0o644)
    os.set_inheritable(fd, True)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _append("VIOLATIONS", f"{task_id} ran twice at once")
    result = ROOT / "tasks" / f"{task_id}.result.json"
    if result.exists() and result.stat().st_size > 0:
        _append("VIOLATIONS", f"{task_id} ran although it had a result")
    note(task_id, "begin")
    return fd


def failures(task_id: str) -> int:
    """How often this task has failed as planned so far."""
    with (MARKS / f"{task_id}.log").open() as log:
        return sum(line.split()[4] == "fail" for line in log)


def body(task_id: str, fails: int, hold: float, forks: int) -> str:
    """A `call` task; forked children outlive a failure, so farm must end them."""
    fd = begin(task_id)
    try:
        children = [_fork(hold, alone=bool(number)) for number in range(forks)]
        time.sleep(hold)
        if failures(task_id) < fails:
            note(task_id, "fail")
            raise PlannedError
        for child in children:
            os.waitpid(child, 0)
        note(task_id, "done")
        return task_id
    finally:
        os.close(fd)


def _fork(hold: float, *, alone: bool) -> int:
    child = os.fork()
    if child == 0:
        if alone:
            os.setsid()
        time.sleep(hold + 0.2)
        os._exit(0)
    return child


def main(task_id: str, fails: str, hold: str, session: str) -> int:
    """A `run` task; its grandchild may sit in a session of its own."""
    fd = begin(task_id)
    shell = ["sh", "-c", "sleep 0.2; sleep 0.1"]
    child = subprocess.Popen(shell, close_fds=False, start_new_session=session == "own")
    time.sleep(float(hold))
    if failures(task_id) < int(fails):
        note(task_id, "fail")
        return 3
    child.wait()
    note(task_id, "done")
    os.close(fd)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
