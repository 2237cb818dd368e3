"""Who may read what a farm writes, who may make it run something, what it shows.

Three walls: other users of the machine see nothing below `.farm/`; no name leads out
of the project; nothing that a task says steers a terminal. Whose tasks are run at all
is in `test_trust.py`.
"""

import fcntl
import gzip
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from farm import cli
from farm.drop import misnamed
from farm.errors import UsageError
from farm.project import Project, is_usable
from tests.driver import Farm
from tests.faults.tools import AS_NOBODY, NOBODY, needs
from tests.terminals import ESCAPE, Terminal
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

OTHERS = stat.S_IRWXG | stat.S_IRWXO


def open_to_others(folder: Path) -> dict[str, str]:
    """What other users may use in some way, below a folder and itself."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            continue  # a worker removed it while we looked
        if mode & OTHERS and not stat.S_ISLNK(mode):
            found[str(path)] = stat.filemode(mode)
    return found


@pytest.fixture
def no_umask() -> Iterator[None]:
    """Whatever is created gets all the rights that its creator asks for."""
    before = os.umask(0)
    yield
    os.umask(before)


# -- what other users see ------------------------------------------------------------


@pytest.mark.usefixtures("no_umask")
def test_a_run_leaves_nothing_for_others_whatever_the_umask(tmp_path: Path) -> None:
    farm = Farm(tmp_path / "made" / "by" / "init")
    shutil.rmtree(tmp_path / "made")
    tmp_path.joinpath("made").mkdir(0o755)
    assert farm_in(tmp_path, "init", str(farm.root)) == 0
    farm.write("f.py", "def say(): print('hello'); return 1").chmod(0o644)
    farm.write(
        "farm.toml", 'heartbeat = "0.1s"\n[hooks]\non_done = "echo hook"\n'
    ).chmod(0o644)
    gate = farm.gate()
    for name, line in {
        "deep/er/long": "head -c 40000 /dev/zero",
        "bad": "exit 3",
        "held": f"echo 0.5 > $FARM_PROGRESS; chmod 600 $FARM_PROGRESS; {gate.command}",
    }.items():
        assert farm.farm("add", "--name", name, line).returncode == 0
    farm.farm("add", "--name", "call", "--call", "f:say", "--needs", "deep/er/long")
    try:
        supervisor = farm.supervise("-j", "2", "--until-done")
        gate.wait_reached()
        wait_until(lambda: farm.status_of("call"), on_timeout=farm.describe)
        running = open_to_others(farm.state)
        gate.open()
        supervisor.wait(40)
    finally:
        farm.end()
    for verb in (["retry", "bad"], ["pause"], ["resume"], ["cancel", "bad"]):
        farm.farm(*verb)
    assert farm.farm("archive", "call", "held", "deep/er/long").returncode == 0
    shutil.rmtree(farm.tasks / "deep")
    assert farm.farm("restore", "held", "deep/er/long").returncode == 0

    assert running == {}
    assert open_to_others(farm.state) == {}
    assert open_to_others(farm.root / "archive") == {}
    assert {p for p in farm.tasks.rglob("*") if p.stat().st_mode & OTHERS} == {
        farm.tasks / "deep",
        farm.tasks / "deep" / "er",
    }
    assert not any(p.stat().st_mode & 0o022 for p in farm.tasks.rglob("*"))
    assert Project(farm.root).check_trust() == []


def farm_in(folder: Path, *args: str) -> int:
    """Run a verb where no project is; its exit code."""
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-P", "-m", "farm", *args]
    return subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, check=False
    ).returncode


@needs("strace")
@pytest.mark.usefixtures("no_umask")
def test_files_are_private_from_their_first_moment(farm: Farm, tmp_path: Path) -> None:
    """A mode that is taken away after the creation leaves a moment for others."""
    for folder in (farm.root, farm.tasks):
        folder.chmod(0o755)
    assert farm.farm("add", "--name", "job", "echo hello").returncode == 0
    shutil.rmtree(farm.state)
    trace = tmp_path / "trace"
    calls = "trace=openat,open,creat,mkdir,mkdirat"
    worker = [sys.executable, "-P", "-m", "farm", "worker", "--until-done"]
    subprocess.run(
        ["strace", "-f", "-o", trace, "-e", calls, *worker],
        env=farm.environ,
        cwd=farm.root,
        capture_output=True,
        check=True,
    )
    made = re.findall(
        rf'"{farm.root}/([^"]*)", (?:[A-Z_|]*O_CREAT[A-Z_|]*, )?(0[0-7]+)\) = \d',
        trace.read_text(),
    )

    assert len(made) > 10, trace.read_text()
    assert {path: mode for path, mode in made if int(mode, 8) & OTHERS} == {}


# -- one user for each farm ----------------------------------------------------------


def as_nobody(farm: Farm, *args: str) -> "subprocess.CompletedProcess[str]":
    """Run a verb as another user."""
    return subprocess.run(
        [*AS_NOBODY, sys.executable, "-P", "-m", "farm", *args],
        cwd=farm.root,
        env=farm.environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


WRITERS = (
    ["worker", "--until-done"],
    ["supervise", "--until-done"],
    ["add", "true"],
    ["retry", "job"],
    ["cancel", "job"],
    ["pause"],
    ["drain"],
    ["scale", "1"],
    ["archive", "job"],
)


@needs("another user")
@pytest.mark.parametrize("args", WRITERS, ids=lambda args: args[0])
def test_another_user_is_told_whose_farm_it_is(
    in_the_open: Farm, args: list[str]
) -> None:
    farm = in_the_open
    farm.drop("job", run="true")
    Project.open(farm.root)
    before = sorted(farm.root.rglob("*"))
    told = as_nobody(farm, *args)

    assert told.returncode == 2, told
    assert "belongs to root, and a farm has one user" in told.stderr
    assert sorted(farm.root.rglob("*")) == before


@needs("another user")
@pytest.mark.parametrize("args", WRITERS, ids=lambda args: args[0])
def test_root_is_told_whose_farm_it_is(in_the_open: Farm, args: list[str]) -> None:
    """Root may do anything, but what it leaves there the owner could not change."""
    farm = in_the_open
    farm.drop("job", run="true")
    Project.open(farm.root)
    for path in (farm.root, *farm.root.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    before = sorted(farm.root.rglob("*"))
    told = farm.farm(*args)

    assert (told.returncode, "a farm has one user" in told.stderr) == (2, True), told
    assert sorted(farm.root.rglob("*")) == before


@needs("another user")
@pytest.mark.parametrize("verb", ["status", "show", "why", "logs", "workers", "check"])
def test_another_user_may_look_or_is_told_why_not(in_the_open: Farm, verb: str) -> None:
    farm = in_the_open
    farm.drop("job", run="true")
    assert farm.work() == 0
    args = ["job"] if verb in ("show", "why", "logs") else []
    told = as_nobody(farm, verb, *args)

    assert told.returncode in (0, 1), told
    assert told.stdout + told.stderr
    assert "Traceback" not in told.stderr


@needs("another user")
def test_a_user_who_is_not_root_has_a_farm_of_their_own(in_the_open: Farm) -> None:
    farm = in_the_open
    farm.drop("job", run="id -u")
    for path in (farm.root, farm.tasks, farm.tasks / "job.json"):
        os.chown(path, NOBODY, NOBODY)
    told = as_nobody(farm, "worker", "--until-done")

    assert told.returncode == 0, told
    assert "warning" not in told.stderr
    assert farm.result("job")["stdout"] == f"{NOBODY}\n"


@needs("root")
def test_a_mount_that_gives_all_files_one_owner_is_no_other_users(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On some shares what we make is not ours by number, and neither is the farm."""
    monkeypatch.setattr(os, "geteuid", lambda: 4242)

    assert Project.open(project.root).farm == project.farm
    os.chown(project.farm, NOBODY, -1)
    with pytest.raises(UsageError, match="a farm has one user"):
        Project.open(project.root)


