"""Control by files."""

import os
from pathlib import Path

import pytest

from farm.control import Control, Orders
from farm.project import Project


def order(project: Project, *names: str) -> Orders:
    for name in names:
        Path(project.control, name).touch()
    return Control(project).read()


def test_no_files_are_no_orders(project: Project) -> None:
    assert order(project) == Orders()


def test_no_folder_is_no_orders(project: Project) -> None:
    Path(project.control).rmdir()

    assert Control(project).read() == Orders()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pause", Orders(paused=True)),
        ("drain", Orders(drain=True)),
        ("pause-a*", Orders(globs={"pause-a*": "a*"})),
        ("pause-tiles%2F**", Orders(globs={"pause-tiles%2F**": "tiles/**"})),
        ("pause-100%25", Orders(globs={"pause-100%25": "100%"})),
        ("pause-pause-x", Orders(globs={"pause-pause-x": "pause-x"})),
        ("paused", Orders()),
        ("scale-host", Orders()),
        ("cancel-a%2Fb", Orders(cancels={"cancel-a%2Fb": ""})),
        (".pause", Orders()),
    ],
)
def test_a_file_is_an_order_by_its_name(
    project: Project, name: str, expected: Orders
) -> None:
    assert order(project, name) == expected


def test_a_pause_holds_every_task() -> None:
    assert Orders(paused=True).holds("anything") == "pause"


@pytest.mark.parametrize(
    ("task_id", "expected"),
    [
        ("a/1", "pause-a%2F*"),
        ("b", "pause-b"),
        ("a/1/2", None),
        ("c", None),
    ],
)
def test_a_pause_of_some_names_the_file_that_can_be_removed(
    project: Project, task_id: str, expected: str | None
) -> None:
    assert order(project, "pause-a%2F*", "pause-b").holds(task_id) == expected


def test_without_orders_nothing_is_held() -> None:
    assert Orders(drain=True).holds("a") is None


def test_an_order_that_comes_or_goes_is_a_change(project: Project) -> None:
    os.utime(project.control, (0, 0))
    control = Control(project)
    control.read()
    calm = control.changed()
    Path(project.control, "pause").touch()
    after_it_came = control.changed()
    os.utime(project.control, (0, 0))
    control.read()
    Path(project.control, "pause").unlink()

    assert (calm, after_it_came, control.changed()) == (False, True, True)
