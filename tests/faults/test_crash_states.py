"""What a power cut leaves of a farm: at fifty moments while something writes, each.

The disk keeps a log (`tests.faults.disklog`), and the journal of its file system is
written out all the time, as it is of a disk that others use too: so names reach the
disk without the bytes that are not synced, which is the worst that can happen. Each
state that differs is mounted and judged by files alone, then farm goes on there.
"""

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from tests.driver import Farm
from tests.faults.disklog import LoggedDisk
from tests.faults.tools import needs
from tests.storm.verdict import STATUSES, parsed, read_archives
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.processes,
    pytest.mark.fault(35),
    needs("root", "strace"),
]

CUTS = 50
GO_ON = ("resume", "worker . --until-done")

#: After each call that changes a folder, the disk has time to take a part of it.
CHANGES = "link,linkat,unlink,unlinkat,rename,renameat,renameat2,mkdir,ftruncate"
SLOWLY = (
    *("strace", "-f", "--seccomp-bpf", "-o", os.devnull),
    *("-e", f"trace={CHANGES}", "-e", f"inject={CHANGES}:delay_exit=20000"),
)

#: Runs verbs, each in a child of its own that need not import anything.
VERBS = """
import json, os, sys
import farm.cli.verbs, farm.supervisor, farm.worker
from farm.cli import run

for line in sys.stdin:
    folder, words = json.loads(line)
    if not (child := os.fork()):
        os.chdir(folder)
        said = os.open("said", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(said, stream)
        code = run(words)
        sys.stdout.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Verbs:
    """Runs verbs of farm in a folder, quickly."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-P", "-c", VERBS],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, root: Path, line: str) -> str:
        """Run one to its end; what it said. It must not end with a bug's exit code."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        print(json.dumps([str(root), line.split()]), file=self._popen.stdin, flush=True)
        code = int(self._popen.stdout.readline())
        said = (root / "said").read_text()
        assert code in (0, 1), f"farm {line}: exit code {code}\n{said}"
        return said

    def close(self) -> None:
        """No more of them."""
        self._popen.communicate()


# -- what is found -------------------------------------------------------------------


class Found(NamedTuple):
    """All that lies in a project: bytes by id."""

    tasks: dict[str, bytes]
    results: dict[str, bytes]
    archived: dict[str, dict[str, str]]

    def text(self, kind: str, task_id: str) -> bytes | None:
        """The bytes of a task or of its result, from wherever they are."""
        here = (self.tasks if kind == "task" else self.results).get(task_id)
        there = self.archived.get(task_id, {}).get(kind)
        return here if here is not None or there is None else there.encode()


def found(root: Path) -> Found:
    """Everything, read without farm."""
    there = Found({}, {}, {})
    for path in (root / "tasks").rglob("[!.]*.json"):
        name = str(path.relative_to(root / "tasks"))
        kind = there.results if name.endswith(".result.json") else there.tasks
        kind[name.removesuffix(".json").removesuffix(".result")] = path.read_bytes()
    there.archived.update(read_archives(root))
    return there


def statuses(results: dict[str, bytes]) -> dict[str, str]:
    """How each task ended. One whose result has lost its bytes did not."""
    ended = ((task_id, parsed(raw)) for task_id, raw in results.items())
    return {task_id: result["status"] for task_id, result in ended if result}


def everything(root: Path) -> str:
    """All files, but for what beats."""
    files = (p for p in sorted(root.rglob("*")) if p.is_file())
    texts = {p: p.read_bytes() for p in files if p.parent.name != "workers"}
    return repr(texts)


# -- what happens ----------------------------------------------------------------------


class Kept(NamedTuple):
    """A file that must be there, in `tasks/` or archived, from a moment on."""

    since: int
    kind: str  #: task or result
    id: str
    text: bytes


class Scene:
    """A farm on a disk with a log, and what was promised of it, and when."""

    def __init__(self, disk: LoggedDisk) -> None:
        self.disk = disk
        self.farm = Farm(disk.folder / "project")
        self.kept: list[Kept] = []

    def drop(self, *task_ids: str, **task: Any) -> None:
        """Put tasks there as people do."""
        for task_id in task_ids:
            self.farm.drop(task_id, **task)

    def finish(self, *task_ids: str, run: str = "true") -> None:
        """Drop them, and run them to their ends."""
        self.drop(*task_ids, run=run)
        self.farm.work()

    def verb(self, line: str) -> None:
        """Run a verb of farm, slowly; it does what it should."""
        assert self.start(line).wait() == 0, self.farm.describe()

    def start(self, line: str, **environ: str) -> "subprocess.Popen[bytes]":
        """The same, in the background."""
        verb = (sys.executable, "-P", "-m", "farm", *line.split())
        return self.farm.start_command(*SLOWLY, *verb, **environ)

    def keep(self, *task_ids: str, kinds: tuple[str, ...] = ("task", "result")) -> None:
        """From now on these are promised."""
        since, there = self.disk.moment(), found(self.farm.root)
        for task_id in task_ids:
            for kind in kinds:
                text = there.text(kind, task_id)
                assert text
                self.kept.append(Kept(since, kind, task_id, text))


@contextmanager
def written_out(folder: Path) -> Iterator[None]:
    """Meanwhile the journal of the file system is written all the time."""
    over = threading.Event()

    def write() -> None:
        with (folder / "other").open("wb", buffering=0) as file:
            while not over.is_set():
                file.write(b"more")
                os.fsync(file.fileno())

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


OLD = ("old", "deep/old", "deep/er/old")
NEW = ("new", "deep/new", "other/new")


def work(scene: Scene) -> None:
    """What a worker told of is on the disk when it tells."""
    worker = scene.start("worker . --until-done", FARM_DURABILITY="always")
    log = scene.farm.logs[-1]
    told: set[str] = set()
    while worker.poll() is None or told < {*NEW}:
        lines = (line.split() for line in log.read_text().splitlines())
        for words in lines:
            if words[2:3] == ["succeeded"] and words[1] not in told:
                told.add(words[1])
                scene.keep(words[1])


def add(scene: Scene) -> None:
    for number in range(3):
        scene.verb("add -- true")
        scene.drop(f"dropped/{number}", run="true")


def retry(scene: Scene) -> None:
    scene.verb("retry old deep/old")
    scene.verb("worker . --until-done")


def archive(scene: Scene) -> None:
    scene.verb("archive old")
    scene.verb("archive **")


def restore(scene: Scene) -> None:
    scene.verb("restore old")
    scene.verb("restore **")


def pause(scene: Scene) -> None:
    scene.verb("pause")
    scene.verb("pause deep/* new")
    scene.verb("resume")


def scale(scene: Scene) -> None:
    supervisor = scene.start("supervise . -j 1")
    wait_until(scene.farm.worker_names)
    scene.verb("scale 2")
    scene.verb("scale 1")
    scene.verb("drain")
    supervisor.wait()


class Verb(NamedTuple):
    """What is done while the disk keeps its log, and how farm goes on afterwards."""

    act: Callable[[Scene], None]
    before: tuple[str, ...] = ()  #: verbs, before the log counts
    run_again: tuple[str, ...] = ()  #: old tasks that it makes run again
    after: tuple[str, ...] = GO_ON


VERBS_THAT_WRITE = {
    "add, and drop": Verb(add),
    "worker": Verb(work),
    "retry": Verb(retry, run_again=("old", "deep/old")),
    "cancel": Verb(lambda scene: scene.verb("cancel **")),
    "archive": Verb(archive, after=("archive **", "restore **", *GO_ON)),
    "restore": Verb(restore, before=("archive **",), after=("restore **", *GO_ON)),
    "pause, and resume": Verb(pause),
    "scale, and drain": Verb(scale, after=("supervise . -j 1 --until-done", *GO_ON)),
}


@pytest.mark.parametrize("name", VERBS_THAT_WRITE)
def test_whatever_a_cut_leaves_is_whole_and_goes_on(
    name: str, logged_disk: LoggedDisk
) -> None:
    verb = VERBS_THAT_WRITE[name]
    with logged_disk as disk:
        scene = Scene(disk)
        scene.finish(*OLD)
        for line in verb.before:
            scene.verb(line)
        scene.drop(*NEW, run="true")
        os.sync()
        scene.keep(*OLD, kinds=("task",))
        scene.keep(*set(OLD) - {*verb.run_again}, kinds=("result",))
        scene.keep(*NEW, kinds=("task",))
        since = disk.moment()
        with written_out(disk.folder):
            verb.act(scene)
        scene.farm.end()
    seen, states = set(), 0
    with disk.another_boot(), closing(Verbs(scene.farm.environ)) as verbs:
        for cut in disk.cuts(CUTS, since=since, pick=Random(0)):
            with disk.after(cut) as folder:
                root = folder / "project"
                state = everything(root)
                promised = [kept for kept in scene.kept if kept.since <= cut.moment]
                judge(root, promised, verbs, verb.after if state not in seen else ())
                seen.add(state)
                states += 1
    print(f"{states} cuts, {len(seen)} states")
    assert states == CUTS
    assert len(seen) > 1


def judge(
    root: Path, promised: list[Kept], verbs: Verbs, after: tuple[str, ...]
) -> None:
    """What lies there keeps the promises, and still does when farm has gone on."""
    has_all(root, promised)
    if not after:
        return
    agrees(root, verbs)
    for line in after:
        verbs.run(root, line)
    has_all(root, promised)
    agrees(root, verbs)
    there = found(root)
    assert there.tasks.keys() <= statuses(there.results).keys()


def has_all(root: Path, promised: list[Kept]) -> None:
    """Every promised file is there as it was."""
    there = found(root)
    for kept in promised:
        assert there.text(kept.kind, kept.id) == kept.text, (kept, there)


def agrees(root: Path, verbs: Verbs) -> None:
    """`farm status` says of each task that has ended what its result says."""
    counts = json.loads(verbs.run(root, "status --json"))["counts"]
    there = found(root)
    said = Counter({k: n for k, n in counts.items() if k in STATUSES and n})
    assert said == Counter(statuses(there.results).values()), (counts, there)
