"""What tasks were skipped for, and what lets them run again."""

import json
from pathlib import Path

import pytest

from farm.project import Project
from farm.skipped import Cause, Causes, sentence
from farm.states import State, Status


def causes(project: Project, needs: dict[str, list[str]], **words: str) -> Causes:
    """Tasks with these needs; `words` says how they ended (others are ready)."""
    for task_id, every in needs.items():
        text = json.dumps({"run": "true", "needs": every})
        Path(project.task_path(task_id)).write_text(text)
    ended = {i: words.get(i, State.READY) for i in {*needs, *words}}
    return Causes(project, set(ended), ended.__getitem__)


def test_the_cause_is_the_need_that_did_not_succeed(project: Project) -> None:
    found = causes(
        project,
        {"sleepy": [], "good": [], "join": ["good", "sleepy"]},
        sleepy="cancelled",
        good="succeeded",
        join="skipped",
    )

    assert found.of("join") == Cause("sleepy", Status.CANCELLED)


def test_a_need_that_was_skipped_itself_is_not_the_cause(project: Project) -> None:
    found = causes(
        project,
        {"bad": [], "a": ["bad"], "b": ["a"], "c": ["[b]"]},
        bad="failed",
        **dict.fromkeys("abc", "skipped"),
    )

    assert [found.of(i).id for i in "abc"] == ["bad"] * 3


def test_a_need_that_runs_again_is_not_a_cause_any_more(project: Project) -> None:
    found = causes(project, {"bad": [], "a": ["bad"]}, a="skipped")

    assert found.of("a") == Cause("a", Status.SKIPPED)


def test_tasks_that_need_each_other_have_a_cause(project: Project) -> None:
    needs = {"a": ["b"], "b": ["a"]}
    found = causes(project, needs, a="skipped", b="skipped")

    assert found.of("a").status == Status.SKIPPED


def test_a_cause_without_a_task_file_is_to_be_dropped_again(project: Project) -> None:
    found = causes(project, {"a": ["gone"]}, a="skipped", gone="failed")
    Path(project.task_path("gone")).unlink(missing_ok=True)
    cause = found.of("a")

    assert cause == Cause("gone", Status.FAILED, is_there=False)
    assert cause.remedy("a") == (
        "drop gone again (its task file is gone), then farm retry a"
    )


def test_what_was_skipped_is_told_by_its_causes(project: Project) -> None:
    found = causes(
        project,
        {"x": [], "y": [], "a": ["x"], "b": ["y"], "c": ["x"]},
        x="failed",
        y="cancelled",
        **dict.fromkeys("abc", "skipped"),
    )

    assert [(cause.id, ids) for cause, ids in found.groups("cba")] == [
        ("x", ["a", "c"]),
        ("y", ["b"]),
    ]


@pytest.mark.parametrize(
    ("cause", "ids", "said"),
    [
        (
            Cause("sleepy", "cancelled"),
            ["join"],
            "join was skipped because sleepy was cancelled: farm retry sleepy runs both again",
        ),
        (
            Cause("b d", "timed_out"),
            ["x", "y", "z"],
            (
                "x and 2 more were skipped because b d timed out:"
                " farm retry 'b d' runs all 4 tasks again"
            ),
        ),
        (
            Cause("join", "skipped"),
            ["join"],
            (
                "join was skipped for a need that is in order by now:"
                " farm retry join runs it again"
            ),
        ),
    ],
)
def test_each_cause_is_a_sentence_with_a_command(
    cause: Cause, ids: list[str], said: str
) -> None:
    assert sentence(cause, ids) == said
