"""The command line: which project is meant, exit codes, what goes where."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from farm import cli
from farm.cli import Order, plain_order, verbs
from tests.cli.conftest import Run


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A project with one task."""
    root = tmp_path / "there"
    (root / "tasks").mkdir(parents=True)
    (root / "tasks" / "a.json").write_text('{"run": "true"}')
    return root


def status(run: Run, *args: str | Path) -> dict[str, Any]:
    code, out, _ = run("status", *args, "--json")
    assert code == 0
    found: dict[str, Any] = json.loads(out)
    return found


def test_a_project_may_be_named_after_the_verb(run: Run, there: Path) -> None:
    assert status(run, there)["project"] == str(there)


def test_a_project_may_be_named_before_the_verb(run: Run, there: Path) -> None:
    code, out, _ = run("-C", there, "status", "--json")

    assert (code, json.loads(out)["total"]) == (0, 1)


@pytest.mark.parametrize("verb", ["status", "supervise", "worker"])
def test_naming_it_twice_is_wrong_usage(run: Run, there: Path, verb: str) -> None:
    code, _, err = run("-C", there, verb, there)

    assert (code, "named twice" in err) == (2, True)


def test_naming_it_before_and_after_check_is_wrong_usage(run: Run, there: Path) -> None:
    code, _, err = run("-C", there, "check", "-C", there)

    assert (code, "named twice" in err) == (2, True)


@pytest.mark.parametrize("sign", [".farm", "farm.toml"])
def test_the_nearest_project_upwards_is_the_default(
    run: Run, there: Path, sign: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = there / "a" / "b"
    deep.mkdir(parents=True)
    if sign == ".farm":
        (there / sign).mkdir()
    else:
        (there / sign).touch()
    monkeypatch.chdir(deep)

    assert status(run)["project"] == str(there)


def test_a_folder_with_tasks_is_a_project_for_those_who_stand_in_it(
    run: Run, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(there)

    assert status(run)["project"] == str(there)


def test_no_project_is_wrong_usage_and_says_what_to_do(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run("status")

    assert (code, "farm supervise PROJECT" in err) == (2, True)


def test_a_missing_folder_is_wrong_usage(run: Run, tmp_path: Path) -> None:
    code, _, err = run("supervise", tmp_path / "typo")

    assert (code, "there is no folder" in err) == (2, True)


def test_an_unknown_verb_is_wrong_usage(run: Run) -> None:
    assert run("supervice")[0] == 2


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]], ids=str)
def test_farm_alone_is_its_help_on_stdout(run: Run, words: list[str]) -> None:
    code, out, err = run(*words)

    assert (code, err) == (0, "")
    assert out.startswith("Usage: farm [OPTIONS] COMMAND [ARGS]...\n\n")
    assert len(out.splitlines()) > len(verbs.VERBS)


@pytest.mark.parametrize(
    ("word", "verb"),
    [
        ("ls", "status"),
        ("list", "status"),
        ("ps", "status"),
        ("kill", "cancel"),
        ("rm", "cancel"),
        ("tail", "logs"),
        ("run", "supervise` or `add"),
        ("start", "supervise"),
        ("version", "--version"),
        ("hlp", "help"),
        ("stat", "status"),
        ("supervice", "supervise"),
    ],
)
def test_a_word_that_is_no_verb_is_answered_with_one_that_is(
    run: Run, word: str, verb: str
) -> None:
    code, out, err = run(word, "x")
    said = f"farm: there is no command `{word}`, did you mean `{verb}`? (farm --help)\n"

    assert (code, out, err) == (2, "", said)


def test_a_word_that_is_near_nothing_is_only_refused(run: Run) -> None:
    assert run("xyzzy")[2] == "farm: there is no command `xyzzy` (farm --help)\n"


def test_synonyms_lead_to_verbs_and_none_of_them_is_one() -> None:
    led = {v for verb in verbs.SYNONYMS.values() for v in verb.split("` or `")}

    assert led - {"--version"} <= set(verbs.VERBS)
    assert not set(verbs.SYNONYMS) & set(verbs.VERBS)


