"""What verbs say of tasks that lie in an archive."""

import json
import re
from pathlib import Path

import pytest

from farm import shelf
from farm.project import Project
from farm.states import Why
from tests.attempts import drop, ended
from tests.cli.conftest import Run

IN_ARCHIVE = re.compile(r"archive/[^ ]*\.jsonl\.gz")


def typed(run: Run, *args: str) -> str:
    """What it prints, on stdout or stderr; the name of the archive as FILE."""
    _, out, err = run(args[0], "-C", str(Path.cwd()), *args[1:])
    return IN_ARCHIVE.sub("FILE", out + err)


@pytest.fixture(autouse=True)
def archived(run: Run, project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """`build` and `tiles/1` have succeeded, `bad` failed: all are archived."""
    monkeypatch.chdir(project.root)
    ended(project, "build", Why.SUCCEEDED, env={"KEY": "hush"})
    ended(project, "tiles/1", Why.SUCCEEDED)
    ended(project, "bad", Why.FAILED)
    run("archive", "-C", project.root, "**")
    return project


@pytest.mark.parametrize(
    "verb", ["logs", "why", "retry", "cancel", "wait", "archive"], ids=str
)
def test_a_verb_that_is_given_its_id_says_where_it_lies(run: Run, verb: str) -> None:
    said = typed(run, verb, "build")

    assert "build is archived in FILE: farm restore build puts it back" in said


def test_show_reads_it_in_the_archive(run: Run) -> None:
    said = typed(run, "show", "build")

    assert said.startswith("build  succeeded\n")
    assert "build is archived in FILE: farm restore build puts it back" in said
    assert "hush" not in said
    assert "attempts" in said


def test_show_tells_programs_the_same(run: Run) -> None:
    facts = json.loads(typed(run, "show", "bad", "--json"))

    assert (facts["state"], facts["status"]) == ("final", "failed")
    assert facts["attempts"][0]["why"] == "failed"
    assert facts["task"] == {"run": "true"}


def test_a_task_of_that_name_in_the_folder_is_the_one_that_is_shown(
    run: Run, project: Project
) -> None:
    drop(project, "build")

    assert "archived" not in typed(run, "show", "build")


def test_status_counts_those_that_lie_only_in_the_archive(
    run: Run, project: Project
) -> None:
    drop(project, "build")
    report = json.loads(typed(run, "status", "--json"))

    assert (report["archived"], report["total"]) == (2, 1)
    assert "2 archived" in typed(run, "status")


def test_status_says_that_a_restore_was_killed(run: Run, project: Project) -> None:
    shelf.begin_restore(project, "x.jsonl.gz", ["build"], f"{project.tmp}/aside")

    assert "a farm archive or farm restore is under way, or was killed" in typed(
        run, "status"
    )


def test_of_an_archive_that_changed_nothing_old_is_remembered(
    run: Run, project: Project
) -> None:
    run("restore", "-C", project.root, "bad")

    assert shelf.placed(project).keys() == {"build", "tiles/1"}
    assert len(list(Path(project.archived).iterdir())) == 1


@pytest.mark.parametrize("raw", [b"", b"{}", b"{", b'{"file":0,"ids":{"x":"lost"}}'])
def test_what_is_remembered_wrongly_is_read_anew(project: Project, raw: bytes) -> None:
    for path in Path(project.archived).iterdir():
        path.write_bytes(raw)

    assert shelf.placed(project).keys() == {"build", "tiles/1", "bad"}


def test_an_archive_of_which_nothing_is_remembered_is_read(project: Project) -> None:
    for path in Path(project.archived).iterdir():
        path.unlink()

    assert shelf.placed(project).keys() == {"build", "tiles/1", "bad"}
    assert list(Path(project.archived).iterdir()) == []  # who only looks writes nothing


# -- needs ------------------------------------------------------------------------


def test_why_names_the_archive_of_what_is_needed(run: Run, project: Project) -> None:
    drop(project, "deploy", needs=["build", "bad"])
    said = typed(run, "why", "deploy")

    assert "it needs build, which has succeeded and lies in FILE" in said
    assert "it needs bad, which has failed and lies in FILE" in said
    assert "farm restore build puts it back" in said


def test_why_names_what_a_glob_would_mean_as_well(run: Run, project: Project) -> None:
    drop(project, "tiles/2")
    drop(project, "join", needs=["tiles/*"])
    said = typed(run, "why", "join")

    assert "1 task more that match tiles/* lie in FILE" in said
    assert "farm restore 'tiles/*' puts them back" in said


def test_what_runs_again_gets_back_what_it_needs(run: Run, project: Project) -> None:
    ended(project, "tiles/2", Why.FAILED)
    ended(project, "join", Why.FAILED, needs=["tiles/*", "build"])
    code, out, err = run("retry", "-C", project.root, "join")

    assert (code, out) == (0, "join\n")
    assert err == "restored 2 tasks from archive/ that these need\n"
    for task_id in ("tiles/1", "build"):
        assert Path(project.result_path(task_id)).exists()


def test_what_did_not_succeed_stays_in_the_archive(run: Run, project: Project) -> None:
    ended(project, "join", Why.FAILED, needs=["b*"])
    run("retry", "-C", project.root, "join")

    assert Path(project.task_path("build")).exists()
    assert not Path(project.task_path("bad")).exists()


def test_with_a_damaged_archive_nothing_runs_without_what_it_needs(
    run: Run, project: Project
) -> None:
    ended(project, "join", Why.FAILED, needs=["tiles/*"])
    Path(shelf.archives(project)[0]).write_bytes(b"garbage")
    code, out, err = run("retry", "-C", project.root, "join")

    assert (code, out) == (1, "")
    assert "archive/" in err
    assert Path(project.result_path("join")).exists()


def test_what_needs_nothing_runs_again_beside_a_damaged_archive(
    run: Run, project: Project
) -> None:
    ended(project, "alone", Why.FAILED)
    Path(shelf.archives(project)[0]).write_bytes(b"garbage")

    assert run("retry", "-C", project.root, "alone")[:2] == (0, "alone\n")
