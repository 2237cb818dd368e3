"""`farm check --json`; what it says to people is in test_cli.py."""

import json
from pathlib import Path
from typing import Any

import pytest

from farm.project import Project
from tests.cli.conftest import Run


def drop(project: Project, task_id: str, text: str) -> Path:
    path = Path(project.task_path(task_id))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def check(run: Run, project: Project, *args: str | Path) -> list[dict[str, Any]]:
    """Every fault, as JSON."""
    code, out, _ = run("check", "-C", project.root, "--json", *args)
    found: list[dict[str, Any]] = json.loads(out)
    assert code == (1 if found else 0)
    return found


def test_nothing_wrong_is_an_empty_list(run: Run, project: Project) -> None:
    drop(project, "a", '{"run": "true"}')

    assert check(run, project) == []


def test_no_task_at_all_is_an_empty_list(run: Run, project: Project) -> None:
    assert check(run, project) == []


def test_a_fault_has_its_file_its_place_and_its_message(
    run: Run, project: Project
) -> None:
    drop(project, "sub/b", '{\n  "runn": "true"\n}')
    (fault,) = check(run, project)

    assert (fault["file"], fault["line"], fault["column"]) == ("tasks/sub/b.json", 2, 3)
    assert "did you mean `run`" in fault["message"]
    assert set(fault) == {"file", "line", "column", "message", "sentence"}


def test_the_sentence_is_the_line_that_people_read(run: Run, project: Project) -> None:
    drop(project, "b", '{\n  "runn": "true"\n}')
    (fault,) = check(run, project)
    _, out, _ = run("check", "-C", project.root)

    assert out == f"{fault['sentence']}\n"
    assert fault["sentence"] == f"tasks/b.json:2:3: {fault['message']}"


def test_a_fault_without_a_place_has_line_and_column_0(
    run: Run, project: Project
) -> None:
    drop(project, "b", '{"run": "true", "needs": ["c"]}')
    drop(project, "c", '{"run": "true", "needs": ["b"]}')
    found = check(run, project)

    assert [(f["file"], f["line"], f["column"]) for f in found] == [
        ("tasks/b.json", 0, 0),
        ("tasks/c.json", 0, 0),
    ]


def test_names_that_can_never_be_tasks_are_faults(run: Run, project: Project) -> None:
    (Path(project.tasks) / "a\x1b[31mb.json").write_text("{}")
    (fault,) = check(run, project)

    assert (fault["file"], fault["line"]) == ("tasks/a\x1b[31mb.json", 0)


def test_all_files_are_told_in_order(run: Run, project: Project) -> None:
    for name in ("c", "a", "b"):
        drop(project, name, "{")
    drop(project, "good", '{"run": "true"}')

    assert [fault["file"] for fault in check(run, project)] == [
        "tasks/a.json",
        "tasks/b.json",
        "tasks/c.json",
    ]


def test_only_the_files_that_are_named_are_told(run: Run, project: Project) -> None:
    named = drop(project, "a", "{")
    drop(project, "b", "{")

    assert [fault["file"] for fault in check(run, project, named)] == ["tasks/a.json"]


@pytest.mark.parametrize("text", ["{", '{"run": "true"}'])
def test_stdout_holds_nothing_but_one_line_of_json(
    run: Run, project: Project, text: str
) -> None:
    drop(project, "a", text)
    _, out, _ = run("check", "-C", project.root, "--json")

    assert out.count("\n") == 1
    assert isinstance(json.loads(out), list)


def test_it_writes_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "a.json").write_text("{")
    run("check", "-C", tmp_path, "--json")

    assert [path.name for path in tmp_path.rglob("*")] == ["tasks", "a.json"]


def test_a_prompt_that_nobody_answers_is_a_fault_at_its_place(
    run: Run, project: Project
) -> None:
    Path(project.settings).write_text('[agents.ask]\nkind = "messages"\n')
    drop(project, "a", '{"prompt": "Hello?", "agent": "ask"}')
    drop(project, "b", '{"prompt": "Hello?",\n "agent": "asl"}')
    (fault,) = check(run, project)

    assert (fault["file"], fault["line"], fault["column"]) == ("tasks/b.json", 2, 11)
    assert fault["message"] == 'farm.toml has no agent "asl", did you mean `ask`?'
