"""Checks that try something with files of their own, and remove them.

Each takes a project, or a stand-in for one, and returns what it was `Told`; errors
that it raises mean that it could not be made. `TRIALS` has them all by name.
"""

import os
import stat
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from farm import disk, poll, trial
from farm.bell import Bell
from farm.doctor.told import Check, Told, fail, ok, warn
from farm.flock import lock_descriptor
from farm.project import Project
from farm.trial import NEEDS, Bench
from farm.watcher import Watcher
from farm.words import duration

MOMENT = 1.0  # seconds, for what should happen at once
RACERS = 8  # links to one name at the same time
ROUNDS, PATIENCE = 5, 0.2  # results that are written to see what one costs; seconds
LARGEST_SKEW = 2.0  # seconds between two clocks that pass for one


# Another process: asks for the lock of a file, says so, and lives until it is ended.
_OTHER = """
import fcntl, sys
held = open(sys.argv[1], "r+")
try:
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    print("held", flush=True)
except BlockingIOError:
    print("refused", flush=True)
except OSError as error:
    print(error.strerror, flush=True)
sys.stdin.read()
"""


@contextmanager
def _other(path: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Another process that asked for a file's lock, and what it got."""
    command = [sys.executable, "-I", "-S", "-c", _OTHER, path]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
        try:
            yield other, other.stdout.readline().strip() if other.stdout else ""
        finally:
            other.kill()


def flock(project: Project) -> Told:
    """Whether a lock has one owner: two names, two open files, two processes."""
    with Bench(project) as bench:
        path, other = trial.two_names(bench)
        if fault := trial.lock_fault(path, _linked(path, other)):
            return fail(fault, NEEDS)
        with _locked(path) as (_, mine), _other(path) as (_, theirs):
            if not mine:
                return fail("a lock that was let go stays locked", NEEDS)
            if theirs != "refused":
                return fail(f"another process asked for our lock: {theirs}", NEEDS)
    return ok("a lock has one owner, among names, open files and processes")


def _linked(path: str, other: str) -> str:
    """A second name of a file; the first one where `link` says why there is none."""
    try:
        return other if trial.link_fault(path, other) is None else path
    except OSError:
        return path


@contextmanager
def _locked(path: str) -> Iterator[tuple[int, bool]]:
    """An open file, and whether its lock could be had at once."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield fd, lock_descriptor(fd)
    finally:
        os.close(fd)


def dead_owner(project: Project) -> Told:
    """Whether the kernel frees a lock when its owner is killed."""
    with Bench(project) as bench:
        path = bench.file("owner")
        with _other(path) as (other, theirs), _locked(path) as (fd, mine):
            if theirs != "held" or mine:
                said = f"another process asked for a free lock: {theirs}"
                return fail(f"{said}; then we: {'held' if mine else 'refused'}", NEEDS)
            other.kill()
            freed = poll.until(lambda: lock_descriptor(fd) or None, MOMENT)
    if freed is None:
        return fail(f"a killed process kept its lock for {MOMENT:g} s", NEEDS)
    return ok("the lock of a killed process is free at once")


def link(project: Project) -> Told:
    """Whether of many links to one name exactly one is made."""
    with Bench(project) as bench:
        if fault := trial.link_fault(*trial.two_names(bench)):
            return fail(fault, NEEDS)
        goal = bench.aside("goal")
        mine = [bench.file(f"racer-{number}") for number in range(RACERS)]
        start = threading.Barrier(RACERS, timeout=MOMENT)

        def race(path: str) -> bool:
            start.wait()
            return disk.link_new(path, goal)

        with ThreadPoolExecutor(RACERS) as pool:
            winners = sum(pool.map(race, mine))
    said = f"{winners} of {RACERS} links to one name at once were made"
    return ok(said) if winners == 1 else fail(said, NEEDS)


def inodes(project: Project) -> Told:
    """Whether a file keeps its number, however one looks at it."""
    with Bench(project) as bench:
        path, new = bench.file("inode"), bench.aside("renamed")
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            seen = [os.fstat(fd), os.stat(path)]
            disk.move(path, new)
            seen += [os.fstat(fd), os.stat(new)]
        finally:
            os.close(fd)
        disk.drop_stale_names(project.tmp)
        seen.append(os.stat(new))
    if len({(now.st_dev, now.st_ino) for now in seen}) > 1:
        return fail("the number of a file changed while it was looked at", NEEDS)
    return ok("a file keeps its number")


def events(project: Project) -> Told:
    """Whether a file that is dropped rings a worker's bell."""
    bell = Bell()
    watcher = Watcher(project, bell)
    if trouble := watcher.start():
        return warn(trouble, "")
    with Bench(project) as bench:  # emptied when nobody watches any more
        try:
            mine, final = bench.file("event"), bench.final("event")
            began = time.perf_counter()
            disk.link_new(mine, final)
            rung = bell.wait(MOMENT)
            took = time.perf_counter() - began
        finally:
            watcher.stop()
    if not rung:
        return warn(
            f"none within {MOMENT:g} s of a drop", "nothing: workers look by themselves"
        )
    own = ", of this host's files only" if project.network else ""
    return ok(f"{duration(took)} after a drop{own}")


def write(project: Project) -> Told:
    """What a result costs: made, linked, and so that it survives a power cut."""
    quick, synced = _cost(project, sync=False), _cost(project, sync=True)
    return ok(f"a result takes {duration(quick)}, a synced one {duration(synced)}")


def _cost(project: Project, *, sync: bool) -> float:
    """Seconds for a result, as `farm.commit` writes it: the median of a few."""
    took: list[float] = []
    while len(took) < ROUNDS and sum(took) < PATIENCE:
        with Bench(project) as bench:
            aside, final = bench.aside("result"), bench.final("result")
            began = time.perf_counter()
            disk.write_aside(aside, b"{}" * 200, sync=sync)
            disk.link_new(aside, final)
            if sync:
                disk.sync_folder(os.path.dirname(final))
            disk.unlink(aside)
            took.append(time.perf_counter() - began)
    return statistics.median(took)


def clock(project: Project) -> Told:
    """Whether the file system's clock is ours."""
    with Bench(project) as bench:
        return skew(os.stat(bench.file("clock")).st_mtime - time.time())


def skew(seconds: float) -> Told:
    """Whether a new file's time, so far ahead of ours, passes for now."""
    if abs(seconds) <= LARGEST_SKEW:
        return ok("the file system's agrees with ours")
    way = "ahead of" if seconds > 0 else "behind"
    said = f"the file system's is {duration(abs(seconds))} {way} ours"
    return warn(said, "set both by NTP: ages of files and logs are wrong by that")


def modes(project: Project) -> Told:
    """Whether others can look into what farm writes."""
    with Bench(project) as bench:
        made = stat.S_IMODE(os.stat(bench.file("mode")).st_mode)
    if made & ~disk.FILE_MODE:
        said = f"new files get the mode {made:04o}, whatever farm asks for"
        return warn(said, "mount it with umask=077, or others read your results")
    own = stat.S_IMODE(os.stat(project.farm).st_mode)
    if own & ~disk.FOLDER_MODE:
        said = f"{project.farm} has the mode {own:04o}: others can look in"
        return warn(said, "chmod 700 .farm, as the next worker does")
    return ok("nobody else can read what farm writes")


TRIALS: dict[str, Check] = {
    "write": write,
    "modes": modes,
    "clock": clock,
    "flock": flock,
    "dead owner": dead_owner,
    "link": link,
    "inodes": inodes,
    "events": events,
}
