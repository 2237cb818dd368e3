"""Whatever somebody puts where farm reads: it never hangs, crashes or eats files.

Every kind of thing (a FIFO, a link to itself, 10 MB of zeros ...) lies once at every
path that farm reads. A task beside it still succeeds, what is said are sentences,
and what belongs to somebody is still there. Task files themselves are the matter of
`tests/processes/test_bad_input.py`.

Verbs run in forks of one process that has imported farm already (`SERVER`): so the
whole matrix is quick, and a verb that hangs is ended by its own alarm.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from farm.process import identify
from farm.project import Project
from tests.driver import Farm
from tests.sockets import make_socket

pytestmark = [pytest.mark.processes, pytest.mark.fault(22)]

PATIENCE = 20  # seconds; a verb that takes longer hangs
MOST_MEMORY = 150_000  # KiB of one verb, beside 10 MB of garbage; 25,000 is usual

SERVER = f"""
import importlib, json, os, pkgutil, signal, sys, traceback

import farm.cli
from farm.cli import run

for module in pkgutil.iter_modules(farm.cli.__path__):
    importlib.import_module(f"farm.cli.{{module.name}}")
import watchdog.observers


def in_a_fork(order):
    out = os.open(order["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.chdir(order["root"])
    os.environ["FARM_HEARTBEAT"] = "0.2"
    code = 99
    try:
        code = run(order["args"])
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


for line in sys.stdin:
    if not (pid := os.fork()):
        signal.alarm({PATIENCE})
        in_a_fork(json.loads(line))
    _, status, used = os.wait4(pid, 0)
    print(json.dumps([os.waitstatus_to_exitcode(status), used.ru_maxrss]), flush=True)
"""


class Said(NamedTuple):
    """How a verb ended, and what it said."""

    code: int
    memory: int  #: KiB, at most
    text: str


Verb = Callable[..., Said]


@pytest.fixture(scope="module")
def verb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verb]:
    """Runs a verb of farm in a project's folder."""
    out = tmp_path_factory.mktemp("said") / "out"
    environ = {k: v for k, v in os.environ.items() if not k.startswith("FARM_")}
    environ["PYTHONPATH"] = str(Path(__file__).parent.parent.parent)
    with subprocess.Popen(
        [sys.executable, "-P", "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environ,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        orders, answers = server.stdin, server.stdout

        def run(farm: Farm, *args: str) -> Said:
            order = {"root": str(farm.root), "args": args, "out": str(out)}
            print(json.dumps(order), file=orders, flush=True)
            code, memory = json.loads(answers.readline())
            return Said(code, memory, out.read_text(errors="replace"))

        yield run


# -- what lies there -----------------------------------------------------------------


def fill(path: Path) -> None:
    """A folder with somebody's file in it."""
    path.mkdir()
    (path / "precious").write_text("precious")


def outside(path: Path) -> Path:
    """A folder beside the project."""
    return next(p.parent for p in path.parents if p.name == "project") / "outside"


def link_out(path: Path) -> None:
    """A link to somebody's file outside the project."""
    outside(path).mkdir()
    (outside(path) / "precious").write_text("precious")
    path.symlink_to(outside(path) / "precious")


def link_out_to_folder(path: Path) -> None:
    """A link to somebody's folder outside the project."""
    fill(outside(path))
    path.symlink_to(outside(path))


OTHER_TYPES = b'[1]\n7\n"x"\n{"line": "claimed", "task": 7}\n{"name": [], "id": 1}\n'

KINDS: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(bytes(range(256)) * 40),
    "other types": lambda path: path.write_bytes(OTHER_TYPES),
    "10 MB torn": lambda path: path.write_bytes(b'{"a": "' + b"x" * (10 << 20)),
    "folder": fill,
    "fifo": os.mkfifo,
    "socket": make_socket,
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "link out": link_out,
    "link to a folder": link_out_to_folder,
}

HOST = identify().host

#: where a file of any kind must disturb nobody
PATHS = [
    "tasks/bad.result.json",
    "tasks/nobody.result.json",
    ".farm/.gitignore",
    ".farm/control/cancel-elsewhere",
    ".farm/control/notes",
    f".farm/control/scale-{HOST}",
    ".farm/journal/ghost.jsonl",
    ".farm/journal/rebuilt",
    ".farm/locks/task-bad.lock",
    ".farm/locks/task-nobody.lock",
    ".farm/logs/bad.1.err",
    ".farm/logs/bad.1.out",
    ".farm/logs/hooks.log",
    ".farm/logs/nobody.1.out",
    f".farm/supervisor-{HOST}.lock",
    ".farm/tmp/ghost.stacks",
    ".farm/workers/ghost.json",
    ".farm/workers/ghost.lock",
    "archive",
]

TWICE = {"run": '[ "$FARM_ATTEMPT" = 2 ]', "retries": {"max": 1, "base_delay": 0.01}}
OLD = 0.0  # long ago: what is old is swept
OLD_ATTEMPT = {
    "attempt": 1,
    "why": "succeeded",
    "counted": True,
    "started": "2026-01-01T00:00:00Z",
    "finished": "2026-01-01T00:00:01Z",
    "worker": "w",
    "host": "h",
    "stdout_path": ".farm/logs/old.1.out",
}
OLD_RESULT = json.dumps(
    {
        "version": 1,
        "id": "old",
        "status": "succeeded",
        "started": "2026-01-01T00:00:00Z",
        "finished": "2026-01-01T00:00:01Z",
        "duration_s": 1.0,
        "worker": "w",
        "host": "h",
        "attempts": [OLD_ATTEMPT],
        "stdout": "",
        "stderr": "",
        "stdout_path": ".farm/logs/old.1.out",
    }
)


def lay(farm: Farm, path: str, kind: str) -> None:
    """A project with two tasks, in which something of this kind lies at this path."""
    Project.open(farm.root)  # makes every folder
    farm.drop("bad", run="echo bad")
    farm.drop("good", **TWICE)  # the worker is idle between its attempts: it sweeps
    farm.drop("old", run="true")
    farm.result_path("old").write_text(OLD_RESULT)  # no journal tells of it: rebuilt
    there = farm.root / path
    if there.is_file():
        there.unlink()
    KINDS[kind](there)
    os.utime(there, (OLD, OLD), follow_symlinks=False)


def precious(farm: Farm) -> list[str]:
    """Somebody's files, in the project or beside it."""
    return [path.read_text() for path in farm.root.parent.rglob("precious")]


def is_a_sentence(said: Said) -> bool:
    """Whether it neither hung nor crashed."""
    return said.code in (0, 1) and "Traceback" not in said.text


each_kind = pytest.mark.parametrize("kind", KINDS)


@each_kind
@pytest.mark.parametrize("path", PATHS)
def test_what_lies_in_farms_way_disturbs_no_other_task(
    farm: Farm, verb: Verb, path: str, kind: str
) -> None:
    lay(farm, path, kind)
    before = precious(farm)
    worked = verb(farm, "worker", str(farm.root), "--until-done")

    assert is_a_sentence(worked), worked
    assert farm.status_of("good") == "succeeded", worked
    assert "cannot look for tasks" not in worked.text
    assert worked.memory < MOST_MEMORY
    assert precious(farm) == before


LOOKS = [
    ["status"],
    ["status", "--json"],
    ["workers"],
    ["check"],
    ["why", "bad"],
    ["show", "bad"],
    ["logs", "bad"],
]


@each_kind
@pytest.mark.parametrize("path", PATHS)
def test_what_lies_in_farms_way_is_no_trouble_to_look_at(
    farm: Farm, verb: Verb, path: str, kind: str
) -> None:
    lay(farm, path, kind)
    said = {" ".join(look): verb(farm, *look) for look in LOOKS}

    assert [look for look in said if not is_a_sentence(said[look])] == [], said
    assert {said[look].code for look in ("status", "workers", "check")} == {0}, said
    assert json.loads(said["status --json"].text)["counts"]["ready"] >= 1


@each_kind
def test_a_log_that_became_something_else_is_no_trouble_to_look_at(
    farm: Farm, verb: Verb, kind: str
) -> None:
    lay(farm, ".farm/logs/old.1.out", kind)
    looks = [["logs", "old"], ["logs", "old", "--tail", "3"], ["show", "old"]]
    said = {" ".join(look): verb(farm, *look) for look in looks}

    assert [look for look in said if not is_a_sentence(said[look])] == [], said


FOLDERS = ["control", "journal", "locks", "logs", "tmp", "workers"]


@pytest.mark.parametrize("kind", ["garbage", "fifo", "link to itself", "link out"])
@pytest.mark.parametrize("folder", ["tasks", ".farm", *(f".farm/{f}" for f in FOLDERS)])
def test_what_is_no_folder_is_named_and_nothing_runs(
    farm: Farm, verb: Verb, folder: str, kind: str
) -> None:
    farm.tasks.rmdir()
    there = farm.root / folder
    there.parent.mkdir(exist_ok=True)
    KINDS[kind](there)
    before = precious(farm)
    worked = verb(farm, "worker", str(farm.root), "--until-done")
    looked = [verb(farm, *look) for look in (["status"], ["workers"], ["check"])]

    assert worked.code in (1, 2), worked
    assert f"/{folder}" in worked.text
    assert all(one.code in (0, 1, 2) for one in looked), looked
    assert not any("Traceback" in one.text for one in (worked, *looked))
    assert precious(farm) == before


# -- what a dead worker left -----------------------------------------------------------

DEAD = {"host": HOST, "boot": "another", "pidns": 1, "pid": 1, "ticks": 1}
LEFT = ["tmp/ghost.err", "tmp/ghost.out", "tmp/ghost.stacks", "workers/ghost.json"]


def leave_open_attempt(farm: Farm, **more: object) -> None:
    """The ledger of `bad` says that a worker named ghost, now dead, runs it."""
    raw = (farm.tasks / "bad.json").read_bytes()
    claimed = {
        "line": "claimed",
        "task": "bad",
        "attempt": 1,
        "token": "t",
        "holder": "ghost",
        "who": DEAD,
        "acquired_at": 1.0,
        "sha256": hashlib.sha256(raw).hexdigest(),
    }
    ledger = farm.state / "locks" / "task-bad.lock"
    ledger.write_text(json.dumps(claimed | more) + "\n")


@each_kind
@pytest.mark.parametrize("path", LEFT)
def test_whatever_a_dead_worker_left_its_task_runs_again(
    farm: Farm, verb: Verb, path: str, kind: str
) -> None:
    lay(farm, f".farm/{path}", kind)
    leave_open_attempt(farm)
    before = precious(farm)
    worked = verb(farm, "worker", str(farm.root), "--until-done")

    assert is_a_sentence(worked), worked
    assert farm.status_of("good") == "succeeded", worked
    assert farm.status_of("bad") == "succeeded", worked
    assert precious(farm) == before


# -- what a task makes of its progress file ----------------------------------------------

BLOWS = {
    "a folder": 'mkdir "$FARM_PROGRESS"',
    "a full folder": 'mkdir "$FARM_PROGRESS"; : > "$FARM_PROGRESS/file"',
    "a fifo": 'mkfifo "$FARM_PROGRESS"',
    "a dangling link": 'ln -s nowhere "$FARM_PROGRESS"',
    "10 MB": 'head -c 10000000 /dev/zero > "$FARM_PROGRESS"',
    "no permission": 'echo 0.5 > "$FARM_PROGRESS"; chmod 0 "$FARM_PROGRESS"',
}


@pytest.mark.parametrize("blow", BLOWS)
def test_whatever_a_task_makes_of_its_progress_status_and_the_next_task_go_on(
    farm: Farm, verb: Verb, blow: str
) -> None:
    gate = farm.gate()
    farm.drop("bad", run=f"{BLOWS[blow]}; {gate.command}", priority=9)
    farm.drop("good", run="true")
    farm.start_worker()
    gate.wait_reached()
    looked = verb(farm, "status")
    gate.open()
    farm.wait_for("succeeded", "bad", "good")

    assert looked.code == 0, looked
    assert "bad" in looked.text


# -- settings and the supervisor's lock --------------------------------------------------

SETTINGS_ARE_READ = ("empty", "dangling link")


@each_kind
def test_settings_that_cannot_be_read_are_named_and_nothing_runs(
    farm: Farm, verb: Verb, kind: str
) -> None:
    lay(farm, "farm.toml", kind)
    worked = verb(farm, "worker", str(farm.root), "--until-done")
    readable = kind in SETTINGS_ARE_READ

    assert worked.code == (0 if readable else 2), worked
    assert ("farm.toml" in worked.text) != readable
    assert "Traceback" not in worked.text
    assert farm.status_of("good") == ("succeeded" if readable else None)


@each_kind
def test_a_supervisor_takes_its_lock_or_says_what_lies_there(
    farm: Farm, verb: Verb, kind: str
) -> None:
    lay(farm, f".farm/supervisor-{HOST}.lock", kind)
    before = precious(farm)
    said = verb(farm, "supervise", str(farm.root), "-j", "1", "--until-done")

    assert said.code in (0, 1, 2), said
    assert "Traceback" not in said.text
    assert precious(farm) == before
    assert said.code == 0 or f"supervisor-{HOST}.lock" in said.text
