"""`farm add`: what is typed becomes a task file, or a sentence and nothing."""

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farm import disk, drop
from farm.life import Life
from farm.project import Project
from farm.result import posix
from farm.task import parse_task
from tests.driver import Farm

Run = Callable[..., tuple[int, str, str]]
STAMP = r"\d{8}-\d{6}-\d{3}"


@pytest.fixture
def add(run: Run, project: Project) -> Run:
    """Type `farm add` for an empty project; (exit code, stdout, stderr)."""
    return lambda *args: run("-C", project.root, "add", *args)


def tasks(project: Project) -> dict[str, Any]:
    """Every task file, by id."""
    found = {project.task_id(str(p)): p for p in Path(project.tasks).rglob("*.json")}
    return {i: json.loads(p.read_text()) for i, p in found.items() if i is not None}


def lines_of(tmp_path: Path, *lines: str) -> Path:
    """A file of JSON lines."""
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def shown(value: object) -> str | None:
    """A command line as a part of its test's name."""
    return ascii(value)[:60] if isinstance(value, list) else None


# -- one task ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "task"),
    [
        (["--", "pytest", "-q"], {"run": ["pytest", "-q"]}),
        (["pytest", "-q"], {"run": ["pytest", "-q"]}),
        (["make && make install"], {"run": "make && make install"}),
        (["--", "./run.sh"], {"run": "./run.sh"}),
        (["--", "make", "--timeout", "5"], {"run": ["make", "--timeout", "5"]}),
        (["nice", "--", "make"], {"run": ["nice", "--", "make"]}),
        (["--call", "m:f"], {"call": "m:f"}),
        (
            ["--call", "m:f", "--args", "[1]", "--kwargs", '{"a": 1}'],
            {"call": "m:f", "args": [1], "kwargs": {"a": 1}},
        ),
        (["-p", "mend it"], {"prompt": "mend it"}),
        (
            ["-p", "mend it", "--agent", "ada"],
            {"prompt": "mend it", "agent": "ada"},
        ),
        (
            ["--needs", "a", "--needs", "b/*", "x"],
            {"run": "x", "needs": ["a", "b/*"]},
        ),
        (["--priority", "-3", "x"], {"run": "x", "priority": -3}),
        (["--priority", "0", "x"], {"run": "x", "priority": 0}),
        (["--retries", "2", "x"], {"run": "x", "retries": 2}),
        (["--timeout", "1h30m", "x"], {"run": "x", "timeout": "1h30m"}),
        (["--timeout", "0.5", "x"], {"run": "x", "timeout": 0.5}),
        (["--cwd", "src", "x"], {"run": "x", "cwd": "src"}),
        (
            ["--env", "A=1", "--env", "B=x=y", "--env", "C=", "x"],
            {"run": "x", "env": {"A": "1", "B": "x=y", "C": ""}},
        ),
        (
            ["--env-from", "A_TOKEN", "--env-from", "B", "x"],
            {"run": "x", "env_from": ["A_TOKEN", "B"]},
        ),
    ],
    ids=shown,
)
def test_what_is_typed_is_what_the_file_holds(
    add: Run, project: Project, typed: list[str], task: dict[str, Any]
) -> None:
    code, out, err = add("--name", "a", *typed)

    assert (code, out, err) == (0, "a\n", "")
    assert tasks(project) == {"a": task}


def test_the_file_is_one_that_a_worker_takes(add: Run, project: Project) -> None:
    add("--name", "t/a", "--timeout", "2h", "--", "make", "-j4")

    assert parse_task(project.read_task("t/a").raw).run == ("make", "-j4")


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (["--", "pytest", "-q"], ["pytest-1", "pytest-2"]),
        (["-p", "Mend it, please"], ["mend-it-please-1", "mend-it-please-2"]),
        (["--call", "render:tile"], ["tile-1", "tile-2"]),
    ],
    ids=shown,
)
def test_without_a_name_it_is_called_by_what_it_does(
    add: Run, project: Project, words: list[str], ids: list[str]
) -> None:
    outs = [add(*words)[1] for _ in ids]

    assert [out.strip() for out in outs] == sorted(tasks(project)) == ids


