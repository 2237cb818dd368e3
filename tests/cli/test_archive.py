"""`farm archive`: what it means by its words, what it prints, its exit codes."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from farm import cli, pair, shelf
from farm.project import Project
from farm.result import rfc3339
from tests.attempts import drop

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], project: Project) -> Run:
    """Type `farm archive`; (exit code, stdout, stderr)."""

    def typed(*args: str) -> tuple[int, str, str]:
        code = cli.run(["archive", "-C", project.root, *args])
        out, err = capsys.readouterr()
        return code, out, err

    return typed


def lay(
    project: Project, task_id: str, status: str = "succeeded", days: int = 0
) -> str:
    """A task that ended so, so many days ago."""
    drop(project, task_id)
    ended = rfc3339(time.time() - days * 86_400)
    raw = json.dumps({"status": status, "finished": ended})
    Path(project.result_path(task_id)).write_text(raw)
    return task_id


def packed(project: Project) -> list[str]:
    return [pair.id for path in shelf.archives(project) for pair in shelf.pairs(path)]


def test_without_a_word_it_says_how(run: Run, project: Project) -> None:
    lay(project, "a")
    code, out, err = run()

    assert (code, out, packed(project)) == (2, "", [])
    assert "'**'" in err
    assert "--older-than 7d" in err


def test_it_prints_the_ids_that_it_moved_and_where_they_are(
    run: Run, project: Project
) -> None:
    lay(project, "a")
    lay(project, "tiles/b")
    code, out, err = run("**")
    (path,) = shelf.archives(project)

    assert (code, out) == (0, "a\ntiles/b\n")
    assert err == f"archived 2 tasks in {project.relative(path)}\n"


def test_json_says_it_for_programs(run: Run, project: Project) -> None:
    lay(project, "a")
    drop(project, "open")
    code, out, _ = run("a", "open", "--json")
    (path,) = shelf.archives(project)

    assert code == 1
    assert json.loads(out) == {
        "archived": ["a"],
        "left": {"open": "it has not ended"},
        "file": project.relative(path),
    }


@pytest.mark.parametrize(
    ("args", "meant"),
    [
        (["a"], ["a"]),
        (["*"], ["a", "b", "old"]),
        (["**", "--failed"], ["b"]),
        (["--status", "timed_out"], ["b"]),
        (["--older-than", "7d"], ["old"]),
        (["--older-than", "0"], ["a", "b", "old"]),
        (["a", "--older-than", "7d"], []),
        (["**", "--status", "ready"], []),
    ],
    ids=" ".join,
)
def test_words_choose_among_what_has_ended(
    run: Run, project: Project, args: list[str], meant: list[str]
) -> None:
    lay(project, "a")
    lay(project, "b", "timed_out")
    lay(project, "old", days=8)
    drop(project, "open")
    code, out, _ = run(*args)

    assert (code, out.split(), sorted(packed(project))) == (0, meant, meant)


def test_a_glob_passes_over_what_has_not_ended(run: Run, project: Project) -> None:
    drop(project, "open")
    code, out, err = run("**")

    assert (code, out) == (0, "")
    assert "none of these has ended" in err
    assert not Path(project.root, "archive").exists()


def test_a_name_of_what_has_not_ended_is_said(run: Run, project: Project) -> None:
    drop(project, "open")
    code, _, err = run("open")

    assert (code, err) == (1, "open stays: it has not ended\n")


def test_a_name_that_is_not_there_is_said(run: Run, project: Project) -> None:
    lay(project, "build")
    code, _, err = run("biuld")

    assert (code, packed(project)) == (1, [])
    assert "no task biuld, did you mean `build`?" in err


def test_what_unfinished_tasks_need_stays_and_is_counted(
    run: Run, project: Project
) -> None:
    for task_id in ("a", "tiles/b", "tiles/c"):
        lay(project, task_id)
    drop(project, "open", needs=["tiles/*"])
    code, out, err = run("**")

    assert (code, out) == (0, "a\n")
    assert "2 tasks left where they are, because unfinished tasks need them" in err


def test_a_needed_task_that_was_named_is_worth_an_exit_code(
    run: Run, project: Project
) -> None:
    lay(project, "a")
    drop(project, "open", needs=["a"])

    assert run("a")[0] == 1


def test_a_verdict_on_bytes_that_changed_is_not_packed(
    run: Run, project: Project
) -> None:
    lay(project, "a", "invalid")
    code, _, err = run("a")

    assert (code, err) == (1, "a stays: it has not ended\n")


def test_a_file_that_cannot_be_packed_is_said(run: Run, project: Project) -> None:
    lay(project, "a")
    Path(project.task_path("a")).write_bytes(b"\xff")
    code, out, err = run("**")

    assert (code, out, err) == (1, "", "a stays: its files are not UTF-8\n")


def test_a_second_one_says_that_the_first_is_at_it(run: Run, project: Project) -> None:
    lay(project, "a")
    with pair.alone(project):
        code, _, err = run("a")

    assert (code, "wait until it has ended" in err) == (2, True)


def test_what_a_killed_run_moved_may_be_named_again(run: Run, project: Project) -> None:
    pair = shelf.Pair("a", None, '{"status":"succeeded"}')
    path = shelf.moving_path(project, time.time())
    shelf.write(path, [pair], f"{project.tmp}/aside")
    code, out, _ = run("a")

    assert (code, out, packed(project)) == (0, "a\n", ["a"])
