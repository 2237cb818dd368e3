"""Commands that run when a task has ended: real ones, without a worker."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from farm import hooks
from farm.config import Settings
from farm.hooks import Hooks
from farm.project import Project
from farm.readers import Hook
from farm.states import FAILURES, Status
from tests.driver import Gate
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

LONG = 30.0  # seconds; more than any of these needs

Make = Callable[..., Hooks]


@pytest.fixture
def said() -> list[str]:
    """What a worker would say."""
    return []


@pytest.fixture
def make(project: Project, said: list[str]) -> Make:
    """Hooks of this project, with the environment of this process."""

    def made(
        on_done: Hook | None = None, on_failure: Hook | None = None, **environ: str
    ) -> Hooks:
        settings = Settings(hooks_on_done=on_done, hooks_on_failure=on_failure)
        return Hooks(project, settings, dict(os.environ) | environ, said.append)

    return made


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


def log(project: Project) -> str:
    """All that hooks have printed."""
    return Path(project.hooks_log_path()).read_text()


def threads() -> list[threading.Thread]:
    """Those in which hooks run."""
    return [t for t in threading.enumerate() if t.name == "farm-hooks"]


def lines(project: Project) -> list[str]:
    return log(project).splitlines()


# -- what is run -----------------------------------------------------------------------


def test_a_string_goes_to_the_shell_and_finds_the_result_as_its_first_argument(
    make: Make, project: Project
) -> None:
    there = make('echo "$# [$1]" | tr a-z A-Z')
    there.fire("sub/a", Status.SUCCEEDED)
    there.end(LONG)

    assert log(project) == f"1 [{project.result_path('sub/a')}]\n".upper()


def test_a_list_gets_the_result_as_its_last_word_and_no_shell(
    make: Make, project: Project
) -> None:
    there = make(("printf", "<%s>\n", "$HOME; a b"))
    there.fire("a", Status.SUCCEEDED)
    there.end(LONG)

    assert lines(project) == ["<$HOME; a b>", f"<{project.result_path('a')}>"]


@pytest.mark.parametrize("status", Status)
def test_on_failure_runs_for_what_nobody_wanted(
    make: Make, project: Project, status: Status
) -> None:
    there = make(on_failure="echo ran")
    there.fire("a", status)
    there.end(LONG)
    ran = Path(project.hooks_log_path()).exists()

    assert ran == (status in FAILURES)


@pytest.mark.parametrize("status", Status)
def test_on_done_runs_however_it_ended(
    make: Make, project: Project, status: Status
) -> None:
    there = make("echo ran")
    there.fire("a", status)
    there.end(LONG)

    assert lines(project) == ["ran"]


def test_of_two_hooks_for_one_task_on_failure_is_first(
    make: Make, project: Project
) -> None:
    there = make(on_done="echo done", on_failure="echo failure")
    there.fire("a", Status.FAILED)
    there.end(LONG)

    assert lines(project) == ["failure", "done"]


def test_they_run_one_after_the_other_in_the_order_of_the_endings(
    make: Make, project: Project
) -> None:
    there = make('n=$(basename "$1"); echo "$n begins"; echo "$n ends"')
    for number in range(20):
        there.fire(f"t{number}", Status.SUCCEEDED)
    there.end(LONG)
    wanted = [
        f"t{n}.result.json {word}" for n in range(20) for word in ("begins", "ends")
    ]

    assert lines(project) == wanted


def test_they_run_in_the_projects_folder(make: Make, project: Project) -> None:
    there = make("pwd -P")
    there.fire("a", Status.SUCCEEDED)
    there.end(LONG)

    assert lines(project) == [os.path.realpath(project.root)]


def test_a_program_of_the_project_is_found_from_there(
    make: Make, project: Project
) -> None:
    script = Path(project.root) / "done.sh"
    script.write_text("#!/bin/sh\necho mine\n")
    script.chmod(0o755)
    there = make(("./done.sh",))
    there.fire("a", Status.SUCCEEDED)
    there.end(LONG)

    assert lines(project) == ["mine"]


def test_farms_own_variables_are_not_passed_on_but_the_project_is(
    make: Make, project: Project
) -> None:
    mine = {"FARM_HEARTBEAT": "2", "FARM_TOKEN": "t", "FARM_PROJECT": "/other"}
    there = make("env | grep ^FARM_", **mine)
    there.fire("a", Status.SUCCEEDED)
    there.end(LONG)

    assert lines(project) == [f"FARM_PROJECT={project.root}"]


def test_other_variables_are_passed_on(make: Make, project: Project) -> None:
    there = make('echo "$NOTIFY"', NOTIFY="me")
    there.fire("a", Status.SUCCEEDED)
    there.end(LONG)

    assert lines(project) == ["me"]


@pytest.fixture
def typed() -> Iterator[None]:
    """Somebody types at the worker's terminal."""
    read, write = os.pipe()
    os.write(write, b"typed\n")
    os.close(write)
    before = os.dup(0)
    os.dup2(read, 0)
    yield
    os.dup2(before, 0)
    os.close(before)
    os.close(read)