def test_the_number_of_an_archived_task_does_not_come_back(
    add: Run, run: Run, project: Project
) -> None:
    add("--", "true")
    Path(project.result_path("true-1")).write_text('{"status": "succeeded"}')
    code, _, _ = run("archive", "-C", project.root, "**")

    assert (code, tasks(project)) == (0, {})
    assert add("--", "true")[1] == "true-2\n"


@pytest.mark.processes
def test_adds_at_the_same_moment_never_take_one_name(farm: Farm) -> None:
    adds = [farm.start("add", "--", "true") for _ in range(6)]
    codes = [popen.wait(40) for popen in adds]
    names = sorted(path.stem for path in farm.tasks.glob("*.json"))

    assert codes == [0] * 6
    assert names == [f"true-{number}" for number in range(1, 7)]


def test_after_is_a_time_from_now(add: Run, project: Project) -> None:
    add("--name", "a", "ls")
    before = Path(project.task_path("a")).stat().st_mtime
    add("--name", "b", "--after", "10m", "ls")
    said = tasks(project)["b"]["not_before"]

    assert said.endswith("Z")
    assert 590 < posix(said) - before < 700


def test_it_is_dropped_from_below_the_project(
    run: Run, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = Path(project.root, "src", "deep")
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    run("add", "--name", "a", "ls")

    assert list(tasks(project)) == ["a"]


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ([], "nothing to do: give a command after --, or --call"),
        (["--retries", "2"], "nothing to do"),
        ([""], "COMMAND is empty"),
        (["-p", ""], "-p is empty"),
        (["--call", "m:f", "ls"], "--call stands beside COMMAND"),
        (["-p", "x", "--call", "m:f"], "stands beside"),
        (["--args", "[1]", "ls"], "--args is for `call` tasks"),
        (["--agent", "ada", "ls"], "--agent is for `prompt` tasks"),
        (["--call", "m.f"], "--call must name a function as"),
        (["--call", "m:f", "--args", "[1,"], "--args:1:4: the text ends"),
        (["--call", "m:f", "--args", "[1,\n x]"], "--args:2:2: this is not JSON"),
        (["--call", "m:f", "--args", ""], "--args:1:1: the text is empty"),
        (["--call", "m:f", "--args", "{}"], "--args must be a list"),
        (["--call", "m:f", "--kwargs", "[]"], "--kwargs must be an object"),
        (["--call", "m:f", "--args", f"[{10**30}]"], "--args:1:2: this number"),
        (["--timeout", "never", "ls"], "--timeout must be a number of seconds"),
        (["--timeout", "nan", "ls"], "--timeout must be a number of seconds"),
        (["--timeout", "0", "ls"], "--timeout must be above 0"),
        (["--retries", "-1", "ls"], "--retries must be a whole number"),
        (["--retries", "many", "ls"], "--retries must be a whole number"),
        (["--priority", "high", "ls"], "'--priority': 'high'"),
        (["--priority", "9" * 30, "ls"], "--priority cannot be written as JSON"),
        (["--after", "soon", "ls"], "--after must be a number of seconds"),
        (["--after", "-3", "ls"], "--after must be at least 0"),
        (["--cwd", "/tmp", "ls"], '--cwd "/tmp" is absolute'),
        (["--cwd", "../x", "ls"], "leaves the project"),
        (["--env", "A", "ls"], "--env takes NAME=VALUE"),
        (["--env", "=x", "ls"], "--env holds a variable without a name"),
        (["--env", "FARM_WORKER=x", "ls"], "farm itself sets what begins with FARM_"),
        (["--env-from", "A=x", "ls"], "--env-from holds"),
        (["--needs", "a.json", "ls"], "--needs takes ids, without `.json`"),
        (["--unknown", "ls"], "No such option"),
        (["ls", "--retries", "2"], "--retries stands behind the command"),
        (["ls", "-l", "--retries=2"], "--retries=2 stands behind the command"),
        (["\udcff"], "COMMAND cannot be written as JSON"),
        (["--name", "../a", "ls"], "begins with a dot"),
        (["--name", "t//a", "ls"], "empty part"),
        (["--name", "/a", "ls"], "empty part"),
        (["--name", "", "ls"], "empty part"),
        (["--name", ".a", "ls"], "begins with a dot"),
        (["--name", "a.json", "ls"], "ends in .json"),
        (["--name", "a.result", "ls"], "pass for a result"),
        (["--name", "x" * 250, "ls"], "too long"),
        (["-f", "missing.jsonl"], "No such file"),
        (["-f", ".", "--name", "t"], "Is a directory"),
        (["-f", "-", "--name", "../t"], "--name: the id"),
        (["-f", "-", "--name", "t//"], "empty part"),
        (["-f", "-", "--retries", "2"], "--retries cannot stand beside -f"),
        (["-f", "-", "--priority", "0"], "--priority cannot stand beside -f"),
        (["-f", "-", "ls"], "COMMAND cannot stand beside -f"),
        (["-f", "-", "--env-from", "A"], "--env-from cannot stand beside -f"),
    ],
    ids=shown,
)
def test_what_cannot_be_is_wrong_usage_and_drops_nothing(
    add: Run, project: Project, typed: list[str], why: str
) -> None:
    code, out, err = add(*typed)

    assert (code, out) == (2, "")
    assert why in err
    assert tasks(project) == {}


