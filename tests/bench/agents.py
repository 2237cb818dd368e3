"""Agents: prompts over HTTP against a provider of ours that limits and takes its time.

Three keys of two pools (two of them share one), 600 calls a minute for each key and each
pool, in bursts of 10; four workers, each with up to four calls at a time; an answer takes
0.3 s. The same prompts three times: with the pools told in the environment; with the
pools to be learned from the answers, which name an organization; and with sharing off,
where each worker keeps what it knows of keys in a folder of its own
(`plug/sitecustomize.py`).

All times are those of the provider, but for the start of a task's first attempt and the
writing of its result. A task's wait is from that start to the arrival of the call that
was answered. The ideal is what nobody could beat: each pool's burst at once, the rest at
the pools' rates, and one answer. No process's start is in it, as in every other row.

Then 200 calls at once in two workers, which the provider holds until all have come: what
that takes of memory. And the start of a worker to its first call.
"""

import json
import secrets
import statistics
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from farm.result import posix
from tests.bench.bench import Bench, How, Side
from tests.bench.costs import python
from tests.bench.farms import ENDING, Farm, stop, wait_until
from tests.bench.flat import peak_memory
from tests.bench.table import Row, less_than
from tests.provider.calls import OK, Call, most_within
from tests.provider.server import Provider

PROMPT = b'{"prompt": "How do you do?"}'
POOLS = {1: "one", 2: "one", 3: "two"}  # key -> pool
RATE, BURST = 10, 10  # of a key and of a pool: calls a second, calls at once
ANSWER = 0.3  # seconds
WORKERS, AT_ONCE = 4, 4  # workers, calls of each
MANY, HOLDERS = 200, 2  # calls at once, workers that hold them
FREELY = 60_000  # calls a minute, where no limit is wanted
WINDOWS = (1, 10)  # seconds in which calls are counted
REFUSED = 429
ROUNDING = 1e-9  # %
TOLD, LEARNED, APART = "pools told", "pools learned", "sharing off"


def agents(bench: Bench) -> Row:
    """Refusals, limits, time and waits; memory of many calls; start of the first."""
    count = bench.sizes.prompts
    title = (
        f"{count} prompts, 3 keys of 2 pools, {WORKERS} workers, {AT_ONCE} calls each"
    )
    row = Row("agents", title)
    for name in (TOLD, LEARNED, APART):
        _add(row, name, _run(bench, name, count))
    _targets(row, _ideal(count))
    _many(bench, row)
    _start(bench, row)
    return row


class Seen(NamedTuple):
    """What the provider and the results tell of one run."""

    calls: list[Call]
    seconds: float  #: from the first call to the last result
    waits: list[float]  #: of each task, in order


def _run(bench: Bench, name: str, count: int) -> Seen:
    """So many prompts, until all have been answered."""
    farm = _farm(bench.fresh(), AT_ONCE)
    farm.drop(count, PROMPT)
    with Provider(clock=time.time) as provider:
        provider.slow(ANSWER)
        environ = _keys(provider, RATE * 60, told=name != LEARNED)
        if name == APART:
            environ["BENCH_APART"] = str(farm.root / "apart")
        farm.work(WORKERS, **environ)
        calls = provider.calls
    farm.rate()  # all have succeeded
    seconds = farm.endings()[-1] - calls[0].at
    seen = Seen(calls, seconds, _waits(farm, calls))
    bench.tidy(farm.root)
    return seen


def _farm(folder: Path, concurrency: int) -> Farm:
    farm = Farm(folder)
    agent = f'[agents.ask]\nkind = "messages"\nmodel = "m"\nconcurrency = {concurrency}'
    (farm.root / "farm.toml").write_text(agent + "\n")
    return farm


def _keys(provider: Provider, per_minute: int, *, told: bool) -> dict[str, str]:
    """New keys, known to the provider and, by this environment, to workers."""
    environ = {"ANTHROPIC_BASE_URL": provider.url, "NO_PROXY": "127.0.0.1"}
    for number, pool in POOLS.items():
        secret = secrets.token_hex(20)
        provider.add_key(f"key {number}", secret, pool=pool, per_minute=per_minute)
        environ[f"ANTHROPIC_API_KEY_{number}"] = secret
        if told:
            environ[f"ANTHROPIC_POOL_{number}"] = pool
    return environ


def _waits(farm: Farm, calls: list[Call]) -> list[float]:
    """Seconds from the start of each task to the call that was answered."""
    came = {call.request_id: call.at for call in calls}
    results = [json.loads(p.read_bytes()) for p in farm.tasks.glob(f"*{ENDING}")]
    return sorted(
        came[one["asked"]["request_id"]] - posix(one["attempts"][0]["started"])
        for one in results
    )


