"""`farm pause`."""

from pathlib import Path

import pytest

from farm.control import Control
from farm.project import Project
from tests.cli.conftest import Run
from tests.driver import Farm

pytestmark = pytest.mark.processes


def drop(project: Project, *task_ids: str) -> None:
    for task_id in task_ids:
        path = Path(project.task_path(task_id))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"run": "true"}')


def orders(project: Project) -> list[str]:
    return sorted(path.name for path in Path(project.control).iterdir())


# -- how it is typed -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("globs", "files", "held"),
    [
        ([], ["pause"], 4),
        (["a"], ["pause-a"], 1),
        (["tiles/*", "a"], ["pause-a", "pause-tiles%2F*"], 3),
        (["**"], ["pause-**"], 4),
        (["50%"], ["pause-50%25"], 1),
    ],
    ids=["all", "an id", "both", "a glob for all", "percent"],
)
def test_each_word_is_a_file_and_what_it_holds_back_is_counted(
    run: Run, project: Project, globs: list[str], files: list[str], held: int
) -> None:
    drop(project, "a", "50%", "tiles/0", "tiles/1")
    code, out, err = run("pause", "-C", project.root, *globs)

    assert (code, out) == (0, "")
    assert f"{held} task" in err
    assert orders(project) == files


def test_an_id_with_brackets_is_paused_and_nothing_else_is(
    run: Run, project: Project
) -> None:
    drop(project, "t[a-b]", "ta")
    _, _, err = run("pause", "-C", project.root, "t[a-b]")
    held = Control(project).read().holds

    assert "paused t[a-b]: 1 task held back" in err
    assert (bool(held("t[a-b]")), held("ta")) == (True, None)


def test_a_pause_of_an_id_with_brackets_is_taken_back_by_that_id(
    run: Run, project: Project
) -> None:
    drop(project, "t[a-b]")
    run("pause", "-C", project.root, "t[a-b]")
    refused = run("resume", "-C", project.root, "other")
    code, _, err = run("resume", "-C", project.root, "t[a-b]")

    assert "what is paused is t[a-b]\n" in refused[2]
    assert (code, err, orders(project)) == (0, "goes on: t[a-b]\n", [])


def test_a_pause_that_a_person_has_made_holds_the_id_that_it_names(
    project: Project,
) -> None:
    Path(project.control, "pause-t[a-b]").touch()
    held = Control(project).read().holds

    assert [bool(held(i)) for i in ("t[a-b]", "ta", "tc")] == [True, True, False]


def test_what_has_ended_is_not_counted(run: Run, project: Project) -> None:
    drop(project, "a", "b")
    Path(project.result_path("a")).write_text('{"status": "succeeded"}')
    _, _, err = run("pause", "-C", project.root)

    assert "paused everything: 1 task held back, 0 that run go on" in err


def test_nobody_has_to_be_there_to_pause_everything(run: Run, project: Project) -> None:
    code, _, err = run("pause", "-C", project.root)

    assert (code, "0 tasks held back" in err) == (0, True)
    assert orders(project) == ["pause"]


@pytest.mark.parametrize(
    ("word", "said"), [("biuld", "did you mean `build`"), ("x*", "no task matches x*")]
)
def test_a_slip_pauses_nothing(
    run: Run, project: Project, word: str, said: str
) -> None:
    drop(project, "a", "build")
    code, _, err = run("pause", "-C", project.root, "a", word)

    assert (code, said in err) == (1, True)
    assert orders(project) == []


def test_pausing_twice_is_no_mistake(run: Run, project: Project) -> None:
    drop(project, "a")
    codes = [run("pause", "-C", project.root, "a")[0] for _ in range(2)]

    assert codes == [0, 0]
    assert orders(project) == ["pause-a"]


def test_a_glob_that_is_too_long_for_a_file_is_wrong_usage(
    run: Run, project: Project
) -> None:
    drop(project, "a")
    glob = "[" + "a" * 260 + "]"
    code, _, err = run("pause", "-C", project.root, "a", glob)

    assert (code, "too long" in err) == (2, True)
    assert orders(project) == []


# -- with workers ----------------------------------------------------------------------


def test_what_runs_goes_on_and_nothing_new_starts(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    farm.drop("b", run="touch ran")
    worker = farm.start_worker("--until-done")
    gate.wait_reached()
    paused = farm.farm("pause")
    farm.drop("c", run="touch ran", priority=100)
    gate.open()

    assert worker.wait(30) == 1
    assert paused.stderr.startswith(
        "paused everything: 1 task held back, 1 that run go on"
    )
    assert farm.status_of("a") == "succeeded"
    assert not (farm.root / "ran").exists()


def test_only_what_matches_waits_and_what_is_dropped_later_too(farm: Farm) -> None:
    farm.drop("tiles/0", run="touch ran")
    farm.drop("other", run="true")
    farm.farm("pause", "tiles/*")
    farm.drop("tiles/1", run="touch ran")
    farm.drop("tiles/deep/1", run="true")
    code = farm.work()

    assert code == 1
    assert farm.status_of("other") == "succeeded"
    assert farm.status_of("tiles/deep/1") == "succeeded"
    assert not (farm.root / "ran").exists()


def test_it_outlasts_all_workers(farm: Farm) -> None:
    farm.drop("a", run="true")
    farm.farm("pause")
    codes = [farm.work(), farm.work()]

    assert codes == [1, 1]
    assert farm.status_of("a") is None


def test_what_needs_a_paused_task_waits_too(farm: Farm) -> None:
    farm.drop("a", run="true")
    farm.drop("b", run="true", needs=["a"])
    farm.farm("pause", "a")
    farm.work()

    assert farm.status_of("b") is None
