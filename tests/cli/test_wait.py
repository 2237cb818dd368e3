"""`farm wait`."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from farm import poll
from farm.life import Life
from farm.project import Project
from farm.states import Why
from tests.attempts import drop, ended
from tests.cli.conftest import Run
from tests.driver import Farm, said
from tests.waiting import wait_until

pytestmark = pytest.mark.processes


# -- what has ended --------------------------------------------------------------------


def test_all_have_succeeded(run: Run, project: Project) -> None:
    for task_id in ("a", "b"):
        ended(project, task_id, Why.SUCCEEDED)
    code, out, err = run("wait", "-C", project.root)

    assert (code, out, err) == (0, "", "2 of 2 tasks succeeded\n")


@pytest.mark.parametrize("words", [[], ["**"], ["a", "b", "c"]], ids=" ".join)
def test_what_did_not_succeed_is_named(
    run: Run, project: Project, words: list[str]
) -> None:
    ended(project, "a", Why.SUCCEEDED)
    ended(project, "b", Why.TIMED_OUT)
    ended(project, "c", Why.CANCELLED)
    code, out, err = run("wait", "-C", project.root, *words)

    assert (code, out) == (1, "b timed out\nc cancelled\n")
    assert err == "1 of 3 tasks succeeded\n"


@pytest.mark.parametrize("words", [["a"], ["[a]"], ["--status", "succeeded"]])
def test_only_what_is_chosen_counts(
    run: Run, project: Project, words: list[str]
) -> None:
    ended(project, "a", Why.SUCCEEDED)
    ended(project, "b", Why.FAILED)
    drop(project, "c")
    code, out, err = run("wait", "-C", project.root, *words)

    assert (code, out, err) == (0, "", "1 of 1 task succeeded\n")


def test_no_task_at_all_is_nothing_to_wait_for(run: Run, project: Project) -> None:
    code, _, err = run("wait", "-C", project.root)

    assert (code, err) == (0, "0 of 0 tasks succeeded\n")


def test_a_result_without_a_task_file_has_ended(run: Run, project: Project) -> None:
    ended(project, "a", Why.FAILED)
    Path(project.task_path("a")).unlink()

    assert run("wait", "-C", project.root, "a")[0] == 1


# -- time ------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", ["0", "0s", "0.01"])
def test_when_the_time_is_up_it_says_what_is_still_open(
    run: Run, project: Project, timeout: str
) -> None:
    ended(project, "a", Why.SUCCEEDED)
    drop(project, "b")
    drop(project, "c", needs=["nobody"])
    code, out, err = run("wait", "-C", project.root, "--timeout", timeout)

    assert (code, out) == (124, "b ready\nc waiting\n")
    assert "1 of 3 tasks succeeded" in err


@pytest.mark.parametrize("why", [Why.SUCCEEDED, Why.FAILED])
def test_what_has_ended_before_is_no_matter_of_time(
    run: Run, project: Project, why: Why
) -> None:
    ended(project, "a", why)
    code, _, _ = run("wait", "-C", project.root, "--timeout", "0")

    assert code == (0 if why is Why.SUCCEEDED else 1)


@pytest.mark.parametrize("timeout", ["5", "1.5", "90s", "15m", "1h30m", "1e3"])
def test_a_duration_is_seconds_or_words(
    run: Run, project: Project, timeout: str
) -> None:
    assert run("wait", "-C", project.root, "--timeout", timeout)[0] == 0


@pytest.mark.parametrize("timeout", ["soon", "5x", "-1", "nan", "inf", "", "1 h"])
def test_what_is_no_duration_is_wrong_usage(
    run: Run, project: Project, timeout: str
) -> None:
    code, _, err = run("wait", "-C", project.root, f"--timeout={timeout}")

    assert (code, "is no duration" in err) == (2, True)


# -- when nothing can happen -----------------------------------------------------------

NOBODY = "no worker is running here: farm supervise, or farm worker\n"


def test_without_a_worker_it_says_so_and_waits(farm: Farm) -> None:
    farm.drop("a", run="true")
    waits = farm.start("wait")
    wait_until(lambda: NOBODY in said(farm, waits), on_timeout=farm.describe)
    assert waits.poll() is None
    farm.work()

    assert waits.wait(30) == 0
    assert said(farm, waits).count(NOBODY) == 1


def test_before_the_time_is_up_it_is_said(run: Run, project: Project) -> None:
    drop(project, "a")
    code, _, err = run("wait", "-C", project.root, "--timeout", "0.1")

    assert (code, err) == (124, f"{NOBODY}0 of 1 task succeeded\n")


def test_with_a_worker_nothing_is_said(run: Run, project: Project, alive: Life) -> None:
    drop(project, "a")
    code, _, err = run("wait", "-C", project.root, "--timeout", "0.1")

    assert (code, err) == (124, "0 of 1 task succeeded\n")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            [],
            "nothing of this can start: a and 1 more: needs x",
        ),
        (["a"], "nothing of this can start: a: needs x"),
    ],
)
def test_what_nobody_can_start_is_said(
    run: Run, project: Project, alive: Life, words: list[str], why: str
) -> None:
    drop(project, "a", needs=["x"])
    drop(project, "b", needs=["a"])
    _, _, err = run("wait", "-C", project.root, "--timeout", "0.1", *words)

    assert err.startswith(why)


def test_while_something_can_run_nothing_is_said_of_what_waits(
    run: Run, project: Project, alive: Life
) -> None:
    drop(project, "a", needs=["b"])
    drop(project, "b")
    _, _, err = run("wait", "-C", project.root, "--timeout", "0.1", "a")

    assert err == "0 of 1 task succeeded\n"


# -- how it is typed -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "said"), [("biuld", "did you mean `build`"), ("x*", "no task matches x*")]
)
def test_a_slip_is_not_waited_for(
    run: Run, project: Project, word: str, said: str
) -> None:
    drop(project, "build")
    code, _, err = run("wait", "-C", project.root, word)

    assert (code, said in err) == (1, True)


def test_json_says_how_each_stands(run: Run, project: Project) -> None:
    ended(project, "a", Why.TIMED_OUT)
    drop(project, "b")
    code, out, _ = run("wait", "-C", project.root, "--json", "--timeout", "0")

    assert code == 124
    assert json.loads(out) == {
        "in_time": False,
        "tasks": {"a": "timed_out", "b": "ready"},
    }


def test_it_writes_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "a.json").write_text('{"run": "true"}')
    run("wait", "-C", tmp_path, "--timeout", "0")

    assert [path.name for path in tmp_path.rglob("*")] == ["tasks", "a.json"]


def test_no_project_is_wrong_usage(run: Run, tmp_path: Path) -> None:
    assert run("wait", "-C", tmp_path)[0] == 2


# -- while it waits --------------------------------------------------------------------


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What is to happen between two looks, one thing after the other."""

    def happens(*events: Callable[[], object]) -> None:
        left = iter(events)
        event = SimpleNamespace(wait=lambda _seconds: next(left)())
        monkeypatch.setattr(poll, "threading", SimpleNamespace(Event=lambda: event))

    return happens


