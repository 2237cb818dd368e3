"""Limits: folders that hold far too much of something, and workers that empty them.

    row = limits(bench)                     # each of them, as a row of the benchmark
    measured = measure("chain", Path("/dev/shm/lab"), 2000)
    assert measured.right                   # every task ended as it must

A limit drops files (`LIMITS[name].drop(tasks, size)`) and tells how many tasks must
end with which status; what really happened is counted from the result files alone.
The tests use the same limits at a size that takes seconds.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.bench.bench import Bench
from tests.bench.table import Row, at_least

ROOT = Path(__file__).resolve().parent.parent.parent
BESIDE = 10  # good tasks beside what is odd
LONGEST = 255  # bytes of a file's name
QUICK = b'{"call": "quick:nothing"}'
BIG = 10 * 2**20  # bytes


Ends = dict[str, int]  # status -> how many tasks end with it


class Limit(NamedTuple):
    """One kind of too much."""

    full: int  #: how many in a benchmark
    drop: Callable[[Path, int], Ends]  #: puts them into `tasks/`


class Measured(NamedTuple):
    """What workers made of one limit."""

    name: str
    size: int
    seconds: float  #: from the start of the first to the end of the last
    ended: Ends
    wanted: Ends

    @property
    def right(self) -> bool:
        """Whether every task ended as it must."""
        return self.ended == self.wanted


def write(tasks: Path, task_id: str, raw: bytes = QUICK) -> None:
    """A task file, its folder made if need be."""
    path = tasks / f"{task_id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)


def needing(*needs: str) -> bytes:
    """A task that does nothing, after these."""
    return json.dumps({"call": "quick:nothing", "needs": needs}).encode()


# -- what is dropped ---------------------------------------------------------------


def drop_others(tasks: Path, size: int) -> Ends:
    """Names that are not tasks, and a few tasks among them."""
    for number in range(size):
        (tasks / f"note-{number:07}.txt").touch()
    for number in range(BESIDE):
        write(tasks, f"good-{number}")
    return {"succeeded": BESIDE}


def drop_folders(tasks: Path, size: int) -> Ends:
    """Empty folders, a thousand in each of their own, and a few with a task."""
    folders = [f"{number // 1000:03}/{number:06}" for number in range(size)]
    for folder in folders:
        (tasks / folder).mkdir(parents=True)
    few = folders[:: size // BESIDE]
    for folder in few:
        write(tasks, f"{folder}/a")
    return {"succeeded": len(few)}


def drop_deep(tasks: Path, size: int) -> Ends:
    """Folders in folders, with a task in the deepest and some on the way."""
    depths = range(size // BESIDE, size + 1, size // BESIDE)
    for depth in depths:
        write(tasks, "d/" * depth + "a")
    return {"succeeded": len(depths)}


def drop_long_names(tasks: Path, size: int) -> Ends:
    """Names, in letters of 1, 2 and 3 bytes, whose results' names have 255 bytes."""
    room = LONGEST - len(f"{0:05}.result.json")
    for number in range(size):
        for letter in ("x", "é", "日"):
            count, rest = divmod(room, len(letter.encode()))
            write(tasks, f"{'y' * LONGEST}/{number:05}{letter * count}{'x' * rest}")
    return {"succeeded": 3 * size}


def drop_big(tasks: Path, size: int) -> Ends:
    """Task files of 10 MB: good ones, noise, and torn ones."""
    task = {"call": "quick:nothing", "meta": {"filler": "x" * BIG}}
    good = json.dumps(task).encode()
    for number in range(size):
        write(tasks, f"good-{number}", good)
        write(tasks, f"noise-{number}", os.urandom(BIG))
        write(tasks, f"torn-{number}", good[:BIG])
    return {"succeeded": size, "invalid": 2 * size}


def drop_fan(tasks: Path, size: int, need: str = "root") -> Ends:
    """Tasks that all need one, which comes last by its name."""
    for number in range(size):
        write(tasks, f"leaf-{number:06}", needing(need))
    write(tasks, "root")
    return {"succeeded": size + 1}


