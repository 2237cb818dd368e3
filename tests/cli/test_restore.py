"""`farm restore`: what it prints, and its exit codes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from farm import archive, cli, pair, shelf
from farm.claim import Holder
from farm.project import Project
from farm.words import counted

Run = Callable[..., tuple[int, str, str]]
NOW = 1_763_700_000.0


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], project: Project) -> Run:
    """Type `farm restore`; (exit code, stdout, stderr)."""

    def typed(*args: str) -> tuple[int, str, str]:
        code = cli.run(["restore", "-C", project.root, *args])
        out, err = capsys.readouterr()
        return code, out, err

    return typed


@pytest.fixture
def archived(project: Project) -> Project:
    """A project with the archived tasks `a` and `tiles/b`."""
    ids = ("a", "tiles/b")
    for task_id in ids:
        path = Path(project.task_path(task_id))
        path.parent.mkdir(exist_ok=True)
        path.write_text('{"run": "true"}')
        Path(project.result_path(task_id)).write_text('{"status": "succeeded"}')
    archive.archive(project, Holder.passing(), ids, NOW)
    return project


def test_without_a_word_it_says_how(run: Run, archived: Project) -> None:
    code, out, err = run()

    assert (code, out) == (2, "")
    assert "farm restore '**'" in err


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [("a", ["a"]), ("**", ["a", "tiles/b"]), ("tiles/*", ["tiles/b"])],
)
def test_it_prints_the_ids_that_it_put_back(
    run: Run, archived: Project, pattern: str, meant: list[str]
) -> None:
    code, out, err = run(pattern)

    assert (code, out.split()) == (0, meant)
    assert err == f"restored {counted(len(meant), 'task')}\n"


def test_json_says_it_for_programs(run: Run, archived: Project) -> None:
    Path(archived.task_path("a")).write_text('{"run": "new"}')
    code, out, _ = run("**", "--json")

    assert (code, json.loads(out)) == (
        1,
        {
            "restored": ["tiles/b"],
            "left": {"a": "a task or result of this name lies in tasks/"},
        },
    )


def test_what_lies_in_tasks_is_said(run: Run, archived: Project) -> None:
    Path(archived.task_path("a")).write_text('{"run": "new"}')
    code, _, err = run("a")

    assert code == 1
    assert "a stays in archive/: a task or result of this name lies" in err


@pytest.mark.parametrize("pattern", ["nope", "nope/*"])
def test_what_is_not_archived_is_said(
    run: Run, archived: Project, pattern: str
) -> None:
    code, out, err = run("a", pattern)

    assert (code, out, pattern in err) == (1, "", True)


def test_a_damaged_archive_is_said_and_the_others_work(
    run: Run, archived: Project
) -> None:
    damaged = Path(archived.root, "archive", "mine.jsonl.gz")
    damaged.write_text("no archive")
    code, out, err = run("**")

    assert (code, out) == (1, "a\ntiles/b\n")
    assert str(damaged) in err


def test_what_a_killed_archive_left_is_finished_first(
    run: Run, archived: Project
) -> None:
    pair = shelf.Pair("c", None, '{"status":"succeeded"}')
    path = shelf.moving_path(archived, NOW)
    shelf.write(path, [pair], f"{archived.tmp}/aside")
    code, out, _ = run("c")

    assert (code, out, shelf.moving(archived)) == (0, "c\n", [])


def test_a_second_one_says_that_the_first_is_at_it(run: Run, archived: Project) -> None:
    with pair.alone(archived):
        code, _, err = run("a")

    assert (code, "wait until it has ended" in err) == (2, True)