# -- no link leads out ---------------------------------------------------------------


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that is none of the farm's business, with a task and a secret in it."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "job.json").write_text('{"run": "touch ran"}')
    (folder / "secret").write_text("the secret of another project")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.parametrize("name", ["", "logs", "tmp", "locks", "workers", "journal"])
def test_no_folder_of_farms_own_may_be_a_link(
    farm: Farm, outside: Path, name: str
) -> None:
    Project.open(farm.root)
    place = farm.state / name
    shutil.rmtree(place)
    place.symlink_to(outside)
    farm.drop("job", run="true")
    outside.chmod(0o755)
    before = contents(outside)
    told = farm.farm("worker", "--until-done")

    assert (told.returncode, farm.status_of("job")) == (1, None), told
    assert "this is a symbolic link" in told.stderr
    assert contents(outside) == before
    assert stat.S_IMODE(outside.stat().st_mode) == 0o755


@pytest.mark.parametrize("verb", ["worker", "status", "check", "add"])
def test_tasks_may_not_lie_elsewhere(farm: Farm, outside: Path, verb: str) -> None:
    farm.tasks.rmdir()
    farm.tasks.symlink_to(outside)
    args = {"worker": ["--until-done"], "add": ["true"]}.get(verb, [])
    before = contents(outside)
    told = farm.farm(verb, *args)

    assert (told.returncode, "outside the project" in told.stderr) == (2, True), told
    assert contents(outside) == before


