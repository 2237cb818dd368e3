"""`farm retry`."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from farm import register, revive
from farm.control import cancel_name, give, pause_name
from farm.life import Life
from farm.project import Project
from farm.report import survey
from farm.states import Why
from tests.attempts import attempt, begin, drop, end, ended
from tests.cli.conftest import Run
from tests.driver import Farm, ran, whys
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

SLOW = {"max": 1, "base_delay": "2d", "max_delay": "2d"}  # retries


def skipped(project: Project, task_id: str, *needs: str) -> None:
    """A task that was skipped because of what it needs."""
    drop(project, task_id, needs=list(needs))
    text = json.dumps({"status": "skipped", "error": {"kind": "needs", "message": "-"}})
    Path(project.result_path(task_id)).write_text(text)


def is_open(project: Project, task_id: str) -> bool:
    return register.look(project, task_id) is register.Lying.NOTHING


def kept(project: Project) -> list[str]:
    """The ids whose results were kept."""
    names = [path.name for path in Path(project.logs).glob("*.retried")]
    return sorted(name.split(".")[0] for name in names)


# -- which ones ------------------------------------------------------------------------


@pytest.fixture
def mixed(project: Project) -> Project:
    """Tasks that ended in every way, and some that did not."""
    ended(project, "good", Why.SUCCEEDED)
    ended(project, "bad", Why.FAILED)
    ended(project, "late", Why.TIMED_OUT)
    ended(project, "taken-back", Why.CANCELLED)
    drop(project, "ready")
    drop(project, "waits", needs=["nobody"])
    return project


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (["--failed"], ["bad", "late"]),
        (["--status", "timed_out"], ["late"]),
        (["--status", "succeeded"], ["good"]),
        (["**"], ["bad", "late", "taken-back"]),
        (["*a*"], ["bad", "late", "taken-back"]),
        (["g*", "bad"], ["bad"]),
        (["good"], ["good"]),
        (["good", "*t*"], ["good", "late", "taken-back"]),
    ],
    ids=" ".join,
)
def test_a_glob_means_what_did_not_succeed_and_a_name_what_it_says(
    run: Run, mixed: Project, choice: list[str], expected: list[str]
) -> None:
    code, out, err = run("retry", "-C", mixed.root, *choice)

    assert (code, sorted(out.split()), err) == (0, expected, "")
    assert kept(mixed) == expected
    assert all(is_open(mixed, task_id) for task_id in expected)


@pytest.mark.parametrize("choice", [["g*"], ["ready"], ["waits"], ["--status", "lost"]])
def test_nothing_to_retry_is_said(run: Run, mixed: Project, choice: list[str]) -> None:
    code, out, err = run("retry", "-C", mixed.root, *choice)

    assert (code, out, "nothing to retry" in err) == (0, "", True)
    assert kept(mixed) == []


def test_which_tasks_must_be_said(run: Run, mixed: Project) -> None:
    code, _, err = run("retry", "-C", mixed.root)

    assert (code, "say which tasks" in err) == (2, True)
    assert kept(mixed) == []


@pytest.mark.parametrize(
    ("word", "said"), [("baad", "did you mean `bad`"), ("x*", "no task matches x*")]
)
def test_a_slip_retries_nothing(run: Run, mixed: Project, word: str, said: str) -> None:
    code, _, err = run("retry", "-C", mixed.root, "late", word)

    assert (code, said in err) == (1, True)
    assert kept(mixed) == []


def test_json_names_the_retried_and_the_refused(
    run: Run, project: Project, alive: Life
) -> None:
    ended(project, "a", Why.FAILED)
    drop(project, "b")
    taken = begin(project, "b", alive, time.time())
    code, out, _ = run("retry", "-C", project.root, "a", "b", "--json")
    end(project, taken, Why.SUCCEEDED, time.time())
    found = json.loads(out)

    assert code == 1
    assert found["retried"] == ["a"]
    assert list(found["refused"]) == ["b"]


def test_ids_with_odd_letters(run: Run, project: Project) -> None:
    ids = ["50%", "a b", "tiles/0-0"]
    for task_id in ids:
        ended(project, task_id, Why.FAILED)
    code, out, _ = run("retry", "-C", project.root, *ids)

    assert (code, out.splitlines()) == (0, ids)
    assert kept(project) == ["50%25", "a b", "tiles%2F0-0"]


def test_everybody_sees_it_at_once(run: Run, mixed: Project) -> None:
    before = survey(mixed).counts
    run("retry", "-C", mixed.root, "--failed")
    after = survey(mixed).counts

    assert (before["failed"], before["timed_out"], before["ready"]) == (1, 1, 1)
    assert (after["failed"], after["timed_out"], after["ready"]) == (0, 0, 3)


# -- what was skipped ------------------------------------------------------------------


@pytest.mark.parametrize("choice", ["bad", "--failed"])
def test_what_was_skipped_because_of_it_runs_again_too(
    run: Run, project: Project, choice: str
) -> None:
    ended(project, "bad", Why.FAILED)
    ended(project, "good", Why.SUCCEEDED)
    skipped(project, "b", "bad", "good")
    skipped(project, "a", "b")
    skipped(project, "join", "b*")
    skipped(project, "another", "gone")
    code, out, _ = run("retry", "-C", project.root, choice)

    assert (code, sorted(out.split())) == (0, ["a", "b", "bad", "join"])
    assert not is_open(project, "another")
    assert not is_open(project, "good")


def test_what_needs_it_and_did_run_stays(run: Run, project: Project) -> None:
    ended(project, "bad", Why.FAILED)
    ended(project, "b", Why.SUCCEEDED, needs=["bad"])
    _, out, _ = run("retry", "-C", project.root, "bad")

    assert out == "bad\n"


def test_a_skipped_task_may_be_named_alone(run: Run, project: Project) -> None:
    ended(project, "bad", Why.FAILED)
    skipped(project, "b", "bad")
    _, out, _ = run("retry", "-C", project.root, "b")

    assert out == "b\n"
    assert not is_open(project, "bad")


@pytest.mark.parametrize("choice", ["**", "--failed"])
def test_what_is_needed_is_ready_first(run: Run, project: Project, choice: str) -> None:
    ended(project, "z", Why.FAILED)
    skipped(project, "m", "z")
    skipped(project, "a", "m", "z")
    _, out, _ = run("retry", "-C", project.root, choice)

    assert out.split() == ["z", "m", "a"]


@pytest.mark.parametrize("choice", ["--failed", "*", "a"])
def test_what_another_retry_let_run_meanwhile_does_not_run_once_more(
    run: Run, project: Project, monkeypatch: pytest.MonkeyPatch, choice: str
) -> None:
    ended(project, "a", Why.FAILED)
    real = revive.revive

    def too_late(*args: Any, **options: Any) -> revive.Revival:
        if not kept(project):  # somebody else was quicker, and a worker too
            Path(project.result_path("a")).rename(f"{project.logs}/a.1.x.retried")
            attempt(project, "a", Why.SUCCEEDED, time.time())
        return real(*args, **options)

    monkeypatch.setattr(revive, "revive", too_late)
    run("retry", "-C", project.root, choice)

    assert not is_open(project, "a")


# -- it cannot run again ---------------------------------------------------------------


def test_a_task_that_somebody_runs_is_refused(
    run: Run, project: Project, alive: Life
) -> None:
    drop(project, "a")
    taken = begin(project, "a", alive, time.time())
    code, out, err = run("retry", "-C", project.root, "a")
    ending = end(project, taken, Why.SUCCEEDED, time.time())

    assert (code, out) == (1, "")
    assert err.startswith("a does not run again: somebody holds it; farm why a says")
    assert ending.status == "succeeded"


def test_a_result_whose_task_file_is_gone_stays(run: Run, project: Project) -> None:
    ended(project, "a", Why.FAILED)
    Path(project.task_path("a")).unlink()
    code, _, err = run("retry", "-C", project.root, "a")

    assert (code, "its task file is gone" in err) == (1, True)
    assert not is_open(project, "a")


def test_what_is_no_ledger_keeps_no_other_task_from_running(
    run: Run, project: Project
) -> None:
    for task_id in ("a", "b"):
        ended(project, task_id, Why.FAILED)
    Path(project.ledger_path("a")).mkdir()
    code, _, err = run("retry", "-C", project.root, "--failed")

    assert (code, "is not a regular file" in err) == (1, True)
    assert is_open(project, "b")


def test_a_pause_goes_on(run: Run, project: Project) -> None:
    ended(project, "a", Why.FAILED)
    give(project, pause_name("a"))
    code, _, _ = run("retry", "-C", project.root, "a")

    assert code == 0
    assert Path(project.control, "pause-a").exists()


def test_an_order_to_cancel_that_lies_there_does_not_hit_it(
    run: Run, project: Project
) -> None:
    ended(project, "a/b", Why.CANCELLED)
    give(project, cancel_name("a/b"))
    run("retry", "-C", project.root, "a/b")

    assert list(Path(project.control).iterdir()) == []


# -- with workers ----------------------------------------------------------------------


def test_a_failed_task_runs_again_with_all_its_retries(farm: Farm) -> None:
    quick = {"max": 1, "base_delay": 0.01, "max_delay": 0.01}
    farm.drop("a", run="echo $FARM_ATTEMPT >> ran; exit 1", retries=quick)
    farm.work()
    before = farm.result_path("a").read_bytes()
    retried = farm.farm("retry", "--failed")
    farm.work()
    (kept_one,) = (farm.state / "logs").glob("a.2.*.retried")

    assert (retried.returncode, retried.stdout) == (0, "a\n")
    assert whys(farm.result("a")) == ["failed", "failed"]
    assert ran(farm) == ["1", "2", "1", "2"]
    assert kept_one.read_bytes() == before


def test_an_idle_worker_takes_it_at_once_with_all_that_was_skipped(
    farm: Farm,
) -> None:
    farm.drop("z", run="test -e mended")
    farm.drop("m", run="true", needs=["z"])
    farm.drop("a", run="true", needs=["m"])
    farm.drop("all", run="true", needs=["[mz]"])
    farm.start_worker()
    farm.wait_for("skipped", "m", "a", "all")
    farm.write("mended", "")
    retried = farm.farm("retry", "z")
    farm.wait_for("succeeded", "z", "m", "a", "all")

    assert retried.returncode == 0, retried.stderr


def test_a_task_that_waits_for_its_next_attempt_starts_at_once(farm: Farm) -> None:
    farm.drop("a", run='test "$FARM_ATTEMPT" = 2', retries=SLOW)
    farm.start_worker()
    ledger = farm.state / "locks" / "task-a.lock"
    wait_until(lambda: ledger.exists() and '"ended"' in ledger.read_text())
    retried = farm.farm("retry", "a")
    result = farm.wait_for("succeeded", "a")

    assert (retried.returncode, retried.stdout) == (0, "a\n"), retried.stderr
    assert [past["attempt"] for past in result["attempts"]] == [1, 2]
    assert list((farm.state / "control").iterdir()) == []


def test_one_that_runs_is_refused_and_runs_on(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    farm.start_worker()
    gate.wait_reached()
    retried = farm.farm("retry", "a")
    gate.open()
    farm.wait_for("succeeded", "a")

    assert (retried.returncode, retried.stdout) == (1, "")
    assert "somebody holds it" in retried.stderr
    assert len(gate.reached()) == 1


def test_of_two_at_once_one_revives_it_and_it_runs_once(farm: Farm) -> None:
    ids = [f"t{number}" for number in range(20)]
    for task_id in ids:
        farm.drop(task_id, run=f"echo {task_id} >> ran; exit 1")
    farm.work()
    (farm.root / "ran").unlink()
    verbs = [farm.start("retry", "--failed") for _ in range(3)]
    codes = [verb.wait(40) for verb in verbs]
    kept_ones = list((farm.state / "logs").glob("*.retried"))
    farm.work()

    assert codes == [0, 0, 0], farm.describe()
    assert sorted(path.name.split(".")[0] for path in kept_ones) == sorted(ids)
    assert sorted(ran(farm)) == sorted(ids)


def test_two_at_once_lose_nothing_under_workers_that_run_it(farm: Farm) -> None:
    ids = [f"t{number}" for number in range(20)]
    for task_id in ids:
        farm.drop(task_id, run=f"test -e mended || exit 1; echo {task_id} >> ran")
    farm.work()
    farm.write("mended", "")
    farm.start_worker()
    farm.start_worker()
    verbs = [farm.start("retry", "--failed") for _ in range(2)]
    for verb in verbs:
        verb.wait(40)
    wait_until(
        lambda: all(farm.status_of(i) == "succeeded" for i in ids), 30, farm.describe
    )

    assert sorted(ran(farm)) == sorted(ids)


def test_a_late_owner_does_not_commit_over_it(farm: Farm) -> None:
    late, mine = farm.gate("late"), farm.gate("mine")
    both = f"if [ -e first ]; then {mine.command}; else : > first; {late.command}; fi"
    farm.drop("a", run=both)
    slow = farm.start_worker(FARM_HEARTBEAT="30", FARM_HEARTBEAT_TIMEOUT="90")
    late.wait_reached()
    (farm.state / "locks" / "task-a.lock").unlink()  # its lock is on no name any more
    text = '{"version":1,"id":"a","status":"failed","attempts":[]}'
    farm.result_path("a").write_text(text)  # how it ended for somebody else
    retried = farm.farm("retry", "a")
    farm.start_worker()
    mine.wait_reached()
    late.open()
    fenced = wait_until(lambda: list((farm.state / "logs").glob("a.1.*.fenced")))
    unfinished = farm.status_of("a")
    mine.open()
    result = farm.wait_for("succeeded", "a")

    assert retried.returncode == 0, retried.stderr
    assert json.loads(fenced[0].read_text())["worker"] != result["worker"]
    assert unfinished is None
    assert slow.poll() is None


def test_an_invalid_task_that_was_mended_is_ready_by_itself(
    run: Run, project: Project
) -> None:
    drop(project, "a")
    verdict = {"status": "invalid", "sha256": "of other bytes"}
    Path(project.result_path("a")).write_text(json.dumps(verdict))
    code, _, err = run("retry", "-C", project.root, "a")

    assert (code, "somebody" in err) == (0, False)