def test_status_writes_nothing(run: Run, there: Path) -> None:
    run("status", there)

    assert [path.name for path in there.iterdir()] == ["tasks"]


def test_status_of_an_empty_project_says_what_to_drop_where(
    run: Run, there: Path
) -> None:
    (there / "tasks" / "a.json").unlink()
    _, out, _ = run("status", there)

    assert f"drop a task file into {there}/tasks" in out


def test_check_says_nothing_is_wrong_on_stderr(run: Run, there: Path) -> None:
    code, out, err = run("check", "-C", there)

    assert (code, out, "nothing wrong" in err) == (0, "", True)


def test_check_names_file_line_and_column(run: Run, there: Path) -> None:
    (there / "tasks" / "b.json").write_text('{\n  "runn": "true"\n}')
    code, out, _ = run("check", "-C", there)

    assert (code, out.startswith("tasks/b.json:2:3: ")) == (1, True)


def test_check_looks_only_at_the_files_it_is_given(run: Run, there: Path) -> None:
    (there / "tasks" / "b.json").write_text("{")
    code, _, _ = run("check", "-C", there, there / "tasks" / "a.json")

    assert code == 0


def test_check_of_a_file_that_is_no_task_is_wrong_usage(run: Run, there: Path) -> None:
    code, _, err = run("check", "-C", there, there / "other.json")

    assert (code, "is no task file" in err) == (2, True)


def test_check_finds_circles(run: Run, there: Path) -> None:
    (there / "tasks" / "b.json").write_text('{"run": "true", "needs": ["c"]}')
    (there / "tasks" / "c.json").write_text('{"run": "true", "needs": ["b"]}')
    code, out, _ = run("check", "-C", there)

    assert code == 1
    assert [line.split(":")[0] for line in out.splitlines()] == [
        "tasks/b.json",
        "tasks/c.json",
    ]
    assert "b, c" in out


def test_a_task_that_matches_its_own_glob_is_no_circle(run: Run, there: Path) -> None:
    (there / "tasks" / "b.json").write_text('{"run": "true", "needs": ["*"]}')

    assert run("check", "-C", there)[0] == 0


def test_a_tasks_folder_that_everybody_can_write_is_refused(
    run: Run, there: Path
) -> None:
    (there / "tasks").chmod(0o777)
    code, _, err = run("worker", there, "--until-done")

    assert (code, "chmod o-w" in err) == (2, True)


def test_a_wrong_setting_is_refused_with_its_line(run: Run, there: Path) -> None:
    (there / "farm.toml").write_text("# mine\nworkerz = 3\n")
    code, _, err = run("worker", there, "--until-done")

    assert code == 2
    assert "farm.toml:2" in err
    assert "workers" in err


# -- how it ends -----------------------------------------------------------------------


