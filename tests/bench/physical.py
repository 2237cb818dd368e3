"""The physical limit: the calls of one claim and one commit, and nothing else.

    limit = Physical.prepare(folder)      compiled with cc, where there is one
    limit.name                            "limit (C)" or "limit (Python)"
    limit.rate(project, 2)                tasks a second, with two processes

`physical.c` makes the calls. Where no compiler is, this file makes the same ones:
`python physical.py PROJECT PROCESSES` prints what the C program prints.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__)
CLAIMED, RESULT = b"x" * 330, b"x" * 480  # as long as farm writes them
OURS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Physical(NamedTuple):
    """A program that makes the calls."""

    name: str
    command: list[str]

    @classmethod
    def prepare(cls, folder: Path) -> "Physical":
        """Compile it into this folder, or take Python's."""
        compiler = shutil.which("cc")
        if compiler is None:
            return cls("limit (Python: no cc here)", [sys.executable, str(HERE)])
        program = folder / "physical"
        source = HERE.with_suffix(".c")
        subprocess.run([compiler, "-O2", "-o", program, source], check=True)
        return cls("limit (C)", [str(program)])

    def rate(self, project: Path, processes: int) -> float:
        """Do all tasks of a project as quickly as the file system lets one."""
        command = [*self.command, str(project), str(processes)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        count, seconds = done.stdout.split()
        return int(count) / float(seconds)


# -- the same calls in Python ------------------------------------------------------------


class Folders(NamedTuple):
    """Descriptors of the three folders."""

    tasks: int
    locks: int
    tmp: int


def is_ours(folders: Folders, fd: int, lock: str, size: int) -> bool:
    """Whether the path still names the file that was locked, as we left it."""
    here = os.fstat(fd)
    there = os.stat(lock, dir_fd=folders.locks, follow_symlinks=False)
    return os.path.samestat(here, there) and there.st_size == size


def claim(folders: Folders, task_id: str) -> int:
    """The descriptor of a lock file, locked and signed; the task has been read."""
    lock = f"task-{task_id}.lock"
    flags = os.O_CREAT | os.O_RDWR | os.O_APPEND | OURS
    fd = os.open(lock, flags, 0o600, dir_fd=folders.locks)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert is_ours(folders, fd, lock, 0)
    result = f"{task_id}.result.json"
    assert not os.access(result, os.F_OK, dir_fd=folders.tasks, follow_symlinks=False)
    task = os.open(f"{task_id}.json", os.O_RDONLY | OURS, dir_fd=folders.tasks)
    assert os.read(task, 1 << 16)
    os.close(task)
    os.write(fd, CLAIMED)
    return fd


def commit(folders: Folders, fd: int, task_id: str, aside: str) -> None:
    """The result in its place, and the lock gone."""
    lock = f"task-{task_id}.lock"
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert is_ours(folders, fd, lock, len(CLAIMED))
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    out = os.open(aside, flags, 0o600, dir_fd=folders.tmp)
    os.write(out, RESULT)
    os.close(out)
    result = f"{task_id}.result.json"
    os.link(aside, result, src_dir_fd=folders.tmp, dst_dir_fd=folders.tasks)
    os.unlink(aside, dir_fd=folders.tmp)
    os.unlink(lock, dir_fd=folders.locks)
    fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


def work(folders: Folders, ids: list[str], said: Connection) -> None:
    """One process: all of its tasks, then when it started and when it ended."""
    aside = f"physical-{os.getpid()}"
    began = time.monotonic()
    for task_id in ids:
        commit(folders, claim(folders, task_id), task_id, aside)
    said.send((began, time.monotonic()))


def main(root: Path, processes: int) -> None:
    """As the C program."""
    paths = [root / name for name in ("tasks", ".farm/locks", ".farm/tmp")]
    for path in paths:
        path.mkdir(parents=True, exist_ok=True)
    folders = Folders(*(os.open(path, os.O_RDONLY) for path in paths))
    ids = [path.stem for path in paths[0].iterdir()]
    context = get_context("fork")  # the descriptors must come along
    pipes = [Pipe(duplex=False) for _ in range(processes)]
    for number, (_, said) in enumerate(pipes):
        stripe = ids[number::processes]
        context.Process(target=work, args=(folders, stripe, said)).start()
    times = [heard.recv() for heard, _ in pipes]
    seconds = max(end for _, end in times) - min(began for began, _ in times)
    print(len(ids), f"{seconds:.6f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