def test_a_task_that_exists_stays_as_it_is(add: Run, project: Project) -> None:
    add("--name", "a", "first")
    code, out, err = add("--name", "a", "second")

    assert (code, out) == (1, "")
    assert "there is a task a already" in err
    assert tasks(project) == {"a": {"run": "first"}}


def test_a_name_that_has_a_result_is_refused(add: Run, project: Project) -> None:
    Path(project.result_path("a")).write_text("{}")
    code, _, err = add("--name", "a", "ls")

    assert (code, "would never run" in err) == (1, True)
    assert not Path(project.task_path("a")).exists()


def test_a_file_in_place_of_tasks_is_said(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tasks").touch()
    code, out, err = run("-C", tmp_path, "add", "ls")

    assert (code, out) == (1, "")
    assert f"{tmp_path}/tasks: File exists" in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_said(add: Run, project: Project) -> None:
    Path(project.tasks).chmod(0o500)
    code, out, err = add("ls")
    Path(project.tasks).chmod(0o700)

    assert (code, out) == (1, "")
    assert "Permission denied" in err


def test_without_a_project_it_says_how_to_start_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run("add", "ls")

    assert (code, "no farm project here" in err) == (2, True)


# -- many tasks ----------------------------------------------------------------------


def test_each_line_becomes_a_task(add: Run, project: Project, tmp_path: Path) -> None:
    path = lines_of(tmp_path, '{"run": "a"}', "", '{"call": "m:f", "args": [1]}')
    code, out, err = add("-f", path, "--name", "t")

    assert (code, out, err) == (0, "t/00001\nt/00003\n", "")
    assert tasks(project) == {
        "t/00001": {"run": "a"},
        "t/00003": {"call": "m:f", "args": [1]},
    }


def test_without_a_name_the_folder_is_the_time(add: Run, tmp_path: Path) -> None:
    _, out, _ = add("-f", lines_of(tmp_path, '{"run": "a"}'))

    assert re.fullmatch(f"{STAMP}/00001\n", out)


def test_a_line_may_say_its_id(add: Run, project: Project, tmp_path: Path) -> None:
    path = lines_of(tmp_path, '{"id": "x/y", "run": "a"}')
    _, out, _ = add("-f", path)

    assert (out, tasks(project)) == ("x/y\n", {"x/y": {"run": "a"}})


@pytest.mark.parametrize("name", ["t", "t/"])
def test_an_id_lies_below_the_name(add: Run, tmp_path: Path, name: str) -> None:
    path = lines_of(tmp_path, '{"id": "x/y", "run": "a"}')
    _, out, _ = add("-f", path, "--name", name)

    assert out == "t/x/y\n"


def stdin_is(monkeypatch: pytest.MonkeyPatch, raw: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))