def test_a_folder_of_tasks_that_is_a_link_is_not_entered(
    farm: Farm, outside: Path
) -> None:
    (farm.tasks / "link").symlink_to(outside)
    before = contents(outside)
    farm.work()
    told = {
        verb: farm.farm(verb, "link/job")
        for verb in ("show", "why", "logs", "unlock", "retry", "cancel", "archive")
    }
    added = farm.farm("add", "--name", "link/new", "true")

    assert {v: t.returncode for v, t in told.items()} == dict.fromkeys(told, 1)
    assert all("no task link/job" in t.stderr for t in told.values()), told
    assert (added.returncode, "real folders" in added.stderr) == (1, True)
    assert contents(outside) == before


def test_a_task_file_may_be_a_link_inside_but_not_out(
    farm: Farm, outside: Path
) -> None:
    (farm.tasks / "out.json").symlink_to(outside / "job.json")
    farm.write("shared/real.json", '{"run": "true"}')
    (farm.tasks / "in.json").symlink_to("../shared/real.json")
    farm.work()

    assert (farm.status_of("in"), farm.status_of("out")) == ("succeeded", "invalid")
    assert "outside the project" in farm.result("out")["error"]["message"]
    assert "ran" not in contents(outside)


def test_a_result_that_is_a_link_is_replaced_and_its_target_stays(
    farm: Farm, outside: Path
) -> None:
    farm.drop("job", run="true")
    (outside / "theirs").write_text('{"status": "succeeded", "version": 1}')
    farm.result_path("job").symlink_to(outside / "theirs")
    before = contents(outside)
    farm.work()

    assert not farm.result_path("job").is_symlink()
    assert farm.status_of("job") == "succeeded"
    assert contents(outside) == before


@pytest.mark.parametrize("task", ["run", "call"])
@pytest.mark.parametrize("suffix", ["out", "err"])
def test_a_log_that_is_a_link_is_not_written_through(
    farm: Farm, outside: Path, suffix: str, task: str
) -> None:
    farm.write("f.py", "import os\ndef say(): os.write(1, b'x'); os.write(2, b'x')")
    there = Project.open(farm.root)
    log = Path(there.log_path("job", 1, suffix))
    log.symlink_to(outside / "secret")
    doing = {"run": "echo x; echo x >&2"} if task == "run" else {"call": "f:say"}
    farm.drop("job", **doing)
    before = contents(outside)
    farm.work()

    assert farm.status_of("job") is not None
    assert contents(outside) == before


