"""How soon a task runs again whose worker was killed.

rescue     a single task, workers with nothing else to do, and `kill -9`: for commands
           and callables, with and without a supervisor

One task at a time is dropped into an idle farm of three workers. The first attempt notes
which process it runs under and goes on for a minute; that process is killed; the second
attempt notes its time. What is measured is the time from the kill to that note, as the
clock of the machine tells it. A killed worker is followed by another one, which the
supervisor starts, or we do. The four farms run side by side: nearly always all sleep.
"""

import json
import os
import random
import signal
import statistics
import subprocess
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.bench.bench import Bench
from tests.bench.farms import Farm, stop, wait_until
from tests.bench.table import Row, less_than

WORKERS = 3
PROMISED = 2.0  # seconds
FIRST_RUNS_FOR = 60  # seconds
KILLED_AFTER = (0.3, 1.5)  # seconds; in step with nothing
AT_REST = 0.5  # seconds; all workers sleep again
MODULE = f"""
import os, time


def job(path):
    attempt = os.environ["FARM_ATTEMPT"]
    with open(path, "a") as file:
        print(attempt, time.time(), os.getpid(), file=file)
    if attempt == "1":
        time.sleep({FIRST_RUNS_FOR})
"""
COMMAND = (
    "echo $FARM_ATTEMPT $(date +%s.%N) $PPID >> {path};"
    f" [ $FARM_ATTEMPT = 1 ] && exec sleep {FIRST_RUNS_FOR}; exit 0"
)


class Kind(NamedTuple):
    """One of the four farms."""

    task: str
    supervised: bool

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.task}, {'with' if self.supervised else 'without'} a supervisor"


KINDS = [
    Kind(task, supervised) for task in ("run", "call") for supervised in (False, True)
]


class Note(NamedTuple):
    """What an attempt said about itself."""

    attempt: int
    at: float  #: POSIX seconds
    worker: int  #: process id


def rescue(bench: Bench) -> Row:
    """From the death of a worker to the next attempt at its task."""
    count = bench.sizes.rescues
    row = Row(
        "rescue", f"a worker is killed, {WORKERS - 1} are free, {count} times each"
    )
    with ThreadPoolExecutor(len(KINDS)) as pool:
        seeds = [bench.random.random() for _ in KINDS]
        folders = [bench.fresh() for _ in KINDS]
        found = list(pool.map(rescues, KINDS, folders, seeds, [count] * len(KINDS)))
    for kind, took in zip(KINDS, found, strict=True):
        cut = statistics.quantiles(took, n=100, method="inclusive")
        row.add(kind.name, "s", took)
        row.notes.append(f"{kind.name}: p50 {cut[49]:.2f} s, p99 {cut[98]:.2f} s")
        row.targets.append(less_than(f"{kind.name}, p99", PROMISED, [cut[98]], "s"))
    for folder in folders:
        bench.tidy(folder)
    return row


def rescues(kind: Kind, folder: Path, seed: float, count: int) -> list[float]:
    """Seconds that each of so many rescues took."""
    farm, chance = Farm(folder), random.Random(seed)
    (folder / "job.py").write_text(MODULE)
    if kind.supervised:
        started = [farm.start("supervise", ".", "-j", str(WORKERS))]
    else:
        started = [farm.start("worker", ".") for _ in range(WORKERS)]
    try:
        return [_rescue_one(farm, kind, started, n, chance) for n in range(count)]
    finally:
        for popen in started:
            stop(popen)


def _rescue_one(
    farm: Farm,
    kind: Kind,
    started: list["subprocess.Popen[bytes]"],
    number: int,
    chance: random.Random,
) -> float:
    wait_until(lambda: _born(farm) == WORKERS, "the workers")
    time.sleep(AT_REST)
    said = farm.root / f"said-{number}"
    _drop(farm, kind, f"job-{number}", said)
    wait_until(lambda: len(notes(said)) == 1, "the first attempt")
    time.sleep(chance.uniform(*KILLED_AFTER))
    killed = time.time()
    os.kill(notes(said)[0].worker, signal.SIGKILL)
    wait_until(lambda: len(notes(said)) == 2, "the second attempt")
    if not kind.supervised:
        for popen in [popen for popen in started if popen.poll() is not None]:
            started.remove(popen)
            started.append(farm.start("worker", "."))
    return notes(said)[1].at - killed


def _drop(farm: Farm, kind: Kind, task_id: str, said: Path) -> None:
    if kind.task == "run":
        text = f'{{"run": "{COMMAND.format(path=said)}"}}'
    else:
        text = f'{{"call": "job:job", "args": ["{said}"]}}'
    aside = farm.tasks / ".aside"
    aside.write_text(text)
    aside.rename(farm.tasks / f"{task_id}.json")


def notes(path: Path) -> list[Note]:
    """What the attempts have said so far; whole lines only."""
    with suppress(FileNotFoundError):
        return list(_parsed(path.read_text().splitlines(keepends=True)))
    return []


def _parsed(lines: Iterable[str]) -> Iterable[Note]:
    for line in lines:
        if line.endswith("\n"):
            attempt, at, worker = line.split()
            yield Note(int(attempt), float(at), int(worker))


def _born(farm: Farm) -> int:
    """How many workers live; the life file of a killed one lies there for a while."""
    files = list((farm.root / ".farm" / "workers").glob("*.lock"))
    return sum(Path(f"/proc/{_pid(file)}").exists() for file in files)


def _pid(life_file: Path) -> int:
    """Of a worker; 0, which is no process, if it ended in this moment."""
    with suppress(FileNotFoundError):
        told = json.loads(life_file.read_text().splitlines()[1])
        return int(told["who"]["pid"])
    return 0
