"""What people would take instead, each in the way its own manual starts it.

    peers = Peers.install(folder)         their own environment, by pip
    peers.rate("celery", fresh, 1000)     tasks a second
    MissingError                          it cannot be had here, and why

Every system gets all its tasks before anything works on them (as files are dropped
beforehand), and keeps results where it has a place for them. Systems that live in
the caller (ProcessPoolExecutor, joblib, dask) are warm when the clock starts, which
is at the first submit, and stops when the last result is there. The others count
from the first end to the last: `watch` looks at how many are done; the results of huey and jug,
GNU parallel's job log and the files that HyperQueue makes for output have times. So no
start of a system is in any figure.

Redis listens on a unix socket alone. HyperQueue's server listens on every address,
so it gets a network of its own, with nothing but a loopback in it.
"""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.bench.farms import endings, rate, said, start, stop, wait_until

FUNCTION = "def nothing():\n    pass\n"
PACKAGES = {
    "huey": "huey",
    "celery": "celery redis packaging",  # the last is needed and not asked for
    "jug": "jug",
    "dask": "dask distributed",
    "dramatiq": "dramatiq redis",
    "rq": "rq redis",
    "joblib": "joblib",
    "hyperqueue": "hyperqueue",
}
WATCH = 0.002  # seconds between two looks at a queue
SELDOM = 0.2  # the same where a look costs more


class MissingError(Exception):
    """A peer cannot be had here; the sentence says why."""


Workers = list["subprocess.Popen[bytes]"]


def watch(count: int, done: Callable[[], int], workers: Workers) -> float:
    """Tasks a second from the first end that is seen to the last."""
    seen: list[tuple[float, int]] = []

    def is_over() -> bool:
        number = done()
        if number < count:
            check(workers)
        if number and (not seen or number == count):
            seen.append((time.monotonic(), number))
        return number >= count

    wait_until(is_over, f"{count} tasks", WATCH)
    (first, before), (last, after) = seen[0], seen[-1]
    return (after - before) / (last - first)


def written(folder: Path, pattern: str, count: int, workers: Workers) -> float:
    """Tasks a second by the times of result files, looked at when all are there."""

    def is_over() -> bool:
        there = sum(1 for _ in folder.glob(pattern))
        if there < count:
            check(workers)
        return there >= count

    wait_until(is_over, f"{count} results", SELDOM)
    return rate(sorted(path.stat().st_mtime for path in folder.glob(pattern)))


def check(workers: Workers) -> None:
    """MissingError if one of them failed."""
    for popen in workers:
        if popen.poll():
            raise MissingError(f"{said(popen)} ended with {popen.returncode}")


# -- Redis ---------------------------------------------------------------------------


class Redis:
    """A server on a socket in its folder, and what we ask it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "redis.sock"

    def sum(self, *commands: str) -> int:
        """What commands answer that answer a number each, together."""
        found = 0
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(self.path))
            for command in commands:
                line.sendall(f"{command}\r\n".encode())
                found += int(line.recv(64).strip(b":\r\n"))
        return found


@contextmanager
def redis_in(folder: Path) -> Iterator[Redis]:
    """A server for as long as it is needed."""
    program = needed("redis-server")
    redis = Redis(folder)
    keep_nothing = ["--save", "", "--appendonly", "no"]
    where = ["--port", "0", "--unixsocket", str(redis.path), "--dir", str(folder)]
    server = start([program, *where, *keep_nothing], folder)
    try:
        wait_until(redis.path.exists, "the socket of redis-server")
        yield redis
    finally:
        stop(server)


def needed(program: str) -> str:
    """The path of a program of the system."""
    found = shutil.which(program)
    if found is None:
        raise MissingError(f"{program} is not installed on this system")
    return found


# -- the environment -------------------------------------------------------------------


class Peers(NamedTuple):
    """Their environment; `missing` says what pip could not install, and why."""

    bin: Path
    missing: dict[str, str]

    @classmethod
    def install(cls, folder: Path, names: Iterable[str]) -> "Peers":
        """Make it, or take what is there from the last time."""
        bin_ = folder / "venv" / "bin"
        if not (bin_ / "pip").exists():
            subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        missing = {}
        for name in names:
            if why := _install(bin_, name):
                missing[name] = why
        return cls(bin_, missing)

    def rate(self, name: str, folder: Path, count: int) -> float:
        """Tasks a second of one peer, in a fresh folder."""
        if name in self.missing:
            raise MissingError(self.missing[name])
        folder.mkdir(parents=True)
        (folder / "quick.py").write_text(FUNCTION)
        return RUNS[name](self, folder, count)

    def script(self, folder: Path, text: str, *arguments: object) -> str:
        """Run a program in their Python; what it prints."""
        return printed(
            [str(self.bin / "python"), "-c", text, *map(str, arguments)], folder
        )


def _install(bin_: Path, name: str) -> str:
    """Install one peer; a sentence if it cannot be had."""
    packages = PACKAGES[name].split()
    done = subprocess.run(
        [bin_ / "pip", "install", "--quiet", "--disable-pip-version-check", *packages],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return ""
    words = done.stderr.strip().splitlines() or ["pip failed without a word"]
    return f"pip install {' '.join(packages)}: {words[-1]}"


def printed(command: list[str], folder: Path) -> str:
    """Run a program to its end; what it prints."""
    done = subprocess.run(
        command, cwd=folder, check=False, capture_output=True, text=True
    )
    if done.returncode:
        words = done.stderr.strip().splitlines() or ["it said nothing"]
        raise MissingError(f"{Path(command[0]).name} failed: {words[-1]}")
    return done.stdout


# -- in the caller ---------------------------------------------------------------------

POOL = """
import sys, time
from concurrent.futures import ProcessPoolExecutor
from quick import nothing
if __name__ == "__main__":
    count = int(sys.argv[1])
    with ProcessPoolExecutor(2) as pool:
        for future in [pool.submit(time.sleep, 0.1) for _ in range(2)]:
            future.result()
        began = time.perf_counter()
        for future in [pool.submit(nothing) for _ in range(count)]:
            future.result()
        print(count / (time.perf_counter() - began))