def drop_glob_fan(tasks: Path, size: int) -> Ends:
    """Tasks that all need one, by a glob."""
    return drop_fan(tasks, size, "roo?")


def drop_gather(tasks: Path, size: int) -> Ends:
    """One task that needs all others: a half of them by name, and all by a glob."""
    names = [f"leaf-{number:06}" for number in range(size)]
    for name in names:
        write(tasks, name)
    write(tasks, "all", needing(*names[::2], "leaf-*"))
    return {"succeeded": size + 1}


def drop_chain(tasks: Path, size: int) -> Ends:
    """A chain in the order of names: each needs the one before it."""
    write(tasks, f"link-{0:06}")
    for number in range(1, size):
        write(tasks, f"link-{number:06}", needing(f"link-{number - 1:06}"))
    return {"succeeded": size}


def drop_chain_backwards(tasks: Path, size: int) -> Ends:
    """A chain against the order of names: the first by name is the last to run."""
    for number in range(size - 1):
        write(tasks, f"link-{number:06}", needing(f"link-{number + 1:06}"))
    write(tasks, f"link-{size - 1:06}")
    return {"succeeded": size}


LIMITS = {
    "names that are not tasks": Limit(1_000_000, drop_others),
    "sub-folders": Limit(200_000, drop_folders),
    "folders in folders": Limit(1_000, drop_deep),
    "names of 255 bytes": Limit(1_000, drop_long_names),
    "tasks that need one": Limit(10_000, drop_fan),
    "tasks that need one by a glob": Limit(10_000, drop_glob_fan),
    "one that needs all": Limit(10_000, drop_gather),
    "chain": Limit(10_000, drop_chain),
    "chain backwards": Limit(10_000, drop_chain_backwards),
    "task files of 10 MB": Limit(3, drop_big),
}


def limits(bench: Bench) -> Row:
    """How long one worker takes for each, and whether all of it ended right."""
    row = Row("limits", "far too much of something, one worker")
    right = 0
    for name, limit in LIMITS.items():
        size = max(1, round(limit.full * bench.sizes.limits))
        measured = measure(name, bench.room_for(2 * size), size)
        right += measured.right
        row.add(f"{size:,} {name}", "s", [measured.seconds])
        if not measured.right:
            row.notes.append(f"{name}: {measured.ended}, not {measured.wanted}")
    row.targets.append(at_least("ended right", len(LIMITS), [right], "limits"))
    return row


# -- workers ------------------------------------------------------------------------


def measure(name: str, lab: Path, size: int, workers: int = 1) -> Measured:
    """Drop so many, let workers empty the folder, count how it all ended, tidy up."""
    project = lab / name.replace(" ", "-")
    (project / "tasks").mkdir(parents=True)
    (project / "quick.py").write_text("def nothing() -> None: ...\n")
    try:
        wanted = LIMITS[name].drop(project / "tasks", size)
        seconds = work(project, workers)
        return Measured(name, size, seconds, ended_in(project), wanted)
    finally:
        # shutil.rmtree goes no deeper than Python's own stack.
        subprocess.run(["rm", "-rf", str(project)], check=True)


def work(project: Path, workers: int) -> float:
    """Let workers do all there is: seconds."""
    began = time.perf_counter()
    there = [start_worker(project, f"worker-{n}.log") for n in range(workers)]
    for popen in there:
        popen.wait()
    return time.perf_counter() - began


def start_worker(project: Path, log: str) -> "subprocess.Popen[bytes]":
    """A worker that ends when nothing is left."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("FARM_")}
    with (project / log).open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "farm", "worker", ".", "--until-done"],
            cwd=project,
            env=environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )


def ended_in(project: Path) -> Ends:
    """How many results there are of each status, read from their files."""
    found: Counter[str] = Counter()
    folders = [str(project / "tasks")]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.name.endswith(".result.json"):
                    found[json.loads(Path(entry.path).read_bytes())["status"]] += 1
    return dict(found)