def test_they_have_nothing_to_read(typed: None, make: Make, project: Project) -> None:
    there = make("cat; echo over")
    there.fire("a", Status.SUCCEEDED)
    there.end(LONG)

    assert lines(project) == ["over"]


def test_what_they_print_is_appended_to_one_log_for_its_owner_alone(
    make: Make, project: Project
) -> None:
    Path(project.hooks_log_path()).write_text("before\n")
    there = make("echo out; echo err >&2")
    there.fire("a", Status.SUCCEEDED)
    there.end(LONG)

    assert lines(project) == ["before", "out", "err"]


def test_the_log_is_for_its_owner_alone(make: Make, project: Project) -> None:
    there = make("echo secret")
    there.fire("a", Status.SUCCEEDED)
    there.end(LONG)

    assert Path(project.hooks_log_path()).stat().st_mode & 0o077 == 0


def test_without_hooks_there_is_no_thread_and_no_log(
    make: Make, project: Project
) -> None:
    there = make()
    there.fire("a", Status.FAILED)
    during = threads()
    there.end(LONG)

    assert during == []
    assert not Path(project.hooks_log_path()).exists()


# -- when they go wrong ----------------------------------------------------------------


def test_hooks_that_go_well_are_not_spoken_of(make: Make, said: list[str]) -> None:
    there = make("true")
    there.fire("a", Status.SUCCEEDED)
    there.end(LONG)

    assert said == []


@pytest.mark.parametrize(
    ("hook", "how"),
    [
        ("exit 3", "ended with code 3"),
        ("kill -9 $$", "ended with code -9"),
        ("nosuchprogram", "ended with code 127"),
        (("nosuchprogram",), "could not be started"),
        (("/",), "could not be started"),
    ],
    ids=["fails", "is killed", "misspelt", "missing", "a folder"],
)
def test_how_one_failed_is_said_and_the_next_runs(
    make: Make, project: Project, said: list[str], hook: Hook, how: str
) -> None:
    there = make(on_done="echo next", on_failure=hook)
    there.fire("a", Status.FAILED)
    there.end(LONG)

    assert "next" in lines(project)
    assert len(said) == 1
    assert said[0].startswith(f"the hook for a {how}")
    assert ".farm/logs/hooks.log" in said[0]