def test_a_prompt_that_is_a_dash_is_read_from_stdin(
    add: Run, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin_is(monkeypatch, "Fix it.\n\nAll of it: ✓\n".encode())
    code, out, _ = add("--agent", "ada", "--name", "fix", "-p", "-")

    assert (code, out) == (0, "fix\n")
    assert tasks(project) == {
        "fix": {"prompt": "Fix it.\n\nAll of it: ✓", "agent": "ada"}
    }


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "stdin holds no text"),
        (b" \n", "stdin holds no text"),
        (b"ab\xff", "stdin is not UTF-8 (byte 3)"),
    ],
)
def test_a_prompt_that_stdin_does_not_hold_is_wrong_usage(
    add: Run, project: Project, monkeypatch: pytest.MonkeyPatch, raw: bytes, why: str
) -> None:
    stdin_is(monkeypatch, raw)
    code, _, err = add("-p", "-")

    assert (code, why in err, tasks(project)) == (2, True, {})


def test_a_dash_means_stdin(
    add: Run, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(b'{"run": "a"}'))
    monkeypatch.setattr(sys, "stdin", stdin)
    _, out, _ = add("-f", "-", "--name", "t")

    assert (out, list(tasks(project))) == ("t/00001\n", ["t/00001"])


def test_one_bad_line_and_nothing_is_dropped(
    add: Run, project: Project, tmp_path: Path
) -> None:
    path = lines_of(tmp_path, '{"run": "a"}', '{"run": "b", "retires": 2}', '{"run": ')
    code, out, err = add("-f", path)

    assert (code, out) == (1, "")
    assert err.splitlines() == [
        f"{path}:2:14: unknown key `retires`, did you mean `retries`?",
        f"{path}:3:9: the file ends in the middle: write the rest of it",
        f"farm: nothing was dropped: mend 2 lines of {path}",
    ]
    assert tasks(project) == {}


@pytest.mark.parametrize(
    ("second", "why"),
    [
        ('{"id": "a", "run": "b"}', ":2:8: line 1 has the id a already"),
        ('{"id": "old", "run": "b"}', ":2:8: there is a task old already"),
        ('{"id": "done", "run": "b"}', ":2:8: tasks/done.result.json is there"),
        ('{"id": "../b", "run": "b"}', ":2:8: the id"),
        ('{"run": "b", "id": 7}', ":2:20: `id` must be a string"),
    ],
)
def test_one_bad_id_and_nothing_is_dropped(
    add: Run, project: Project, tmp_path: Path, second: str, why: str
) -> None:
    drop.drop(project, "old", b'{"run":"x"}')
    Path(project.result_path("done")).touch()
    code, out, err = add("-f", lines_of(tmp_path, '{"id": "a", "run": "a"}', second))

    assert (code, out) == (1, "")
    assert f"tasks.jsonl{why}" in err
    assert list(tasks(project)) == ["old"]


def test_of_very_many_bad_lines_some_are_shown(add: Run, tmp_path: Path) -> None:
    _, _, err = add("-f", lines_of(tmp_path, *["[]"] * 1000))

    assert len(err.splitlines()) == 22
    assert "and 980 more" in err
    assert "mend 1000 lines" in err


def test_a_file_without_tasks_drops_nothing_and_says_so(
    add: Run, tmp_path: Path
) -> None:
    code, out, err = add("-f", lines_of(tmp_path, "", "  "))

    assert (code, out) == (0, "")
    assert "holds no task" in err


