"""Is it flat? What farm does in a folder with much in it, or with nothing to do.

latency    drop to start in an idle farm with many finished tasks
idle       what that farm costs while nothing happens, once its start is over: each
           process looks at the folder then, and the supervisor does so again 5 s later
backlog    start, throughput and memory with more and more ready tasks
status     `farm status` with tasks of all kinds
"""

import json
import math
import statistics
import subprocess
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.bench import folders
from tests.bench.bench import Bench
from tests.bench.farms import (
    CALL,
    LOOK,
    WORKERS,
    Farm,
    GaveUpError,
    finish,
    rate,
    stop,
    wait_until,
)
from tests.bench.table import Row, less_than

HEARTBEAT = 2.0  # seconds, as farm's settings have it
CALM = 4.0  # seconds in which an idle farm must do nearly nothing to be at rest
NEARLY = 0.02  # seconds of processor time
STEP = 0.5  # seconds between two looks at whether it is
FEW = 10_000  # ready tasks, to which the largest backlog is compared
LIMITS = {100_000: 0.5, 1_000_000: 5.0}  # tasks -> seconds of `farm status`
TICK = 0.02  # seconds; the clock of mtimes goes in steps


# -- an idle farm ------------------------------------------------------------------------


def idle(bench: Bench) -> Row:
    """What a farm costs that has nothing to do, and how quickly it wakes up."""
    count, seconds = bench.sizes.finished, bench.sizes.idle
    row = Row(
        "idle", f"idle supervisor and {WORKERS} workers, {count:,} finished tasks"
    )
    farm = Farm(bench.fresh())
    folders.finish(farm, count)
    began, supervisor = time.time(), farm.start("supervise", ".", "-j", str(WORKERS))
    try:
        crew = settle(supervisor)
        row.add("left out: until it is at rest", "s", [time.time() - began])
        row.add("left out: processor time until then", "s", [_processor(crew)])
        _rest(row, crew, seconds)
        waits = sorted(_drop_some(farm, bench))
    finally:
        stop(supervisor)
    cut = statistics.quantiles(waits, n=100, method="inclusive")
    row.add("drop to start", "ms", waits)
    row.targets += [
        less_than("drop to start, p50", 5.0, [cut[49]], "ms"),
        less_than("drop to start, p99", 50.0, [cut[98]], "ms"),
    ]
    row.series["latency"] = [(w, (n + 1) / len(waits)) for n, w in enumerate(waits)]
    bench.tidy(farm.root)
    return row


def _rest(row: Row, crew: list[psutil.Process], seconds: float) -> None:
    """Leave it alone for so long, and say what it did all the same."""
    used, woken, began = _processor(crew), _wakes(crew), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    share = 100 * (_processor(crew) - used) / took
    wakes = {thread: n - woken.get(thread, 0) for thread, n in _wakes(crew).items()}
    often = max(wakes.values()) / took
    row.add(f"of one core, for {seconds:g} s", "%", [share])
    row.add("wake-ups of the busiest thread", "/s", [often])
    row.targets += [
        less_than("of one core", 0.1, [share], "%"),
        less_than("wake-ups in a heartbeat", 1.2, [often * HEARTBEAT], ""),
    ]


def _drop_some(farm: Farm, bench: Bench) -> Iterator[float]:
    """One after the other; fewer than wanted where each takes long."""
    over = time.monotonic() + bench.sizes.idle
    for number in range(bench.sizes.drops):
        if number > 1 and time.monotonic() > over:
            return
        yield _drop_one(farm, number, bench)


def _drop_one(farm: Farm, number: int, bench: Bench) -> float:
    """Milliseconds from the rename to the first line of the callable."""
    aside, result = farm.tasks / ".aside", farm.tasks / f"drop-{number}.result.json"
    aside.write_text('{"call": "quick:now"}')
    dropped = time.time()
    aside.rename(farm.tasks / f"drop-{number}.json")
    wait_until(result.exists, "a task that was dropped")
    time.sleep(bench.random.uniform(0.01, 0.05))  # in step with nothing
    started: float = json.loads(result.read_bytes())["value"]
    return (started - dropped) * 1000