def test_a_hook_without_a_thread_to_run_in_is_said_and_the_next_one_runs(
    make: Make,
    project: Project,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")  # noqa: EM101 - Python's words

    there = make('basename "$1"')
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        there.fire("a", Status.SUCCEEDED)
    there.fire("b", Status.SUCCEEDED)
    there.end(LONG)

    assert said == ["the hook for a could not be started: can't start new thread"]
    assert lines(project) == ["b.result.json"]


def test_a_folder_in_place_of_the_log_is_said(
    make: Make, project: Project, said: list[str]
) -> None:
    Path(project.hooks_log_path()).mkdir()
    there = make("true")
    there.fire("a", Status.SUCCEEDED)
    there.end(LONG)

    assert said[0].startswith("the hook for a could not be started")


def test_one_that_hangs_is_killed_with_all_its_group_and_the_next_runs(
    make: Make,
    project: Project,
    said: list[str],
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hooks, "LONGEST", 1.0)
    hangs = f"case $1 in */a.*) ({gate.command}) & wait;; esac"
    there = make(f"{hangs}; echo next")
    there.fire("a", Status.SUCCEEDED)
    wait_until(lambda: said)
    monkeypatch.setattr(hooks, "LONGEST", LONG)
    there.fire("b", Status.SUCCEEDED)
    there.end(LONG)

    assert said == [
        "the hook for a took longer than 1 s and was killed; see .farm/logs/hooks.log"
    ]
    assert lines(project) == ["next"]
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in gate.reached()))


# -- the end ---------------------------------------------------------------------------


def test_the_end_waits_for_what_is_due(make: Make, project: Project) -> None:
    there = make("sleep 0.01; echo ran")
    for number in range(10):
        there.fire(f"t{number}", Status.SUCCEEDED)
    there.end(LONG)

    assert lines(project) == ["ran"] * 10


def test_when_the_patience_is_over_the_running_one_is_killed_and_the_rest_counted(
    make: Make, said: list[str], gate: Gate
) -> None:
    there = make(gate.command)
    for number in range(4):
        there.fire(f"t{number}", Status.SUCCEEDED)
    (pid,) = gate.wait_reached()
    there.end(0.1)

    assert "hooks took longer than 0.1 s: one was killed, 3 not run" in said
    wait_until(lambda: not psutil.pid_exists(pid))


def test_after_the_patience_no_other_hook_begins(
    make: Make, project: Project, gate: Gate
) -> None:
    there = make(on_failure=gate.command, on_done="echo began")
    there.fire("a", Status.FAILED)
    gate.wait_reached()
    there.end(0.1)
    wait_until(lambda: not threads())

    assert log(project) == ""


def test_the_count_is_right_however_quick_the_thread_notices_that_it_is_over(
    make: Make, said: list[str], gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = make(gate.command)
    there.fire("a", Status.SUCCEEDED)
    gate.wait_reached()
    kill, (thread,) = os.killpg, threads()

    def kill_and_let_it_notice(pid: int, number: int) -> None:
        kill(pid, number)
        thread.join(1.0)

    monkeypatch.setattr(os, "killpg", kill_and_let_it_notice)
    there.end(0.1)

    assert "hooks took longer than 0.1 s: one was killed" in said


def test_with_nothing_due_even_no_patience_at_all_is_enough(
    make: Make, said: list[str]
) -> None:
    there = make("exit 3")
    there.fire("a", Status.SUCCEEDED)
    wait_until(lambda: said)
    there.end(0.0)

    assert said == ["the hook for a ended with code 3; see .farm/logs/hooks.log"]


def test_one_that_ends_in_the_moment_in_which_it_is_to_be_killed_is_no_error(
    make: Make, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = make(gate.command)
    there.fire("a", Status.SUCCEEDED)
    gate.wait_reached()

    def too_late(_pid: int, _number: int) -> None:
        gate.open()
        raise ProcessLookupError

    monkeypatch.setattr(os, "killpg", too_late)
    there.end(0.1)
    wait_until(lambda: not threads())


def test_a_daemon_that_a_hook_leaves_behind_is_not_waited_for(
    make: Make, said: list[str], gate: Gate
) -> None:
    there = make(f"setsid sh -c {gate.command!r} &")
    there.fire("a", Status.SUCCEEDED)
    there.end(LONG)
    gate.wait_reached()
    gate.open()

    assert said == []