@pytest.mark.parametrize(
    "name", ["logs/hooks.log", "logs/worker-0.log", "journal/verbs.jsonl"]
)
def test_nothing_that_grows_is_written_through_a_link(
    farm: Farm, outside: Path, name: str
) -> None:
    farm.write("farm.toml", '[hooks]\non_done = "echo hook"')
    Project.open(farm.root)
    (farm.state / name).symlink_to(outside / "secret")
    farm.drop("job", run="false")
    before = contents(outside)
    if name.startswith("journal"):
        farm.work()
        farm.farm("retry", "job")
    elif name.endswith("hooks.log"):
        farm.work()
    else:
        started = farm.supervise("-j", "1", "--until-done")
        wait_until(lambda: b"supervisor:" in farm.logs[0].read_bytes())
        farm.kill(started)

    assert contents(outside) == before


def test_the_lock_of_a_supervisor_is_not_written_through_a_link(
    farm: Farm, outside: Path
) -> None:
    there = Project.open(farm.root)
    Path(there.supervisor_path(socket.gethostname())).symlink_to(outside / "secret")
    before = contents(outside)
    told = farm.farm("supervise", "--until-done")

    assert (told.returncode, "Traceback" in told.stderr) == (1, False), told
    assert contents(outside) == before


@pytest.mark.parametrize("cwd", ["link", "sub/../../outside", "link/deeper"])
def test_cwd_leads_nowhere_out(farm: Farm, outside: Path, cwd: str) -> None:
    (farm.root / "sub").mkdir()
    (outside / "deeper").mkdir()
    (farm.root / "link").symlink_to(outside)
    farm.drop("job", run="touch ran", cwd=cwd)
    farm.work()

    assert farm.status_of("job") in ("failed", "invalid")
    assert "ran" not in {p.name for p in outside.rglob("*")}


@pytest.mark.parametrize("verb", ["logs", "show"])
@pytest.mark.parametrize("by", ["..", "absolute", "link"])
def test_a_result_cannot_name_a_log_elsewhere(
    farm: Farm, outside: Path, by: str, verb: str
) -> None:
    farm.drop("job", run="head -c 40000 /dev/zero; false")
    farm.work()
    result = farm.result("job")
    secret = outside / "secret"
    path = {"..": "../outside/secret", "absolute": str(secret), "link": "link"}[by]
    (farm.root / "link").symlink_to(secret)
    result["attempts"][0]["stdout_path"] = result["stdout_path"] = path
    farm.result_path("job").write_text(json.dumps(result))
    told = farm.farm(verb, "job")

    assert "the secret" not in told.stdout + told.stderr


# -- no id names anything outside ----------------------------------------------------

WAYS_OUT = (
    "..",
    "../outside/job",
    "a/../../outside/job",
    "/etc/passwd",
    "//etc/passwd",
    "./a",
    "a/",
    "a//b",
    "",
    ".hidden",
    "..%2Foutside%2Fjob",
    "new\nline",
    "esc\x1b[2J",
    "c1\x9b2J",
    "bidi\u202egnp",
    "x" * 5000,
    "deep/" * 1000 + "x",
)


