"""What a worker is: its start, its memory, and the processor time of its duties.

    worker     start to first claim against `python -c pass`; memory when idle
    cost       processor time (user and system) of supervising, of the journal and of
               heartbeats, each against the rest of the same run

Two runs of the same tasks differ by 10 % and more on a shared machine, which hides what
is looked for; so a duty is counted inside one run, by the kernel's clocks of processes
and threads: all that the supervisor's process takes, what the workers' threads take
while they write into journals, and all that their hearts' threads take
(`plug/sitecustomize.py`). That journals are read is the supervisor's cost. What these
processes take with no task at all is measured too and taken off: the cost is that of
the work, however long it lasts.
"""

import json
import operator
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.bench.bench import Bench, How, Side
from tests.bench.farms import CALL, WORKERS, Farm, finish, stop, wait_until
from tests.bench.table import Row, less_than

STARTS = 2  # so many times more rounds: a start is short, and varies
CALM = 0.5  # seconds after its last task; then a worker is idle
MOST = 3.0  # percent
SUPERVISE = ("supervise", ".", "-j", str(WORKERS), "--until-done")


def worker(bench: Bench) -> Row:
    """Its start and its memory."""
    row = Row("worker", "a worker's start and its memory when idle")
    memory: list[float] = []
    sides: dict[str, Side] = {
        "start to first claim": lambda folder: _first_claim(folder, memory),
        "python -c pass": python,
    }
    bench.compare(row, sides, How("ms", STARTS * bench.sizes.rounds))
    pairs = zip(*(row.values(name) for name in sides), strict=True)
    ratios = [one / other for one, other in pairs]
    row.add("memory of an idle worker", "MB", memory)
    row.targets = [
        less_than("memory of an idle worker", 35.0, memory, "MB"),
        less_than("start to first claim / python -c pass", 5.0, ratios),
    ]
    return row


def _first_claim(folder: Path, memory: list[float]) -> float:
    """Milliseconds from the start of a process to the first line of its task."""
    farm = Farm(folder)
    (farm.tasks / "now.json").write_text('{"call": "quick:now"}')
    result = farm.tasks / "now.result.json"
    began = time.time()
    process = farm.start("worker", ".")
    try:
        wait_until(result.exists, "a worker's first task")
        time.sleep(CALM)
        memory.append(resident(process.pid))
    finally:
        stop(process)
    started: float = json.loads(result.read_bytes())["value"]
    return (started - began) * 1000


def resident(pid: int) -> float:
    """What a process has in memory now, MB."""
    _, _, after = Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")
    return int(after.split()[0]) / 1024


def python(_folder: Path) -> float:
    """Milliseconds of a Python that does nothing."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return (time.perf_counter() - began) * 1000


def cost(bench: Bench) -> Row:
    """Processor time of each duty."""
    count = bench.sizes.costs
    row = Row("cost", f"processor time of {count:,} no-op callables, {WORKERS} workers")
    spent = [_spent(bench, count) for _ in range(bench.sizes.cost_rounds)]
    row.add("all of it", "s", [one.everything for one in spent])
    for duty, wanted in (
        ("supervising", [one.supervisor for one in spent]),
        ("the journal", [one.journal for one in spent]),
        ("heartbeats", [one.heartbeats for one in spent]),
    ):
        pairs = zip(wanted, spent, strict=True)
        shares = [100 * part / (one.everything - part) for part, one in pairs]
        row.add(f"{duty}, of the same run without", "%", shares)
        row.targets.append(less_than(duty, MOST, shares, "%"))
    return row


class Spent(NamedTuple):
    """Seconds of processor time, user and system, of one run."""

    everything: float
    supervisor: float
    journal: float
    heartbeats: float


def _spent(bench: Bench, count: int) -> Spent:
    """Of so many tasks: what the same processes take without a task is taken off."""
    folder = bench.fresh()
    busy, empty = Farm(folder / "busy"), Farm(folder / "empty")
    busy.drop(count, CALL)
    found = Spent(*map(operator.sub, _run(busy), _run(empty)))
    busy.rate()
    bench.tidy(folder)
    return found


def _run(farm: Farm) -> Spent:
    """Supervise it to its end; each process writes down what it took itself."""
    parts = farm.root / "parts"
    parts.mkdir()
    supervisor = farm.start(*SUPERVISE, BENCH_PARTS=str(parts))
    used = finish(supervisor)
    taken = {path.name: json.loads(path.read_bytes()) for path in parts.iterdir()}
    return Spent(
        used.processor,
        taken[str(supervisor.pid)]["all"],
        sum(one["journal"] for one in taken.values()),
        sum(one["heartbeats"] for one in taken.values()),
    )