class Raises:
    """A survey that cannot be made."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self, *_: object, **_named: object) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/p/x"),
            "farm: /p/x: No space left on device: make room, and try again",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "/p/x"),
            "farm: /p/x: Read-only file system: mount it read-write, and try again",
        ),
        (
            OSError(errno.EACCES, "Permission denied", "/p/x"),
            "farm: /p/x: Permission denied: give yourself the right to, and try again",
        ),
        (
            OSError(errno.EIO, "Input/output error"),
            (
                "farm: the system does not let farm go on: Input/output error:"
                " set that right, and try again"
            ),
        ),
        (
            OSError("odd"),
            "farm: the system does not let farm go on: odd: set that right, and try again",
        ),
        (
            OSError(errno.EIO, "Input/output error", "/p/\x1b[31mx\n"),
            "farm: /p/x : Input/output error: set that right, and try again",
        ),
    ],
    ids=["full", "read-only", "forbidden", "no file named", "bare", "steers"],
)
def test_a_disk_that_fails_is_a_sentence(
    run: Run,
    there: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: OSError,
    said: str,
) -> None:
    monkeypatch.setattr("farm.cli.status.Survey", Raises(error))
    code, out, err = run("status", there)

    assert (code, out, err) == (1, "", f"{said}\n")


def test_a_machine_without_memory_is_no_bug(
    run: Run, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farm.cli.status.Survey", Raises(MemoryError()))
    code, out, err = run("status", there)

    assert (code, out) == (1, "")
    assert err.startswith("farm: the machine has no memory left")


@pytest.mark.parametrize("error", [RuntimeError("odd"), KeyError("odd"), OverflowError])
def test_a_bug_is_a_traceback_and_ends_with_70(
    run: Run, there: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr("farm.cli.status.Survey", Raises(error))
    code, out, err = run("status", there)

    assert (code, out) == (cli.BUG, "")
    assert err.startswith("Traceback")
    assert "in __call__" in err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), EOFError(), click.Abort()])
def test_an_interruption_is_said_and_ends_with_130(
    run: Run, there: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr("farm.cli.status.Survey", Raises(error))
    code, out, err = run("status", there)

    assert (code, out, err.strip()) == (130, "", "farm: interrupted")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["status", "--statsu"], "farm status"),
        (["status", "--status", "no"], "farm status"),
        (["status", "a", "b"], "farm status"),
        (["supervise", "-j", "0"], "farm supervise"),
        (["show"], "farm show"),
        (["--jsno"], "farm"),
        (["supervice"], "farm"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_sentence_that_names_the_help(
    run: Run, words: list[str], named: str
) -> None:
    code, out, err = run(*words)

    assert (code, out) == (2, "")
    assert err.startswith("farm: ")
    assert err.endswith(f"({named} --help)\n")


def test_a_reader_that_goes_ends_it_quietly(there: Path) -> None:
    for number in range(3000):  # more than a pipe holds
        (there / "tasks" / f"{'x' * 60}{number}.json").write_text("{}")
    script = '"$0" -P -m farm status --status waiting "$1" | head -1'
    done = subprocess.run(
        ["sh", "-c", script, sys.executable, str(there)],
        cwd=Path(__file__).parent.parent.parent,
        env=os.environ | {"PYTHONPATH": "."},
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )

    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


# -- a plain worker ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "order"),
    [
        ("", Order()),
        ("--until-done", Order(until_done=True)),
        ("--supervisor 12", Order(supervisor=12)),
        ("--supervisor 12 --until-done", Order(supervisor=12, until_done=True)),
        ("--until-done --supervisor 12", Order(supervisor=12, until_done=True)),
    ],
)
def test_the_order_of_a_plain_worker_is_read_without_click(
    there: Path, words: str, order: Order
) -> None:
    found = plain_order(["worker", str(there), *words.split()])

    assert found == (str(there), order)


@pytest.mark.parametrize(
    "words",
    [
        "worker",
        "worker --help",
        "worker {there}/tasks",
        "worker {there}/nothing",
        "worker {there} --name ada",
        "worker {there} --until-don",
        "worker {there} --supervisor",
        "worker {there} --supervisor=12",
        "worker {there} --supervisor me",
        "worker {there} {there}",
        "worker --until-done {there}",
        "-C {there} worker",
        "workers {there}",
        "",
    ],
)
def test_whatever_else_is_said_click_reads_it(there: Path, words: str) -> None:
    assert plain_order(words.format(there=there).split()) is None


def test_a_project_whose_name_looks_like_an_option_is_left_to_click(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "--help" / "tasks").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    assert plain_order(["worker", "--help"]) is None


@pytest.mark.parametrize("words", [["worker", "there"], ["-C", "there", "worker"]])
def test_a_worker_says_what_is_wrong_in_the_same_words_however_it_was_told(
    run: Run, there: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    (there / "farm.toml").write_text("workers = 0")
    monkeypatch.chdir(there.parent)
    code, out, err = run(*words, "--until-done")

    assert (code, out) == (2, "")
    assert err.endswith("`workers` must be a whole number of at least 1, not 0\n")


# -- the help --------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [40, 60, 200])
@pytest.mark.parametrize("verb", ["", *verbs.VERBS])
def test_the_help_keeps_to_the_terminal_except_in_the_example(
    run: Run, monkeypatch: pytest.MonkeyPatch, verb: str, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    code, out, _ = run(*([verb] if verb else []), "--help")
    words, _, block = out.partition("\n  Example:\n")

    assert (code, bool(block)) == (0, True)
    assert max(map(len, words.splitlines())) <= min(columns, 88)