"""
JOBLIB = """
import sys, time
from joblib import Parallel, delayed
from quick import nothing
count = int(sys.argv[1])
with Parallel(n_jobs=2) as parallel:
    parallel(delayed(time.sleep)(0.1) for _ in range(2))
    began = time.perf_counter()
    parallel(delayed(nothing)() for _ in range(count))
    print(count / (time.perf_counter() - began))
"""
DASK = """
import sys, time
from dask.distributed import Client, LocalCluster
from quick import nothing
if __name__ == "__main__":
    count = int(sys.argv[1])
    where = dict(host="127.0.0.1", dashboard_address=None)
    with LocalCluster(n_workers=2, threads_per_worker=1, **where) as cluster:
        with Client(cluster) as client:
            client.gather([client.submit(time.sleep, 0.1, pure=False) for _ in "12"])
            began = time.perf_counter()
            client.gather([client.submit(nothing, pure=False) for _ in range(count)])
            print(count / (time.perf_counter() - began))
"""


def pool_rate(folder: Path, count: int) -> float:
    """`ProcessPoolExecutor(2).submit` in the Python that farm runs in."""
    folder.mkdir(parents=True)
    (folder / "quick.py").write_text(FUNCTION)
    (folder / "pool.py").write_text(POOL)
    return float(printed([sys.executable, "pool.py", str(count)], folder))


def _joblib(peers: Peers, folder: Path, count: int) -> float:
    return float(peers.script(folder, JOBLIB, count))


def _dask(peers: Peers, folder: Path, count: int) -> float:
    (folder / "cluster.py").write_text(DASK)
    return float(printed([str(peers.bin / "python"), "cluster.py", str(count)], folder))


# -- with a queue ------------------------------------------------------------------------

HUEY = """
from huey import FileHuey
from quick import nothing
huey = FileHuey(path="huey", store_none=True)
task = huey.task()(nothing)
"""
CELERY = """
from celery import Celery
from quick import nothing
where = "redis+socket://{path}"
app = Celery("app", broker=where, backend=where)
task = app.task(nothing)
"""
DRAMATIQ = """
import dramatiq
from dramatiq.brokers.redis import RedisBroker
from quick import nothing
dramatiq.set_broker(RedisBroker(url="unix://{path}"))
task = dramatiq.actor(nothing)
"""
RQ = """
import sys
from redis import Redis
from rq import Queue
from quick import nothing
queue = Queue(connection=Redis(unix_socket_path=sys.argv[2]))
for _ in range(int(sys.argv[1])):
    queue.enqueue(nothing)
"""
JUG = """
from jug import TaskGenerator
from quick import nothing


@TaskGenerator
def task(number):  # a task of jug's is known by its arguments
    return nothing()


for number in range({count}):
    task(number)
