"""stdout and stderr that are full, closed, left by their reader, or poor in letters."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.driver import Farm

pytestmark = pytest.mark.processes

FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
SAYS = [  # what has something for stdout, in a project with a task that has not run
    [],
    ["--version"],
    ["--help"],
    ["help", "tasks"],
    ["completion", "bash"],
    ["schema"],
    ["status"],
    ["status", "--json"],
    ["status", "--status", "ready"],
    ["show", "a"],
    ["why", "a"],
    ["unlock", "a"],
    ["doctor"],
    ["add", "--", "true"],
    ["init", "."],
    ["keys", "--json"],
    ["worker", ".", "--until-done"],
    ["worker", ".", "--until-done", "--name", "ada"],
    ["supervise", "-j1", "--until-done"],
]
SILENT = [["check"], ["pause"], ["resume"], ["workers"], ["scale", "2"], ["drain"]]

Done = subprocess.CompletedProcess[str]
Sh = Callable[..., Done]


@pytest.fixture
def there(farm: Farm) -> Farm:
    """A project with a task that will print something."""
    farm.drop("a", run="echo out; echo err >&2")
    return farm


@pytest.fixture
def sh(there: Farm) -> Sh:
    """Run a verb in a shell that redirects it as the test says."""
    typed = [sys.executable, "-P", "-m", "farm"]

    def ran(words: list[str], redirections: str, **environ: str) -> Done:
        return subprocess.run(
            ["sh", "-c", f'"$@" {redirections}', "sh", *typed, *words],
            cwd=there.root,
            env=there.environ | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    return ran


@pytest.mark.parametrize(
    ("redirection", "cause"),
    [
        pytest.param(">/dev/full", "No space left on device", marks=FULL, id="full"),
        pytest.param(">&-", "it is closed", id="closed"),
    ],
)
@pytest.mark.parametrize("words", SAYS, ids=" ".join)
def test_a_stdout_that_takes_nothing_is_named(
    sh: Sh, words: list[str], redirection: str, cause: str
) -> None:
    done = sh(words, redirection)
    last = done.stderr.splitlines()[-1]

    assert done.returncode == 1
    assert (
        last == f"farm: cannot write to stdout: {cause}: not all of the output is there"
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("redirection", [pytest.param(">/dev/full", marks=FULL), ">&-"])
@pytest.mark.parametrize("words", SILENT, ids=" ".join)
def test_who_has_nothing_for_stdout_needs_none(
    sh: Sh, words: list[str], redirection: str
) -> None:
    usual, done = sh(words, ""), sh(words, redirection)

    assert (done.returncode, done.stderr) == (usual.returncode, usual.stderr)


@FULL
def test_logs_that_find_no_room_name_stdout(sh: Sh, there: Farm) -> None:
    there.work()
    done = sh(["logs", "a"], ">/dev/full")

    assert (done.returncode, "write to stdout: No space" in done.stderr) == (1, True)


@pytest.mark.parametrize("words", [["status"], ["status", "--json"], ["show", "a"], []])
def test_a_reader_that_is_gone_ends_a_verb_quietly(
    there: Farm, words: list[str]
) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "farm", *words],
        cwd=there.root,
        env=there.environ,
        stdout=writes,
        stderr=subprocess.PIPE,
        timeout=50,
        check=False,
    )
    os.close(writes)

    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize(
    "redirections", [pytest.param("2>/dev/full", marks=FULL), "2>&-", "2>&- <&-"]
)
@pytest.mark.parametrize("words", [["status"], ["supervise", "-j1", "--until-done"]])
def test_a_stderr_that_takes_nothing_changes_no_exit_code(
    sh: Sh, words: list[str], redirections: str
) -> None:
    done = sh(words, redirections)

    assert (done.returncode, bool(done.stdout)) == (0, True)


def test_tasks_run_as_ever_with_every_stream_closed(sh: Sh, there: Farm) -> None:
    done = sh(["supervise", "-j1", "--until-done"], "<&- >&- 2>&-")
    told = there.result("a")

    assert done.returncode == 1  # its summary has no place
    assert (told["stdout"], told["stderr"]) == ("out\n", "err\n")


def test_a_callable_may_print_although_the_worker_has_no_stdout(
    sh: Sh, there: Farm
) -> None:
    there.drop("b", call="builtins:print", args=["x"])
    sh(["worker", ".", "--until-done"], ">&- 2>&-")

    assert there.result("b")["stdout"] == "x\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["status"], 0),
        (["status", "--status", "waiting"], 0),
        (["show", "tür-✓"], 0),
        (["why", "tür-✓"], 0),
        (["cancel", "✓"], 1),
        (["add", "--name", "neu-✓", "--", "true"], 0),
        (["worker", ".", "--until-done"], 1),
        (["supervise", "-j1", "--until-done"], 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_letter_that_the_terminal_does_not_have_is_no_bug(
    sh: Sh, there: Farm, words: list[str], code: int, encoding: str
) -> None:
    there.drop("tür-✓", run="exit 3", needs=["b-✓"])
    there.drop("b-✓", run="exit 3")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "farm", *words],
        cwd=there.root,
        env=there.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=50,
        check=False,
    )

    assert done.returncode == code
    assert b"Traceback" not in done.stderr


def test_a_letter_that_stdout_does_not_have_is_written_as_its_number(
    sh: Sh, there: Farm
) -> None:
    there.drop("✓", run="true")
    done = sh(["status", "--status", "ready"], "", PYTHONIOENCODING="latin-1")

    assert "\\u2713  ready" in done.stdout
