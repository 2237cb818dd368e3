"""What a worker is: its start, its memory, and the processor time of its duties.

    worker     start to first claim against `python -c pass`; memory when idle
    cost       processor time (user and system) of supervising, of the journal and of
               heartbeats, each against the same run without it

The same run without the journal or the heartbeats is one whose workers were started
with `plug/sitecustomize.py` on their path; without supervising, the same two workers
alone. What the processes take with no task at all is measured too and taken off:
the cost is that of the work, however long it lasts. Workers know from the journal how
the others' tasks ended; without it they open the results, so it may cost less than
nothing.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.bench import Bench, How, Side
from tests.bench.farms import CALL, WORKERS, Farm, Used, stop, wait_until
from tests.bench.table import Row, less_than

STARTS = 2  # so many times more rounds: a start is short, and varies
CALM = 0.5  # seconds after its last task; then a worker is idle
MOST = 3.0  # percent


def worker(bench: Bench) -> Row:
    """Its start and its memory."""
    row = Row("worker", "a worker's start and its memory when idle")
    memory: list[float] = []
    sides: dict[str, Side] = {
        "start to first claim": lambda folder: _first_claim(folder, memory),
        "python -c pass": _python,
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


def _python(_folder: Path) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return (time.perf_counter() - began) * 1000


def cost(bench: Bench) -> Row:
    """Processor time of each duty."""
    count = bench.sizes.costs
    row = Row("cost", f"processor time of {count:,} no-op callables, {WORKERS} workers")
    sides = {
        "supervised": _spent(lambda farm: farm.supervise(WORKERS), count),
        "workers alone": _spent(lambda farm: farm.work(WORKERS), count),
        "no journal": _spent(_without("journal"), count),
        "no heartbeats": _spent(_without("heartbeats"), count),
    }
    bench.compare(row, sides, How("s", bench.sizes.cost_rounds))
    for duty, with_it, without in (
        ("supervising", "supervised", "workers alone"),
        ("the journal", "workers alone", "no journal"),
        ("heartbeats", "workers alone", "no heartbeats"),
    ):
        pairs = zip(row.values(with_it), row.values(without), strict=False)
        shares = [100 * (one / other - 1) for one, other in pairs]
        row.add(f"{duty}: {with_it} over {without}", "%", shares)
        row.targets.append(less_than(duty, MOST, shares, "%"))
    return row


def _without(part: str) -> Callable[[Farm], Used]:
    return lambda farm: farm.work(WORKERS, BENCH_WITHOUT=part)


def _spent(run: Callable[[Farm], Used], count: int) -> Side:
    """Seconds of processor time of so many tasks, without starts and ends."""

    def measure(folder: Path) -> float:
        busy, empty = Farm(folder / "busy"), Farm(folder / "empty")
        busy.drop(count, CALL)
        spent = run(busy).processor - run(empty).processor
        busy.rate()
        return spent

    return measure
