"""`farm why`, with real ends; `tests/test_explain.py` has what is said of each state."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.project import Project
from tests.attempts import drop
from tests.cli.conftest import Run
from tests.driver import IMPATIENT, Farm
from tests.faults.tools import UNSHARE, needs
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

QUICK = {"max": 2, "base_delay": 0.01, "max_delay": 0.01}  # retries


def why(farm: Farm, task_id: str, **environ: str) -> list[str]:
    """What is said of a task."""
    ended = farm.farm("why", task_id, **environ)
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    return ended.stdout.splitlines()


# -- every way to end --------------------------------------------------------------

ODD = """
def memory():
    raise MemoryError("4 TiB")

def raises():
    raise ValueError("first line\\nsecond \\x1b[31mline")

def slow():
    while True:
        pass

def odd():
    return {1, 2}
"""
AGAIN = 'echo "this is $FARM_ATTEMPT" >&2; test $FARM_ATTEMPT -gt 2'


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A project in which tasks have ended in every way that needs no kill."""
    farm = Farm(tmp_path_factory.mktemp("ended") / "project")
    farm.write("odd.py", ODD)
    farm.drop("good", run="echo hi")
    farm.drop("code", run="echo once >&2; echo my last words >&2; exit 3")
    farm.drop("silent", run="exit 3")
    farm.drop("killed", run="kill -9 $$")
    farm.drop("terminated", run="kill -TERM $$")
    farm.drop("late", run="while :; do sleep 0.05; done", timeout=0.3)
    farm.drop("late-call", call="odd:slow", timeout=0.3)
    farm.drop("memory", call="odd:memory")
    farm.drop("raises", call="odd:raises")
    farm.drop("value", call="odd:odd")
    farm.drop("missing", call="odd:nowhere")
    farm.drop("no-program", run=["no-such-program"])
    farm.drop("no-secret", run="true", env_from=["NOT_SET_ANYWHERE"])
    farm.drop("prompt", prompt="hello")
    farm.drop("again", run=AGAIN, retries=QUICK)
    farm.drop("skipped", run="true", needs=["code"])
    farm.drop("cancelled", run="true")
    farm.drop_bytes("invalid", b'{"run": "true",\n "retires": 2}')
    farm.drop("circle", run="true", needs=["circle"])
    assert farm.farm("cancel", "cancelled").returncode == 0
    assert farm.work() == 1, farm.describe()
    yield farm
    farm.end()


@pytest.mark.parametrize(
    ("task_id", "said"),
    [
        ("good", r"succeeded \S+ m?s ago, in \S+ m?s"),
        ("code", r"failed \S+ m?s ago: exit code 3: my last words"),
        ("silent", r"failed \S+ m?s ago: exit code 3"),
        ("killed", r"failed \S+ m?s ago: killed by SIGKILL"),
        ("terminated", r"failed \S+ m?s ago: killed by SIGTERM"),
        ("late", r"timed out \S+ m?s ago: timed out after 0\.3 s"),
        ("late-call", r"timed out \S+ m?s ago: timed out after 0\.3 s"),
        ("memory", r"failed \S+ m?s ago: out of memory: MemoryError: 4 TiB"),
        ("raises", r"failed \S+ m?s ago: ValueError: first line second line"),
        ("value", r"failed \S+ m?s ago: .*set.*"),
        ("missing", r"failed \S+ m?s ago: odd has no nowhere: .*"),
        ("no-program", r"failed \S+ m?s ago: cannot start no-such-program: .*"),
        ("no-secret", r"failed \S+ m?s ago: `env_from` names NOT_SET_ANYWHERE, .*"),
        ("prompt", r"failed \S+ m?s ago: no agent is set up: .*"),
        ("skipped", r"skipped \S+ m?s ago: it needs code, which ended failed"),
        ("cancelled", r"cancelled \S+ m?s ago: .*cancel.*"),
        ("invalid", r"invalid \S+ m?s ago: tasks/invalid\.json:2:2: .*`retries`\?"),
        (
            "circle",
            r"invalid \S+ m?s ago: .*it needs itself, in a circle of circle: .*",
        ),
    ],
)
def test_how_it_ended_is_the_answer(ended: Farm, task_id: str, said: str) -> None:
    first, *_ = why(ended, task_id)
    word = ended.result(task_id)["status"].replace("_", " ")

    assert re.fullmatch(rf"{task_id} \({word}\): {said}", first), first