def stop_after(
    count: int, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let so many task files get their names, and then raise."""
    really_link, done = disk.link_new, [0]

    def link(aside: str, final: str) -> bool:
        if done[0] == count:
            raise error
        done[0] += really_link(aside, final)
        return True

    monkeypatch.setattr(disk, "link_new", link)


def test_a_full_disk_says_what_was_dropped(
    add: Run, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(2, OSError(28, "No space left on device"), monkeypatch)
    code, out, err = add("-f", lines_of(tmp_path, *['{"run": "a"}'] * 5))

    assert (code, out.split()) == (1, sorted(tasks(project)))
    assert "dropped 2 of 5 tasks" in err
    assert "No space left on device" in err


def test_after_ctrl_c_what_was_printed_was_dropped(
    add: Run, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(3, KeyboardInterrupt(), monkeypatch)
    code, out, err = add("-f", lines_of(tmp_path, *['{"run": "a"}'] * 5))

    assert (code, out.split()) == (130, sorted(tasks(project)))
    assert "dropped 3 of 5 tasks" in err


def test_an_id_that_appears_meanwhile_is_not_overwritten(
    add: Run, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_find = drop.id_faults

    def find(*args: Any) -> Any:
        found = really_find(*args)
        drop.drop(project, "b", b'{"run":"theirs"}')
        return found

    monkeypatch.setattr(drop, "id_faults", find)
    path = lines_of(tmp_path, '{"id": "a", "run": "x"}', '{"id": "b", "run": "x"}')
    code, out, err = add("-f", path)

    assert (code, out) == (1, "a\n")
    assert "somebody else has just dropped a task b" in err
    assert tasks(project)["b"] == {"run": "theirs"}


def test_a_reader_of_the_ids_who_goes_away_is_told_how_many(
    project: Project, tmp_path: Path
) -> None:
    path = lines_of(tmp_path, *['{"run": "a"}'] * 5)
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "farm", "-C", project.root, "add", "-f", path],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent.parent)},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=50,
        check=False,
    )
    os.close(writer)

    assert done.returncode == 1
    assert "dropped 1 of 5 tasks" in done.stderr
    assert len(tasks(project)) == 1


# -- who works here ------------------------------------------------------------------


def say_it_is_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)


def test_on_a_terminal_it_says_that_nobody_works_here(
    add: Run, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    say_it_is_a_terminal(monkeypatch)
    _, _, err = add("ls")

    assert err == f"no worker is running here: farm supervise {project.root}\n"


def test_with_a_living_worker_it_says_nothing(
    add: Run, alive: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    say_it_is_a_terminal(monkeypatch)

    assert add("ls")[2] == ""


def test_a_dead_worker_is_none(
    add: Run, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(project.life_path("ada")).touch()
    say_it_is_a_terminal(monkeypatch)

    assert "no worker is running here" in add("ls")[2]


# -- for real ------------------------------------------------------------------------


@pytest.mark.processes
def test_what_was_added_runs(farm: Farm) -> None:
    farm.write("jobs.py", "def double(x):\n    return 2 * x\n")
    farm.farm("add", "--name", "a", "--", "echo", "a b")
    farm.farm("add", "--name", "b", "--call", "jobs:double", "--kwargs", '{"x": 4}')
    farm.farm("add", "--name", "c", "--needs", "a", "echo $FARM_TASK_ID | tr c d")

    assert farm.work() == 0
    assert farm.result("a")["stdout"] == "a b\n"
    assert farm.result("b")["value"] == 8
    assert farm.result("c")["stdout"] == "d\n"


def test_the_help_fits_a_narrow_terminal(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((40, 20)))
    _, out, _ = run("add", "--help")
    text = out.split("Example:")[0]

    assert max(map(len, text.splitlines())) <= 50
