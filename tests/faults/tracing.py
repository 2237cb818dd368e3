"""strace around workers: what they ask of the kernel, and answers that are lies.

    with Strace(worker.pid, tmp / "trace", inject("fsync", "error=EIO")):
        ...                        # a worker that runs; the fault ends with the block
    calls(tmp / "trace")           # what its main thread asked for, in order

    done = work_traced(farm, tmp / "trace", [])       # a worker's whole life

    with Stem(farm) as stem:       # many workers that run for one moment each
        code = stem.work(project, inject("link", "signal=KILL:when=1"))
        stem.finish(project)

Only a worker's main thread is traced: it is the one that claims, runs and commits,
its heart goes on beating, and no two threads are mixed up in one trace.

A stem has imported farm already and forks a worker for each request, which costs
milliseconds. It lives in a process id namespace of its own: a look at all processes
sees only ours, and all of them end with it. This file is its program, too.
"""

import os
import re
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from farm.backoff import AdaptiveBackoff
from farm.config import Settings
from farm.locking import TaskLock
from farm.project import Project
from farm.work import work_loop, work_once
from farm.worker import Worker
from tests.driver import Farm
from tests.faults.tools import UNSHARE

NAMESPACE = (*UNSHARE, "--pid", "--fork", "--kill-child", "--mount-proc")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\w+)")


def inject(names: str, what: str) -> list[str]:
    """Options of strace that tamper with these calls, and look at no others."""
    return ["-e", f"trace={names}", "-e", f"inject={names}:{what}"]


class Call(NamedTuple):
    """One call in a trace; descriptors are shown with their paths."""

    name: str
    arguments: str
    returned: str


def calls(trace: Path) -> list[Call]:
    """The calls in a trace that returned, in order."""
    found = [_CALL.match(line) for line in trace.read_text().splitlines()]
    return [Call(*call.groups()) for call in found if call]


def names_in(trace: Path) -> list[str]:
    """Names of all calls in a trace, also of the last, which never returned."""
    lines = trace.read_text().splitlines()
    return sorted({line.partition("(")[0] for line in lines if "(" in line})


def work_traced(
    farm: Farm, trace: Path, options: list[str], **environ: str
) -> "subprocess.CompletedProcess[str]":
    """Run one worker until nothing is left, and trace all of its life."""
    worker = [sys.executable, "-P", "-m", "farm", "worker", str(farm.root)]
    return subprocess.run(
        [*_strace(trace, options), *worker, "--until-done"],
        cwd=farm.root,
        env=farm.environ | environ,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def _strace(trace: Path, options: list[str]) -> list[str]:
    return ["strace", "-y", "-s", "200", "-o", str(trace), *options]


class Strace:
    """Traces a process's main thread from now on, until the block ends."""

    def __init__(self, pid: int, trace: Path, options: list[str]) -> None:
        self._popen = subprocess.Popen(
            [*_strace(trace, options), "-p", str(pid)],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._popen.stderr is not None
        said = self._popen.stderr.readline()
        assert "attached" in said, said

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._popen.terminate()  # it lets go of what it traces
        self._popen.communicate()


class Request(msgspec.Struct):
    """One worker for a moment; with `options` it is traced."""

    root: str
    trace: str = ""
    options: list[str] | None = None


class Stem:
    """Forks workers that have imported everything; a settled farm in a moment."""

    def __init__(self, farm: Farm) -> None:
        self.log = farm.root / "stem.log"
        with self.log.open("wb") as log:
            self._popen = subprocess.Popen(
                [*NAMESPACE, sys.executable, "-P", "-m", "tests.faults.tracing"],
                env=farm.environ | {"PYTHONUNBUFFERED": ""},  # as it is for most
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        farm.processes.append(self._popen)
        farm.logs.append(self.log)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._popen.communicate()

    def work(self, project: Farm, options: list[str]) -> int:
        """A worker that is traced while it works until nothing is ready; its end."""
        trace = project.root / "trace"
        return self._ask(Request(str(project.root), str(trace), options))

    def finish(self, project: Farm) -> int:
        """A worker that does what is left, and tidies up after the dead; its end."""
        return self._ask(Request(str(project.root)))

    def _ask(self, request: Request) -> int:
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.write(msgspec.json.encode(request) + b"\n")
        self._popen.stdin.flush()
        answer = self._popen.stdout.readline()
        assert answer, self.log.read_text()
        return int(answer)


# -- the stem's own process ------------------------------------------------------


def _worker(root: str) -> Worker:
    sys.path.insert(0, root)
    settings = Settings(heartbeat=0.2, durability="always")
    return Worker.begin(Project.open(root), settings)


def _work_stopped(root: str) -> None:
    """Stop before the first call that is to be traced; then work."""
    with _worker(root) as worker:
        worker.backoff = AdaptiveBackoff(base_delay=0.001, max_delay=0.001)
        os.kill(os.getpid(), signal.SIGSTOP)
        while work_once(worker):
            continue


def _finish(root: str) -> None:
    with _worker(root) as worker:
        work_loop(worker, until_done=True)
    TaskLock(root).clean_all_stale_locks()


def _forked(work: Callable[[str], None], root: str) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work(root)
            code = 0
        except BaseException:  # noqa: BLE001 - a fork must never go on as the stem
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def _end_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _answer(request: Request) -> int:
    if request.options is None:
        return _end_of(_forked(_finish, request.root))
    pid = _forked(_work_stopped, request.root)
    _, status = os.waitpid(pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), status
    with Strace(pid, Path(request.trace), request.options):
        os.kill(pid, signal.SIGCONT)
        return _end_of(pid)


def _reap_orphans() -> None:
    """The first process of a namespace inherits what the killed left behind."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return  # nobody is left


def _serve() -> None:
    for line in sys.stdin.buffer:
        request = msgspec.json.decode(line, type=Request)
        sys.stdout.buffer.write(b"%d\n" % _answer(request))
        sys.stdout.buffer.flush()
        _reap_orphans()


if __name__ == "__main__":
    _serve()