def test_several_attempts_each_have_their_end(ended: Farm) -> None:
    lines = why(ended, "again")[1:4]

    assert [line.split(" after ")[0] for line in lines] == [
        "  attempt 1 failed",
        "  attempt 2 failed",
        "  attempt 3 succeeded",
    ]
    assert lines[1].endswith(": exit code 1: this is 2")


def test_the_last_line_says_what_happens_next(ended: Farm) -> None:
    assert why(ended, "code")[-1] == (
        "  next: nothing by itself: farm retry code runs it again"
    )


@pytest.mark.parametrize("task_id", ["good", "again", "invalid", "skipped"])
def test_as_json_it_is_one_object_on_one_line(ended: Farm, task_id: str) -> None:
    out = ended.farm("why", task_id, "--json").stdout
    found = json.loads(out)

    assert out.count("\n") == 1
    assert found["id"] == task_id
    assert (found["state"], found["status"]) == ("final", ended.status_of(task_id))
    assert all(isinstance(sentence, str) for sentence in found["why"])


def test_what_a_task_said_steers_no_terminal(ended: Farm) -> None:
    assert "\x1b" not in "".join(why(ended, "raises"))


# -- typed -------------------------------------------------------------------------


def test_an_unknown_id_is_an_error_with_the_nearest_name(
    run: Run, project: Project
) -> None:
    drop(project, "deploy")
    code, out, err = run("why", "-C", project.root, "depoly")

    assert (code, out) == (1, "")
    assert err == "farm: there is no task depoly, did you mean `deploy`?\n"


@pytest.mark.parametrize("verb", ["why", "show", "logs"])
@pytest.mark.parametrize("glob", ["*", "**", "d*"])
def test_a_glob_is_no_id(run: Run, project: Project, verb: str, glob: str) -> None:
    """Each tells of one task."""
    drop(project, "deploy")
    drop(project, "dig")
    code, out, err = run(verb, "-C", project.root, glob)

    assert (code in (1, 2), out) == (True, "")
    assert glob in err


def test_an_id_that_looks_like_a_glob_is_an_id(run: Run, project: Project) -> None:
    drop(project, "a[1]")
    code, out, _ = run("why", "-C", project.root, "a[1]")

    assert (code, out.startswith("a[1] (ready): ")) == (0, True)


@pytest.mark.parametrize("words", [[], ["a", "b"]])
def test_it_is_about_one_task(run: Run, project: Project, words: list[str]) -> None:
    assert run("why", "-C", project.root, *words)[0] == 2


def test_no_project_is_wrong_usage(run: Run, tmp_path: Path) -> None:
    code, _, err = run("why", "-C", tmp_path, "a")

    assert (code, "has no tasks/ folder" in err) == (2, True)


@pytest.mark.parametrize("verb", ["why", "show", "logs"])
def test_it_writes_nothing(run: Run, tmp_path: Path, verb: str) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "a.json").write_text('{"run": "true"}')
    run(verb, "-C", tmp_path, "a")

    assert [path.name for path in tmp_path.iterdir()] == ["tasks"]