def settle(supervisor: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """Until supervisor and workers have done nearly nothing for a while."""
    leader = psutil.Process(supervisor.pid)
    wait_until(lambda: len(leader.children()) == WORKERS, "the workers")
    crew = [leader, *leader.children()]
    seen = deque([_processor(crew)], maxlen=1 + round(CALM / STEP))

    def at_rest() -> bool:
        seen.append(_processor(crew))
        return len(seen) == seen.maxlen and seen[-1] - seen[0] < NEARLY

    wait_until(at_rest, "an idle farm", STEP)
    return crew


def _threads(crew: list[psutil.Process]) -> list[Path]:
    return [path for p in crew for path in Path(f"/proc/{p.pid}/task").iterdir()]


def _processor(crew: list[psutil.Process]) -> float:
    """Seconds of processor time of all threads, to the nanosecond."""
    spent = [(path / "schedstat").read_text().split()[0] for path in _threads(crew)]
    return sum(map(int, spent)) / 1e9


def _wakes(crew: list[psutil.Process]) -> dict[Path, int]:
    """How often each thread slept so far."""
    found = {}
    for path in _threads(crew):
        _, _, after = (
            (path / "status").read_text().partition("\nvoluntary_ctxt_switches:")
        )
        found[path] = int(after.split()[0])
    return found


# -- by size -------------------------------------------------------------------------------


def backlog(bench: Bench) -> Row:
    """Start, throughput and memory, however much is ready."""
    row = Row("backlog", f"no-op callables by how many are ready, {WORKERS} workers")
    sizes = bench.sizes.backlogs
    for size in sizes:
        rounds = bench.sizes.rounds if size in (FEW, sizes[-1]) else 1
        seen = _backlog(bench, size, rounds)
        name = f"{size:,} ready"
        row.add(f"{name}: start to first task", "s", [s.first for s in seen])
        row.add(name, "tasks/s", [s.rate for s in seen])
        row.add(f"{name}: memory of a worker", "MB", [s.memory for s in seen])
        row.series.setdefault("backlog", []).append((size, row.figures[-2].value))
    most, least = f"{sizes[-1]:,} ready", f"{FEW:,} ready"
    first, memory = f"{most}: start to first task", f"{most}: memory of a worker"
    row.targets.append(less_than(first, 5.0, row.values(first), "s"))
    row.ratio(most, least, 0.8)
    row.targets.append(less_than(memory, 350.0, row.values(memory), "MB"))
    return row


class Seen(NamedTuple):
    """What two workers made of a backlog."""

    first: float  #: seconds from their start to the first result
    rate: float
    memory: float  #: MB, the greater one at its greatest


def _backlog(bench: Bench, size: int, rounds: int) -> list[Seen]:
    """Some rounds; one folder for all of them where a window takes little of it."""
    farm = Farm(bench.fresh(bench.room_for(2 * size)))
    farm.drop(size, CALL)
    seen = [_look(farm, bench.sizes.window)]
    while len(seen) < rounds:
        if size <= FEW:
            bench.tidy(farm.root)
            farm = Farm(bench.fresh())
            farm.drop(size, CALL)
        seen.append(_look(farm, bench.sizes.window))
    bench.tidy(farm.root)
    return seen


def _look(farm: Farm, window: float) -> Seen:
    """Start two workers and stop them `window` seconds after the first result."""
    began, memory, over = time.time(), 0.0, math.inf
    started = [farm.worker() for _ in range(WORKERS)]
    while time.time() < over and any(popen.poll() is None for popen in started):
        memory = max(memory, *(peak_memory(popen.pid) for popen in started))
        if over == math.inf and farm.has_begun(began):
            over = time.time() + window
        time.sleep(LOOK)
    for popen in started:
        stop(popen)
    times = [t for t in farm.endings() if t > began - TICK]
    if not times:
        raise GaveUpError(f"no task ended in {farm.root}")
    return Seen(times[0] - began, rate(times, window), memory)


def peak_memory(pid: int) -> float:
    """The most that a process had in memory, MB; 0 when it has ended."""
    try:
        _, _, after = Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")
    except OSError:
        return 0.0
    return int(after.split()[0]) / 1024 if after else 0.0


def status(bench: Bench) -> Row:
    """`farm status` with tasks of all kinds."""
    row = Row("status", "`farm status`, tasks of all kinds")
    for count in bench.sizes.statuses:
        farm = Farm(bench.fresh(bench.room_for(2 * count)))
        folders.mix(farm, count)
        name = f"{count:,} tasks"
        row.add(name, "s", [_status(farm) for _ in range(bench.sizes.rounds)])
        row.targets.append(less_than(name, LIMITS[count], row.values(name), "s"))
        bench.tidy(farm.root)
    return row


def _status(farm: Farm) -> float:
    began = time.perf_counter()
    finish(farm.start("status", "."))
    return time.perf_counter() - began