def _ideal(count: int) -> float:
    """Seconds that so many prompts take at the best; see the module's docstring."""
    pools = len(set(POOLS.values()))
    return (count - pools * BURST) / (pools * RATE) + ANSWER


# -- figures ---------------------------------------------------------------------------


def _add(row: Row, name: str, seen: Seen) -> None:
    refused = sum(call.status == REFUSED for call in seen.calls)
    accepted = [call for call in seen.calls if call.status == OK]
    cut = statistics.quantiles(seen.waits, n=100, method="inclusive")
    row.add(f"{name}: refused, of all calls", "%", [100 * refused / len(seen.calls)])
    row.add(f"{name}: time", "s", [seen.seconds])
    row.add(f"{name}: sent, of a limit, at most", "%", [_most(seen.calls)])
    row.add(f"{name}: accepted, of a limit, at most", "%", [_most(accepted)])
    row.add(f"{name}: wait, p50", "s", [cut[49]])
    row.add(f"{name}: wait, p95", "s", [cut[94]])
    row.add(f"{name}: wait, the worst", "s", [seen.waits[-1]])


def _most(calls: list[Call]) -> float:
    """The most calls of any key or pool in any window, in % of what its limit allows."""
    names = {name for call in calls for name in (call.key, call.pool) if name}
    times = {n: [c.at for c in calls if n in (c.key, c.pool)] for n in names}
    return max(
        100 * most_within(seconds, at) / (RATE * seconds + BURST)
        for at in times.values()
        for seconds in WINDOWS
    )


def _targets(row: Row, ideal: float) -> None:
    for name in (TOLD, LEARNED):
        refused = row.values(f"{name}: refused, of all calls")
        times = [took / ideal for took in row.values(f"{name}: time")]
        row.targets.append(less_than(f"{name}: refused", 2.0, refused, "%"))
        row.targets.append(less_than(f"{name}: time / ideal", 1.15, times))
    most = [
        row.values(f"{n}: accepted, of a limit, at most")[0] for n in (TOLD, LEARNED)
    ]
    above = sum(share > 100 + ROUNDING for share in most)
    row.targets.append(less_than("runs with a key above its limit", 1, [above], ""))
    row.ratio(f"{APART}: time", f"{TOLD}: time", 1.0)
    row.notes.append(
        f"ideal: {ideal:.3g} s, which is {BURST} calls of each pool at once, the others"
        f" at {RATE} a second and pool, and an answer of {ANSWER:g} s"
    )


# -- many at once, and the first -----------------------------------------------------


def _many(bench: Bench, row: Row) -> None:
    """What so many calls take of memory: held, and at the most until the last ended."""
    farm = _farm(bench.fresh(), MANY // HOLDERS)
    with Provider(clock=time.time) as provider:
        environ = _keys(provider, FREELY, told=True)
        holders = [farm.start("worker", ".", **environ) for _ in range(HOLDERS)]
        try:
            _hold(farm, provider)
            row.add(
                f"{MANY} calls: memory of {HOLDERS} workers", "MB", [_peak(holders)]
            )
            provider.release()
            wait_until(lambda: len(farm.endings()) == MANY + 1, "the answers")
            peak = _peak(holders)
        finally:
            for holder in holders:
                stop(holder)
    farm.rate()
    row.add(f"{MANY} calls and answers: at the most", "MB", [peak])
    name = f"memory of {HOLDERS} workers, {MANY} calls at once"
    row.targets.append(less_than(name, 150.0, [peak], "MB"))
    bench.tidy(farm.root)


def _hold(farm: Farm, provider: Provider) -> None:
    """Until so many calls wait for an answer; the first tells how fast they may go."""
    farm.drop(1, PROMPT)
    wait_until(farm.endings, "the first answer")
    provider.hold()
    farm.drop(MANY, PROMPT)
    wait_until(lambda: provider.count() > MANY, f"{MANY} calls at once")


def _peak(processes: list["subprocess.Popen[bytes]"]) -> float:
    return sum(peak_memory(popen.pid) for popen in processes)


def _start(bench: Bench, row: Row) -> None:
    """From the start of a worker to the call of its first prompt."""
    sides: dict[str, Side] = {
        "start to the first call": _first_call,
        "python -c pass": python,
    }
    bench.compare(row, sides, How("ms", bench.sizes.rounds))
    first, alone = (row.values(name) for name in sides)
    ratios = [one / other for one, other in zip(first, alone, strict=True)]
    row.add("start to the first call / python -c pass", "x", ratios)


def _first_call(folder: Path) -> float:
    """Milliseconds."""
    farm = _farm(folder, 1)
    farm.drop(1, PROMPT)
    with Provider(clock=time.time) as provider:
        environ = _keys(provider, FREELY, told=True)
        began = time.time()
        farm.work(1, **environ)
        return (provider.calls[0].at - began) * 1000
