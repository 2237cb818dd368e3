"""Contests: farm against what people would take instead, and against the limit.

Each row is a function that takes a Bench and returns its Row. Farm's side is two
workers as `farm supervise -j 2` starts them, without it: what a supervisor costs has
a row of its own (`tests.bench.costs`).
"""

import os
from pathlib import Path

from tests.bench import peers
from tests.bench.bench import Bench, How, Side
from tests.bench.farms import BURN, BURNT, CALL, RUN, WORKERS, Farm
from tests.bench.table import Row

PEER_COUNTS = {  # tasks that take a peer a second or two
    "huey": 4_000,
    "celery": 1_000,
    "jug": 2_000,
    "dask": 1_000,
    "dramatiq": 1_000,
    "rq": 200,
    "joblib": 10_000,
    "hyperqueue": 400,
}
PARALLELS = 200  # commands for GNU parallel


def farm_side(count: int, raw: bytes, workers: int = WORKERS) -> Side:
    """Drop so many tasks, work on them, tasks a second."""

    def measure(folder: Path) -> float:
        farm = Farm(folder)
        farm.drop(count, raw)
        os.sync()  # nobody else's writes, and not those of the drops
        farm.work(workers)
        return farm.rate()

    return measure


def limit_side(bench: Bench, count: int) -> Side:
    """The same with the calls alone."""

    def measure(folder: Path) -> float:
        Farm(folder).drop(count, CALL)
        os.sync()
        return bench.limit.rate(folder, WORKERS)

    return measure


def calls(bench: Bench) -> Row:
    """No-op callables against everybody."""
    row = Row("call", f"no-op callables, {WORKERS} workers, tmpfs")
    count, limit = bench.sizes.calls, bench.limit.name
    pool = "ProcessPoolExecutor"
    sides: dict[str, Side] = {
        "farm": farm_side(count, CALL),
        pool: lambda folder: peers.pool_rate(folder, count),
        limit: limit_side(bench, count),
    }
    queues = [name for name in bench.sizes.peers if name != "hyperqueue"]
    sides |= {name: _peer_side(bench, name) for name in queues}
    bench.compare(row, sides, How("tasks/s", bench.sizes.rounds))
    row.ratio("farm", pool, 1.5)
    row.ratio("farm", "huey", 4.0)
    row.ratio("farm", "celery", 15.0)
    row.ratio("farm", "jug", 15.0)
    row.ratio("farm", limit, 0.5)
    return row


def _peer_side(bench: Bench, name: str) -> Side:
    count = round(PEER_COUNTS[name] * bench.sizes.share)
    return lambda folder: bench.peers.rate(name, folder, count)


def calls_on_disk(bench: Bench) -> Row:
    """The same on the machine's own disk."""
    row = Row("disk", f"no-op callables, {WORKERS} workers, the machine's own disk")
    count, limit = bench.sizes.calls, bench.limit.name
    sides = {"farm": farm_side(count, CALL), limit: limit_side(bench, count)}
    bench.compare(row, sides, How("tasks/s", bench.sizes.rounds, bench.disk))
    row.ratio("farm", limit, 0.6)
    return row


def commands(bench: Bench) -> Row:
    """Commands with output kept."""
    row = Row("run", '`run: ["true"]`, output kept, 2 at a time')
    count, few = bench.sizes.runs, round(PARALLELS * bench.sizes.share)
    sides: dict[str, Side] = {
        "farm": farm_side(count, RUN),
        "xargs": lambda folder: peers.xargs_rate(folder, count),
        "parallel": lambda folder: peers.parallel_rate(folder, few),
    }
    if "hyperqueue" in bench.sizes.peers:
        sides["hyperqueue"] = _peer_side(bench, "hyperqueue")
    bench.compare(row, sides, How("tasks/s", bench.sizes.rounds))
    row.ratio("farm", "xargs", 1.0)
    row.ratio("farm", "parallel", 5.0)
    return row


def scaling(bench: Bench) -> Row:
    """From one worker to two, where the processor is what counts."""
    row = Row("scaling", f"callables that burn {BURNT * 1000:g} ms of processor time")
    sides = {
        f"{workers} worker{'s' * (workers > 1)}": farm_side(
            bench.sizes.burns, BURN, workers
        )
        for workers in (1, 2)
    }
    bench.compare(row, sides, How("tasks/s", bench.sizes.rounds))
    row.ratio("2 workers", "1 worker", 1.9)
    return row