@pytest.mark.parametrize("task_id", WAYS_OUT, ids=lambda i: ascii(i)[:20])
def test_no_verb_leaves_the_project_by_an_id(
    project: Project,
    outside: Path,
    task_id: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (outside / "job.result.json").write_text('{"status": "failed"}')
    before = contents(outside)
    verbs = ("show", "why", "logs", "unlock", "retry", "cancel", "archive", "restore")
    there = ("-C", project.root)
    codes = {verb: cli.run([verb, *there, "--", task_id]) for verb in verbs}
    codes["wait"] = cli.run(["wait", *there, "--timeout", "0", "--", task_id])
    codes["pause"] = cli.run(["pause", *there, "--", task_id])
    out, err = capsys.readouterr()

    assert all(codes.values()), codes
    assert "Traceback" not in err
    assert contents(outside) == before
    assert out == ""


@pytest.mark.parametrize("task_id", [*WAYS_OUT, "nul\0"], ids=lambda i: ascii(i)[:20])
def test_no_task_is_dropped_outside(
    project: Project, outside: Path, task_id: str, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    lines = tmp_path / "lines"
    lines.write_text(json.dumps({"id": task_id, "run": "true"}))
    codes = [cli.run(["add", "-C", project.root, "-f", str(lines)])]
    if "\0" not in task_id:
        codes.append(cli.run(["add", "-C", project.root, "--name", task_id, "true"]))
    lines.unlink()

    assert all(codes)
    assert sorted(tmp_path.rglob("*")) == before
    if not task_id.startswith("deep/"):  # its length is the disk's business
        assert misnamed(task_id)
        assert not is_usable(task_id)


def packed(project: Project, task_id: str) -> None:
    """An archive with one pair, made by somebody."""
    Path(project.archive).mkdir()
    pair = {
        "id": task_id,
        "task": '{"run": "touch ran"}',
        "result": '{"status": "failed"}',
    }
    name = Path(project.archive, "20260101T000000.000000Z.jsonl.gz")
    name.write_bytes(gzip.compress(json.dumps(pair).encode() + b"\n"))


@pytest.mark.parametrize(
    "task_id", ["../outside/new", "/new", "a//new", "link/new", "nul\0", ".farm/new"]
)
def test_no_archive_unpacks_outside(
    project: Project, outside: Path, task_id: str
) -> None:
    packed(project, task_id)
    Path(project.tasks, "link").symlink_to(outside)
    before = contents(outside)
    code = cli.run(["restore", "-C", project.root, "**"])

    assert code == 1
    assert contents(outside) == before
    assert not list(Path(project.tasks).glob("**/*.json"))


# -- nothing steers a terminal -------------------------------------------------------

EVIL = (
    "\x1b[31mred\x1b[0m \x1b]8;;http://evil\x07link\x1b]8;;\x07 \x1b]52;c;ZXZpbA==\x07"
    "\x07 \x9b2J\x85 \rover \u202egnp.exe\u2066\b\b \x1bP+q\x1b\\ \x0e\x7f\u2028"
)
ODD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
NAME = "\x1b[31mred\x9b2J\u202egnp\x07"
TASKS: dict[str, dict[str, Any]] = {
    "labels": {"run": "true", "labels": [EVIL], "meta": {EVIL: EVIL}},
    "key": {"run": "true", EVIL: 1},
    "wrong": {"run": "true", "timeout": EVIL},
    "needs": {"run": "true", "needs": [EVIL]},
    "cwd": {"run": "true", "cwd": EVIL.replace("\x00", "")},
    "env": {"run": "true", "env_from": [EVIL]},
    "program": {"run": [EVIL]},
    "says": {"run": ["sh", "-c", 'printf %s "$0"; printf %s "$0" >&2; exit 3', EVIL]},
    "raises": {"call": "evil:boom"},
    "returns": {"call": "evil:give"},
    "module": {"call": EVIL},
}
EVIL_PY = f"""
E = {EVIL!r}
def boom():
    raise type(E, (Exception,), {{}})(E)
def give():
    print(E)
    return {{E: E}}
"""
READERS = (
    ["status"],
    ["status", "--failed"],
    ["status", "--status", "running"],
    ["workers"],
    ["check"],
    ["wait", "--timeout", "0"],
    ["unlock", "held"],
    ["resume", "nothing"],
    ["show", NAME],
    ["show", "held"],
    ["why", "held"],
    ["logs", NAME],
    ["-C", NAME, "status"],
    [NAME],
    ["status", f"--{NAME}"],
    ["worker", "--name", NAME],
    ["add", "--name", NAME, "true"],
    ["add", "-f", NAME],
    ["scale", "1", "--host", f"{NAME}2"],
    ["pause", NAME],
    ["retry", "--failed"],
    ["cancel", NAME],
    ["cancel", "**"],
    ["archive", "forged"],
    ["restore", NAME],
    ["restore", "**"],
    ["resume"],
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A project in which everything that can say something says what steers."""
    with _hostile(tmp_path_factory.mktemp("hostile")) as farm:
        yield farm


@contextmanager
def _hostile(folder: Path) -> Iterator[Farm]:
    farm = Farm(folder / "project")
    farm.write("evil.py", EVIL_PY)
    for task_id, task in TASKS.items():
        farm.drop(task_id, **task)
    (farm.tasks / f"{NAME}.json").write_text('{"run": "true"}')
    Path(os.fsdecode(os.fsencode(farm.tasks) + b"/\x9b31m\xff.json")).touch()
    worker = farm.farm("worker", "--until-done")
    farm.write("said-by-the-worker", worker.stdout + worker.stderr)
    descriptors = _forge(farm)
    yield farm
    farm.end()
    for fd in descriptors:
        os.close(fd)


def _forge(farm: Farm) -> list[int]:
    """A living worker, a supervisor, a held task, a pause, a result: all of them evil."""
    who = {"host": EVIL, "boot": "b", "pidns": 1, "pid": 1, "ticks": 1}
    born = {"name": NAME, "who": who, "started": 1.0, "heartbeat": 1.0}
    health = {"died": EVIL, "last_error_type": EVIL, "consecutive_failures": 3}
    claimed = {"line": "claimed", "task": "held", "attempt": 2, "token": "t"}
    claimed |= {"holder": NAME, "who": who, "acquired_at": 1.0}
    error = dict.fromkeys(("kind", "message", "type", "traceback"), EVIL)
    result: dict[str, Any] = dict.fromkeys(("worker", "host", "text", "stdout"), EVIL)
    result |= {"status": "failed", "error": error, "version": 1}
    entry = {"id": NAME, "at": 1.0, "worker": NAME, "message": EVIL, "why": "failed"}
    for name, text in {
        f".farm/workers/{NAME}.lock": f"{1:020}\n{json.dumps(born)}\n",
        f".farm/workers/{NAME}.json": json.dumps(health),
        f".farm/supervisor-{NAME}.lock": EVIL,
        ".farm/locks/task-held.lock": f"{json.dumps(claimed)}\n",
        f".farm/tmp/{NAME}.progress": f"0.5 {EVIL}",
        f".farm/control/pause-{NAME}": "",
        f".farm/journal/{NAME}.jsonl": f"{json.dumps(entry)}\n",
        "tasks/held.json": '{"run": "true"}',
        "tasks/forged.json": '{"run": "true"}',
        "tasks/forged.result.json": json.dumps(result),
    }.items():
        farm.write(name, text)
    held = (f"workers/{NAME}.lock", f"supervisor-{NAME}.lock", "locks/task-held.lock")
    descriptors = [os.open(farm.state / name, os.O_RDWR) for name in held]
    for fd in descriptors:
        fcntl.flock(fd, fcntl.LOCK_EX)
    return descriptors


def test_a_worker_says_nothing_that_steers(hostile: Farm) -> None:
    said = (hostile.root / "said-by-the-worker").read_text(errors="surrogateescape")

    assert "says failed" in said
    assert ODD.findall(said) == []


@pytest.mark.parametrize("task_id", [*TASKS, "forged"])
@pytest.mark.parametrize("verb", ["show", "why"])
def test_no_task_steers_the_terminal_of_who_looks_at_it(
    hostile: Farm, verb: str, task_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.run([verb, "-C", str(hostile.root), task_id])
    out, err = capsys.readouterr()

    assert (code, err) == (0, "")
    assert task_id in out
    assert ODD.findall(out) == []


def test_no_verb_passes_on_what_steers_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an order in which all of them have something to say."""
    monkeypatch.setattr("farm.cli.cancel.poll.until", lambda look, *_: look())
    said = {}
    with _hostile(tmp_path) as hostile:
        monkeypatch.chdir(hostile.root)
        for args in READERS:
            cli.run(args)
            said[ascii(args)] = "".join(capsys.readouterr())

    assert [args for args, text in said.items() if not text] == []
    assert {a: o for a, text in said.items() if (o := ODD.findall(text))} == {}
    assert not any("Traceback" in text for text in said.values())


@pytest.mark.parametrize(
    "args",
    [["status"], ["status", "--failed"], ["workers"], ["check"], ["show", "returns"]],
    ids=" ".join,
)
def test_json_stays_json(
    hostile: Farm, args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    cli.run([args[0], "-C", str(hostile.root), *args[1:], "--json"])

    assert json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("args", [["status"], ["show", "says"], ["logs", "says"]])
def test_on_a_terminal_there_are_farms_own_colours_and_no_others(
    hostile: Farm, args: list[str]
) -> None:
    terminal = Terminal(hostile, 200, *args)
    terminal.read_all()
    ours = re.compile("\x1b\\[[01]m")
    left = ours.sub("", terminal.said).replace("\r\n", "\n")

    assert "red" in left
    assert ODD.findall(left) == []


@pytest.mark.parametrize(
    ("verb", "words"), [("watch", "held"), ("drain", "they end all the same")]
)
def test_a_verb_that_goes_on_shows_nothing_that_steers(
    hostile: Farm, verb: str, words: str
) -> None:
    terminal = Terminal(hostile, 200, verb)
    terminal.read_until(words)
    hostile.kill(terminal.process)
    (hostile.state / "control" / "drain").unlink(missing_ok=True)

    assert ODD.findall(terminal.said.replace("\r\n", "\n")) == []


def test_a_live_screen_shows_nothing_that_steers(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("says", **TASKS["says"])
    evil = f"printf '0.5 %s\\n' \"$E\" > $FARM_PROGRESS; {gate.command}"
    farm.drop("progress", run=evil, env={"E": EVIL.replace("\u2028", "")})
    terminal = Terminal(farm, 100, "supervise", "--until-done", "-j", "1")
    terminal.read_until("exe")
    gate.open()
    terminal.read_all()
    left = ESCAPE.sub("", terminal.said).replace("\r", "")

    assert "says failed" in left
    assert "\x1b[31mred" not in terminal.said.replace("\x1b[31m  ", "")
    assert ODD.findall(left) == []


# -- secrets -------------------------------------------------------------------------


def test_a_secret_is_nowhere_but_in_the_environment_of_who_needs_it(
    farm: Farm,
) -> None:
    key, other = "KEY-5f0c8c1e", "KEY-77aa01d2"
    farm.write("farm.toml", '[hooks]\non_done = "env; true"')
    farm.write("f.py", "import os\ndef look(): return dict(os.environ)")
    gate = farm.gate()
    with_key = f"test $MY_API_KEY = {key[:4]}${{MY_API_KEY#????}}; {gate.command}"
    farm.drop("held", run=with_key, env_from=["MY_API_KEY"], needs=["look"])
    farm.drop("look", call="f:look")
    farm.drop("env", run="env")
    farm.drop("bad", run="exit 3", env_from=["MY_API_KEY"])
    secrets = {"MY_API_KEY": key, "OTHER_TOKEN": other, "OTHER_PASSWORD": other}
    supervisor = farm.supervise("-j", "2", "--until-done", **secrets)
    (held,) = gate.wait_reached()
    wait_until(lambda: farm.status_of("env"), on_timeout=farm.describe)
    argvs = b"".join(map(_read, Path("/proc").glob("[0-9]*/cmdline")))
    environ = Path(f"/proc/{held}/environ").read_bytes()
    running = _holding(farm, key, other)
    gate.open()
    supervisor.wait(40)
    farm.farm("status", **secrets)

    assert (key.encode() in environ, other.encode() in environ) == (True, False)
    assert key.encode() not in argvs
    assert running == []
    assert _holding(farm, key, other) == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # it ended, or was removed, while we looked


def _holding(farm: Farm, *words: str) -> list[str]:
    """Files of the project, and of its processes' words, that hold one of these."""
    files = [path for path in farm.root.rglob("*") if path.is_file()]
    raw = {str(path): _read(path) for path in files}
    return [p for p, text in raw.items() if any(w.encode() in text for w in words)]