def test_a_result_that_may_not_be_read_is_a_sentence(
    run: Run, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(project, "a")
    Path(project.result_path("a")).write_text('{"status": "succeeded"}')

    def refuse(path: str) -> bytes:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("farm.history.disk.read_file", refuse)
    code, _, err = run("why", "-C", project.root, "a")

    assert code == 1
    assert "a.result.json: Permission denied: give yourself the right to" in err


# -- running -----------------------------------------------------------------------

#: a heart of which nobody expects a beat during a test
SLOW = {"FARM_HEARTBEAT": "30", "FARM_HEARTBEAT_TIMEOUT": "90"}


def test_what_runs_names_its_worker_the_proof_and_the_deadline(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command, timeout="2h")
    worker = farm.start_worker("--name", "ada", **SLOW)
    gate.wait_reached()
    lines = why(farm, "a")

    assert re.fullmatch(r"a \(running\): it runs for .* m?s, attempt 1", lines[0])
    assert lines[1].startswith(f"  ada (process {worker.pid} on ")
    assert "the kernel says that its life lock is held" in lines[1]
    assert lines[2] == "  ada: well"
    assert re.fullmatch(
        r"  next: it ends by itself, or at its deadline in .* \(timeout 2 h 0 min\)",
        lines[-1],
    )


def test_what_is_cancelled_by_hand_ends_at_the_next_heartbeat(farm: Farm) -> None:
    """A stopped worker does not obey before the test has looked."""
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    worker = farm.start_worker()
    gate.wait_reached()
    farm.signal(worker, signal.SIGSTOP)
    (farm.state / "control" / "cancel-a").touch()

    assert why(farm, "a")[-1] == (
        "  next: it is cancelled: its worker ends it at its next heartbeat"
    )


def test_a_stopped_worker_is_said_not_to_beat(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    worker = farm.start_worker("--name", "ada")
    gate.wait_reached()
    farm.signal(worker, signal.SIGSTOP)
    lines = wait_until(
        lambda: said if "no heartbeat" in (said := why(farm, "a"))[2] else [],
        on_timeout=farm.describe,
    )

    assert re.fullmatch(r"  ada: no heartbeat for \d+ s", lines[2])
    assert "life lock is held" in lines[1]


# -- gone with its worker ----------------------------------------------------------


def test_a_killed_worker_leaves_a_task_that_says_so(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    worker = farm.start_worker("--name", "ada")
    gate.wait_reached()
    farm.kill(worker)
    lines = why(farm, "a")

    assert lines[0].startswith("a (ready): ")
    assert "  attempt 1 was lost: its worker ada is dead" in lines


def test_what_vanished_too_often_is_lost(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    worker = farm.start_worker("--name", "ada")
    gate.wait_reached()
    farm.kill(worker)
    farm.work(FARM_MAX_LOST="1")
    lines = why(farm, "a")

    assert lines[0].startswith("a (lost): lost ")
    assert "vanished" in lines[0]
    assert "its worker ada" in lines[0]


def test_a_supervised_worker_that_was_killed_says_by_what(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    farm.supervise("-j", "1", "--until-done")
    gate.wait_reached()
    (pid,) = farm.worker_pids()
    farm.kill(pid)
    gate.wait_reached(2)
    gate.open()
    farm.wait_for("succeeded", "a")
    first, second, *_ = why(farm, "a")

    assert first.startswith("a (succeeded): ")
    assert re.fullmatch(
        r"  attempt 1 lost after .*: its worker \S+ was killed by SIGKILL"
        r" \(not counted\)",
        second,
    )


def test_a_worker_that_neither_beat_nor_computed_is_named_with_its_silence(
    farm: Farm,
) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    farm.supervise("-j", "1", "--until-done", **IMPATIENT)
    gate.wait_reached()
    (pid,) = farm.worker_pids()
    farm.signal(pid, signal.SIGSTOP)
    gate.wait_reached(2)
    gate.open()
    farm.wait_for("succeeded", "a")

    assert re.search(
        r"attempt 1 lost after .*: its worker \S+ had no heartbeat for \d+ s and was"
        r" ended \(not counted\)",
        why(farm, "a")[1],
    )


SHORT_OF_MEMORY = """
import itertools, sys
from farm import cli, process
counter = itertools.count()
process.oom_kills = lambda: next(counter)
sys.exit(cli.run(["worker", sys.argv[1], "--until-done"]))
"""


def test_a_command_that_the_kernel_ended_for_memory_says_so(farm: Farm) -> None:
    """The kernel's own count of such kills is played by a counter."""
    farm.drop("a", run="kill -9 $$")
    farm.drop("b", run="exit 1")
    farm.start_python("-c", SHORT_OF_MEMORY, str(farm.root)).wait(30)

    assert "out of memory: the kernel ended it (SIGKILL)" in why(farm, "a")[0]
    assert why(farm, "b")[0].endswith("exit code 1")


KILLED_FOR_MEMORY = """
import os, sys
from farm import cli, process
process.oom_kills = lambda: len(os.listdir("kills"))
sys.exit(cli.run(["worker", sys.argv[1], "--until-done"]))
"""


def test_who_is_killed_soon_after_another_lacked_memory_did_not_itself(
    farm: Farm,
) -> None:
    (farm.root / "kills").mkdir()
    farm.drop("a", run="touch kills/one; kill -9 $$")
    farm.drop("b", run="kill -9 $$")
    farm.start_python("-c", KILLED_FOR_MEMORY, str(farm.root)).wait(30)

    assert "out of memory" in why(farm, "a")[0]
    assert "killed by SIGKILL" in why(farm, "b")[0]


# -- a project that cannot be written ------------------------------------------------

READ_ONLY = """
mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" || exit 99
cd "$0" && exec "$@"
"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A project to be seen read-only: tasks ended, ready, paused and left behind."""
    farm = Farm(tmp_path_factory.mktemp("shown") / "project")
    farm.drop("good", run="echo hi; echo oh >&2")
    farm.drop("bad", run="exit 3")
    farm.work()
    gate = farm.gate()
    farm.drop("left", run=gate.command)
    worker = farm.start_worker("--name", "ada")
    gate.wait_reached()
    farm.kill(worker)
    farm.drop("ready", run="true")
    yield farm
    farm.end()


def read_only(farm: Farm, *args: str) -> "subprocess.CompletedProcess[str]":
    """Type a verb where the project is a read-only mount."""
    command = [sys.executable, "-P", "-m", "farm", *args]
    return subprocess.run(
        [*UNSHARE, "--mount", "sh", "-c", READ_ONLY, str(farm.root), *command],
        env=farm.environ,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@needs("mount")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["why", "good"], "good (succeeded)"),
        (["why", "ready"], "ready (ready)"),
        (["show", "good"], "stdout, its end"),
        (["logs", "good"], "hi\n"),
        (["logs", "good", "--stderr"], "oh\n"),
        (["logs", "good", "-f"], "hi\n"),
        (["status"], "exit code 3"),
        (["workers"], "ada"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_what_only_tells_works_on_a_read_only_mount(
    shown: Farm, words: list[str], said: str
) -> None:
    ended = read_only(shown, *words)

    assert (ended.returncode, said in ended.stdout) == (0, True), ended


@needs("mount")
def test_files_are_checked_on_a_read_only_mount(shown: Farm) -> None:
    ended = read_only(shown, "check")

    assert (ended.returncode, "nothing wrong" in ended.stderr) == (0, True), ended


@needs("mount")
def test_a_dead_worker_is_dead_on_a_read_only_mount_too(shown: Farm) -> None:
    found = json.loads(read_only(shown, "workers", "--json").stdout)

    assert [worker["alive"] for worker in found["workers"]] == [False]
    assert read_only(shown, "why", "left").stdout.startswith("left (ready): ")


@needs("mount")
def test_a_living_worker_lives_on_a_read_only_mount_too(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    farm.start_worker()
    gate.wait_reached()

    assert "life lock is held" in read_only(farm, "why", "a").stdout


@needs("mount")
@pytest.mark.parametrize(
    "words",
    [
        ["cancel", "ready"],
        ["retry", "bad"],
        ["pause"],
        ["drain"],
        ["add", "--", "true"],
    ],
    ids=lambda words: words[0],
)
def test_what_acts_says_a_sentence_on_a_read_only_mount(
    shown: Farm, words: list[str]
) -> None:
    ended = read_only(shown, *words)

    assert (ended.returncode, ended.stdout) == (1, ""), ended
    assert ended.stderr.startswith("farm: ")
    assert "Read-only file system" in ended.stderr
    assert ended.stderr.count("\n") == 1
