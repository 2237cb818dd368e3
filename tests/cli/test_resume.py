"""`farm resume`."""

from pathlib import Path

import pytest

from farm.control import DRAIN, cancel_name, give, pause_name
from farm.project import Project
from tests.cli.conftest import Run
from tests.driver import Farm
from tests.waiting import wait_until

pytestmark = pytest.mark.processes


def orders(project: Project) -> list[str]:
    return sorted(path.name for path in Path(project.control).iterdir())


@pytest.fixture
def paused(project: Project) -> Project:
    """A project with pauses of everything, of a glob, of ids; and other orders."""
    for glob in (None, "tiles/*", "a", "50%"):
        give(project, pause_name(glob))
    give(project, DRAIN)
    give(project, cancel_name("a"))
    return project


OTHERS = ["cancel-a", "drain"]


def test_all_pauses_end_and_other_orders_stay(run: Run, paused: Project) -> None:
    code, out, err = run("resume", "-C", paused.root)

    assert (code, out) == (0, "")
    assert all(word in err for word in ("everything", "tiles/*", "50%"))
    assert orders(paused) == OTHERS


@pytest.mark.parametrize(
    ("globs", "left"),
    [
        (["tiles/*"], ["pause", "pause-50%25", "pause-a"]),
        (["a", "50%"], ["pause", "pause-tiles%2F*"]),
    ],
    ids=["a glob", "ids"],
)
def test_a_pause_is_taken_back_as_it_was_given(
    run: Run, paused: Project, globs: list[str], left: list[str]
) -> None:
    code, _, err = run("resume", "-C", paused.root, *globs)

    assert (code, err) == (0, f"goes on: {', '.join(globs)}\n")
    assert orders(paused) == sorted(OTHERS + left)


@pytest.mark.parametrize("glob", ["tiles/0", "*", "tile/*"])
def test_what_is_not_paused_by_itself_is_an_error_that_says_what_is(
    run: Run, paused: Project, glob: str
) -> None:
    before = orders(paused)
    code, _, err = run("resume", "-C", paused.root, "a", glob)

    assert (code, f"{glob} is not paused" in err, "tiles/*" in err) == (1, True, True)
    assert orders(paused) == before


def test_naming_one_where_nothing_is_paused_is_an_error(
    run: Run, project: Project
) -> None:
    code, _, err = run("resume", "-C", project.root, "a")

    assert (code, err) == (1, "farm: a is not paused: nothing is\n")


def test_nothing_to_go_on_with_is_said(run: Run, project: Project) -> None:
    code, _, err = run("resume", "-C", project.root)

    assert (code, err) == (0, "nothing is paused\n")


@pytest.mark.parametrize(
    ("name", "glob"), [("pause-a%2fb", "a/b"), ("pause-50%", "50%")]
)
def test_a_pause_that_a_person_wrote_otherwise_ends_too(
    run: Run, project: Project, name: str, glob: str
) -> None:
    Path(project.control, name).touch()
    code, _, _ = run("resume", "-C", project.root, glob)

    assert code == 0
    assert orders(project) == []


def test_a_pause_whose_tasks_are_gone_ends_too(run: Run, project: Project) -> None:
    give(project, pause_name("gone/*"))
    code, _, _ = run("resume", "-C", project.root, "gone/*")

    assert code == 0
    assert orders(project) == []


# -- with workers ----------------------------------------------------------------------


def waits(farm: Farm, count: int) -> bool:
    """Whether so many tasks wait, as everybody can see."""
    shown = farm.farm("status", "--json").stdout
    return f'"waiting":{count}' in shown


@pytest.mark.parametrize("word", [None, "[ab]"])
def test_an_idle_worker_goes_on_at_once(farm: Farm, word: str | None) -> None:
    words = [word] if word else []
    for task_id in ("a", "b"):
        farm.drop(task_id, run="true")
    farm.farm("pause", *words)
    farm.start_worker()
    wait_until(lambda: waits(farm, 2), on_timeout=farm.describe)
    before = [farm.status_of(task_id) for task_id in ("a", "b")]
    farm.farm("resume", *words)
    farm.wait_for("succeeded", "a", "b")

    assert before == [None, None]


def test_of_two_pauses_the_other_one_still_holds(farm: Farm) -> None:
    farm.drop("a", run="true")
    farm.drop("b", run="true")
    farm.farm("pause", "*")
    farm.farm("pause", "a")
    farm.farm("resume", "*")
    code = farm.work()

    assert code == 1
    assert farm.status_of("a") is None
    assert farm.status_of("b") == "succeeded"
