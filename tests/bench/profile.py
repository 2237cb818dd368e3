"""Where the time of a task goes: system calls counted, Python sampled.

    calls = system_calls(folder, CALL, 2000)   name -> calls of one task
    parts = samples(folder, CALL, 20_000)      Samples of a worker's Python
    print_profile(folder)                      both, for people

The calls are those of one worker under `strace -c -f`; those of a worker that finds
nothing to do are taken off, and so is what it does once. Samples are taken by a
thread in the worker (`plug/sitecustomize.py` says what it cannot see).
"""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from tests.bench.farms import Farm, finish
from tests.bench.peers import needed

SHOWN = 40  # lines
WORK = "farm.work.work_once"
LEAST = 0.05  # calls of one task; fewer are not shown


class Samples(NamedTuple):
    """How often a function was seen, in shares of all samples."""

    within: dict[str, float]  #: it, or what it called
    itself: dict[str, float]  #: the innermost one


def system_calls(folder: Path, raw: bytes, tasks: int) -> dict[str, float]:
    """How many calls of each name one task costs."""
    needed("strace")
    busy, idle = (_counted(folder / f"strace-{n}", raw, n) for n in (tasks, 0))
    return {name: (n - idle[name]) / tasks for name, n in busy.items()}


def _counted(folder: Path, raw: bytes, tasks: int) -> Counter[str]:
    farm = Farm(folder)
    farm.drop(tasks, raw)
    counts = folder / "counts"
    worker = farm.command("worker", ".", "--until-done")
    finish(farm.start_command(["strace", "-c", "-f", "-o", str(counts), *worker]))
    found: Counter[str] = Counter()
    for line in counts.read_text().splitlines():
        match line.split():
            case [_, _, _, calls, *_, name] if calls.isdigit() and name != "total":
                found[name] = int(calls)
    return found


def samples(folder: Path, raw: bytes, tasks: int) -> Samples:
    """Where a worker is while it does so many tasks."""
    farm = Farm(folder)
    farm.drop(tasks, raw)
    path = folder / "samples"
    farm.work(1, BENCH_SAMPLES=str(path))
    within: Counter[str] = Counter()
    itself: Counter[str] = Counter()
    for line in path.read_text().splitlines():
        count, _, stack = line.partition(" ")
        names = stack.split(";")
        if WORK in names:  # it is no start, and what called it is of no interest
            names = names[: names.index(WORK)]
            itself[(names or [WORK])[0]] += int(count)
            within.update(dict.fromkeys(set(names), int(count)))
    total = itself.total() or 1
    return Samples(*({k: n / total for k, n in c.items()} for c in (within, itself)))


def print_profile(folder: Path, raw: bytes, tasks: int) -> None:
    """Both, the greatest first."""
    calls = system_calls(folder, raw, tasks // 10)
    print(f"\n{sum(calls.values()):.1f} system calls a task (strace -c -f), of these")
    for name, number in sorted(calls.items(), key=lambda item: -item[1]):
        if number >= LEAST:
            print(f"  {number:6.2f}  {name}")
    seen = samples(folder / "samples", raw, tasks)
    print("\nPython of a worker, sampled: share of the time in it, and of it alone")
    for name, share in sorted(seen.within.items(), key=lambda item: -item[1])[:SHOWN]:
        print(f"  {share:6.1%} {seen.itself.get(name, 0.0):6.1%}  {name}")