def test_a_task_whose_file_is_taken_away_is_gone(
    run: Run, project: Project, meanwhile: Callable[..., None]
) -> None:
    drop(project, "a")
    meanwhile(Path(project.task_path("a")).unlink)
    code, out, err = run("wait", "-C", project.root, "a")

    assert (code, out, err) == (1, "a gone\n", "0 of 1 task succeeded\n")


def test_a_task_that_was_run_again_meanwhile_counts_as_it_ended_last(
    run: Run, project: Project, meanwhile: Callable[..., None]
) -> None:
    def run_again() -> None:
        Path(project.result_path("a")).unlink()
        ended(project, "a", Why.FAILED)
        ended(project, "b", Why.SUCCEEDED)

    ended(project, "a", Why.SUCCEEDED)
    drop(project, "b")
    meanwhile(run_again)
    code, out, err = run("wait", "-C", project.root)

    assert (code, out, err) == (1, "a failed\n", "1 of 2 tasks succeeded\n")


def test_what_is_dropped_later_is_not_waited_for(
    run: Run, project: Project, meanwhile: Callable[..., None]
) -> None:
    drop(project, "a")
    meanwhile(lambda: drop(project, "b"), lambda: ended(project, "a", Why.SUCCEEDED))
    code, _, err = run("wait", "-C", project.root)

    assert (code, err) == (0, "1 of 1 task succeeded\n")


def test_a_task_that_runs_again_is_waited_for_once_more(
    run: Run, project: Project, meanwhile: Callable[..., None]
) -> None:
    ended(project, "a", Why.FAILED)
    drop(project, "b")
    meanwhile(
        Path(project.result_path("a")).unlink,
        lambda: ended(project, "b", Why.SUCCEEDED),
        lambda: ended(project, "a", Why.SUCCEEDED),
    )
    code, _, err = run("wait", "-C", project.root)

    assert (code, err) == (0, "2 of 2 tasks succeeded\n")


def test_ctrl_c_ends_it_quietly(
    run: Run, project: Project, meanwhile: Callable[..., None]
) -> None:
    drop(project, "a")
    meanwhile(lambda: signal.raise_signal(signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code, out, err = run("wait", "-C", project.root)
    finally:
        signal.signal(signal.SIGINT, before)

    assert (code, out, err.strip()) == (130, "", "farm: interrupted")


# -- with workers ----------------------------------------------------------------------


def test_it_returns_when_the_last_one_has_ended(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    farm.drop("b", run="true", needs=["a"])
    farm.start_worker()
    gate.wait_reached()
    before = farm.farm("wait", "--timeout", "0")
    verb = farm.start("wait")
    gate.open()

    assert verb.wait(30) == 0
    assert before.returncode == 124
    assert "a running" in before.stdout
    assert said(farm) == "2 of 2 tasks succeeded\n"
    assert farm.status_of("b") == "succeeded"


def test_a_named_one_is_enough(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    farm.drop("b", run="true")
    for _ in range(2):
        farm.start_worker()
    gate.wait_reached()

    assert farm.farm("wait", "b").returncode == 0
    assert farm.status_of("a") is None


def test_attempts_are_waited_for_until_the_last(farm: Farm) -> None:
    quick = {"max": 2, "base_delay": 0.3, "max_delay": 0.3}
    farm.drop("a", run='test "$FARM_ATTEMPT" = 3', retries=quick)
    farm.start_worker()

    assert farm.farm("wait", "a").returncode == 0
