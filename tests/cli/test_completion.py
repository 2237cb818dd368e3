"""`farm completion`: the script, and what a press of the tab key brings."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from farm.cli.verbs import VERBS

Run = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parent.parent.parent
MANY = 5_000


def pressed(where: Path, line: str) -> subprocess.CompletedProcess[str]:
    """Press the tab key at the end of a line, as bash's script asks farm."""
    words = line.split(" ")
    environ = {k: v for k, v in os.environ.items() if not k.startswith("FARM_")}
    return subprocess.run(
        [sys.executable, "-P", "-m", "farm"],
        cwd=where,
        env=environ
        | {
            "PYTHONPATH": str(ROOT),
            "_FARM_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        },
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def offered(where: Path, line: str) -> list[str]:
    """What may stand at the end of the line; nothing may be on stderr."""
    done = pressed(where, line)

    assert (done.returncode, done.stderr) == (0, "")
    return [word.removeprefix("plain,") for word in done.stdout.split()]


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with 5,000 tasks."""
    root = tmp_path_factory.mktemp("there")
    for folder in ("tiles/left", "tiles/right", "lone", ".hidden", "empty"):
        (root / "tasks" / folder).mkdir(parents=True)
    tasks = root / "tasks"
    for number in range(MANY):
        (tasks / f"t{number:04}.json").touch()
    for name in (
        "build.json",
        "build.result.json",
        "bulk.json",
        ".b.json",
        "b.txt",
        "b\nc.json",
        "tiles/left/0.json",
        "tiles/left/1.json",
        "tiles/right/0.json",
        "lone/only.json",
    ):
        (tasks / name).touch()
    return root


# -- verbs and options ---------------------------------------------------------------


def test_verbs_are_completed(there: Path) -> None:
    assert offered(there, "farm un") == ["unlock"]


def test_all_verbs_are_offered(there: Path) -> None:
    assert sorted(offered(there, "farm ")) == sorted(VERBS)


def test_options_are_completed(there: Path) -> None:
    assert offered(there, "farm add --env") == ["--env", "--env-from"]


def test_shells_are_completed(there: Path) -> None:
    assert offered(there, "farm completion ") == ["bash", "zsh", "fish"]


# -- ids -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "ids"),
    [
        ("farm cancel bu", ["build", "bulk"]),
        ("farm cancel b", ["build", "bulk"]),
        ("farm cancel build bul", ["bulk"]),
        ("farm cancel t004", [f"t004{n}" for n in range(10)]),
        ("farm cancel ti", ["tiles/left/", "tiles/right/"]),
        ("farm cancel tiles/l", ["tiles/left/0", "tiles/left/1"]),
        ("farm cancel tiles/left/", ["tiles/left/0", "tiles/left/1"]),
        ("farm cancel lo", ["lone/only"]),
        ("farm cancel em", ["empty/"]),
        ("farm cancel x", []),
        ("farm cancel .", []),
        ("farm cancel missing/", []),
        ("farm retry --failed bu", ["build", "bulk"]),
        ("farm add --needs bu", ["build", "bulk"]),
    ],
)
def test_ids_are_completed(there: Path, line: str, ids: list[str]) -> None:
    assert offered(there, line) == ids


def test_of_very_many_ids_some_are_offered(there: Path) -> None:
    assert len(offered(there, "farm cancel t")) == 500


def test_ids_are_those_of_the_nearest_project(there: Path) -> None:
    (there / ".farm").mkdir(exist_ok=True)
    (there / "deep").mkdir(exist_ok=True)

    assert offered(there / "deep", "farm cancel bui") == ["build"]


@pytest.mark.parametrize(
    "line",
    ["farm -C {} cancel bui", "farm cancel -C {} bui", "farm -C {} add --needs bui"],
)
def test_ids_are_those_of_the_project_that_is_named(
    there: Path, tmp_path: Path, line: str
) -> None:
    assert offered(tmp_path, line.format(there)) == ["build"]


@pytest.mark.parametrize("line", ["farm cancel ", "farm cancel t", "farm -C x cancel "])
def test_where_there_is_no_project_nothing_is_offered(
    tmp_path: Path, line: str
) -> None:
    assert offered(tmp_path, line) == []


def test_where_tasks_is_a_file_nothing_is_offered(tmp_path: Path) -> None:
    (tmp_path / "tasks").touch()
    (tmp_path / "farm.toml").touch()

    assert offered(tmp_path, "farm cancel ") == []


# -- the script ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shell", "wired"),
    [
        ("bash", "complete -o nosort -F _farm_completion farm"),
        ("zsh", "compdef _farm_completion farm"),
        ("fish", "complete --no-files --command farm "),
    ],
)
def test_the_script_is_wired_to_the_name_farm(run: Run, shell: str, wired: str) -> None:
    code, out, _ = run("completion", shell)

    assert code == 0
    assert wired in out
    assert f"_FARM_COMPLETE={shell}_complete" in out


@pytest.mark.parametrize("shell", [[], ["csh"], ["bash", "zsh"]], ids=str)
def test_no_shell_or_an_unknown_one_is_wrong_usage(run: Run, shell: list[str]) -> None:
    code, out, _ = run("completion", *shell)

    assert (code, out) == (2, "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("farm un", "unlock"),
        ("farm cancel bu", "build bulk"),
        ("farm cancel lo", "lone/only"),
    ],
)
def test_bash_completes_with_the_script(
    run: Run, there: Path, tmp_path: Path, line: str, reply: str
) -> None:
    script = tmp_path / "farm.bash"
    script.write_text(run("completion", "bash")[1])
    farm = tmp_path / "farm"
    farm.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m farm "$@"\n')
    farm.chmod(0o755)
    typed = " ".join(f"'{word}'" for word in line.split(" "))
    count = len(line.split(" ")) - 1
    press = f"COMP_WORDS=({typed}); COMP_CWORD={count}; _farm_completion farm"
    text = f'source "$1"; {press}; echo "${{COMPREPLY[*]}}"'
    done = subprocess.run(
        ["bash", "--norc", "-c", text, "bash", str(script)],
        cwd=there,
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )

    assert done.stdout == f"{reply}\n"