"""
SEND = "import sys, app; [app.task{how}() for _ in range(int(sys.argv[1]))]"


@contextmanager
def running(folder: Path, *commands: list[str]) -> Iterator[Workers]:
    """Processes for as long as they are needed."""
    started = [start(command, folder, PYTHONPATH=str(folder)) for command in commands]
    try:
        yield started
    finally:
        for popen in started:
            stop(popen)


def _huey(peers: Peers, folder: Path, count: int) -> float:
    (folder / "app.py").write_text(HUEY)
    peers.script(folder, SEND.format(how=""), count)
    consumer = ["huey_consumer", "app.huey", "-w", "2", "-k", "process", "-q"]
    with running(folder, [str(peers.bin / consumer[0]), *consumer[1:]]) as workers:
        return written(folder / "huey" / "results", "*/*/*", count, workers)


def _celery(peers: Peers, folder: Path, count: int) -> float:
    with redis_in(folder) as redis:
        (folder / "app.py").write_text(CELERY.format(path=redis.path))
        peers.script(folder, SEND.format(how=".delay"), count)
        quiet = ["--without-gossip", "--without-mingle", "-l", "ERROR"]
        worker = ["-A", "app", "worker", "-P", "prefork", "-c", "2", *quiet]
        with running(folder, [str(peers.bin / "celery"), *worker]) as workers:
            left = ("LLEN celery", "HLEN unacked")
            return watch(count, lambda: count - redis.sum(*left), workers)


def _dramatiq(peers: Peers, folder: Path, count: int) -> float:
    with redis_in(folder) as redis:
        (folder / "app.py").write_text(DRAMATIQ.format(path=redis.path))
        peers.script(folder, SEND.format(how=".send"), count)
        worker = [str(peers.bin / "dramatiq"), "app", "-p", "2", "-t", "1"]
        with running(folder, worker) as workers:
            left = "HLEN dramatiq:default.msgs"
            return watch(count, lambda: count - redis.sum(left), workers)


def _rq(peers: Peers, folder: Path, count: int) -> float:
    with redis_in(folder) as redis:
        peers.script(folder, RQ, count, redis.path)
        url = f"unix://{redis.path}"
        worker = [str(peers.bin / "rq"), "worker", "--url", url, "--burst", "--quiet"]
        with running(folder, worker, worker) as workers:
            done = "ZCARD rq:finished:default"
            return watch(count, lambda: redis.sum(done), workers)


def _jug(peers: Peers, folder: Path, count: int) -> float:
    (folder / "jugfile.py").write_text(JUG.format(count=count))
    worker = [str(peers.bin / "jug"), "execute", "jugfile.py"]
    with running(folder, worker, worker) as workers:
        return written(folder / "jugfile.jugdata", "??/*", count, workers)


# -- commands ----------------------------------------------------------------------------

HYPERQUEUE = """
import os, sys
from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig
with LocalCluster(os.path.abspath("server")) as cluster:
    cluster.start_worker(WorkerConfig(cores=2))
    job = Job()
    for number in range(int(sys.argv[1])):
        job.program(["true"], stdout=f"{number}.out", stderr=f"{number}.err")
    client = cluster.client()
    client.wait_for_jobs([client.submit(job)])
"""
ALONE = "ip link set lo up && exec "  # in a network of its own


def xargs_rate(folder: Path, count: int) -> float:
    """`xargs -P2 -n1 true`, which keeps no output."""
    folder.mkdir(parents=True)
    (folder / "words").write_text("".join(f"{n}\n" for n in range(count)))
    command = [needed("xargs"), "-a", "words", "-P2", "-n1", "true"]
    began = time.perf_counter()
    printed(command, folder)
    return count / (time.perf_counter() - began)


def parallel_rate(folder: Path, count: int) -> float:
    """GNU parallel, which keeps output and a log; from that log."""
    program = needed("parallel")
    folder.mkdir(parents=True)
    (folder / "words").write_text("".join(f"{n}\n" for n in range(count)))
    keep = ["--joblog", "log", "--results", "out"]
    printed(
        [program, "--will-cite", "-j2", *keep, "-a", "words", "-n1", "true"], folder
    )
    lines = [line.split("\t") for line in (folder / "log").read_text().splitlines()]
    return rate(sorted(float(line[2]) + float(line[3]) for line in lines[1:]))


def _hyperqueue(peers: Peers, folder: Path, count: int) -> float:
    for program in ("unshare", "ip"):
        needed(program)
    (folder / "cluster.py").write_text(HYPERQUEUE)
    line = f"{ALONE}{peers.bin / 'python'} cluster.py {count}"
    printed(["unshare", "-rn", "sh", "-c", line], folder)
    return rate(endings(folder, ".out"))


RUNS: dict[str, Callable[[Peers, Path, int], float]] = {
    "huey": _huey,
    "celery": _celery,
    "jug": _jug,
    "dask": _dask,
    "dramatiq": _dramatiq,
    "rq": _rq,
    "joblib": _joblib,
    "hyperqueue": _hyperqueue,
}
