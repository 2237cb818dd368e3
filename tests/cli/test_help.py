"""`farm help`: the topics, what is no topic, and what a terminal gets."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from farm.cli import verbs
from farm.cli.help import TOPICS, WIDEST, page

Run = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parent.parent.parent
STYLE = re.compile(r"\x1b\[[0-9;]*m|\x1b\]8;[^\x1b]*\x1b\\")


def on_a_terminal(columns: int, *args: str, **environ: str) -> str:
    """What `farm help` writes to a terminal of this width."""
    master, slave = pty.openpty()
    try:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "farm", "help", *args],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),
                "TERM": "xterm-256color",
                "COLUMNS": str(columns),
                **environ,
            },
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        said = b"".join(iter(lambda: _read(master), b""))
        assert child.wait(timeout=30) == 0
        return said.decode().replace("\r\n", "\n")
    finally:
        os.close(master)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:
        return b""  # the last writer closed its end


def test_without_a_topic_each_is_listed_with_its_first_sentence(run: Run) -> None:
    code, out, err = run("help")
    lines = out.splitlines()

    assert (code, err) == (0, "")
    assert [line.split("`")[1] for line in lines[: len(TOPICS)]] == list(TOPICS)
    assert lines[0] == "- `tasks`: What a task file can say, and how to drop one."
    assert "`farm help TOPIC`" in lines[-1]


@pytest.mark.parametrize("topic", TOPICS)
def test_the_first_sentence_of_a_topic_fits_on_a_line(run: Run, topic: str) -> None:
    _, out, _ = run("help")
    line = next(line for line in out.splitlines() if f"`{topic}`" in line)

    assert len(line) <= WIDEST
    assert re.fullmatch(r"- `\w+`: [A-Z].*\.", line)


@pytest.mark.parametrize("topic", TOPICS)
def test_a_pipe_gets_the_markdown_as_it_is(run: Run, topic: str) -> None:
    code, out, _ = run("help", topic)

    assert (code, out) == (0, page(topic))


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_has_a_heading_of_its_name(topic: str) -> None:
    assert page(topic).startswith(f"# {topic.capitalize()}\n\n")


def test_the_name_of_a_command_shows_its_help(run: Run) -> None:
    _, asked, _ = run("status", "--help")
    code, out, _ = run("help", "status")

    assert (code, out) == (0, asked)
    assert out.startswith("Usage: farm status ")


@pytest.mark.parametrize(
    ("word", "hint"),
    [("task", "`tasks`"), ("statsu", "`status`"), ("xyz", "topics are tasks, results")],
)
def test_an_unknown_topic_is_wrong_usage_with_a_hint(
    run: Run, word: str, hint: str
) -> None:
    code, out, err = run("help", word)

    assert (code, out) == (2, "")
    assert f"no topic and no command {word}" in err
    assert hint in err


def test_help_needs_no_project(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert run("help", "tasks")[0] == 0


@pytest.mark.parametrize(
    ("typed", "offered"), [("ta", ["tasks"]), ("st", ["status"]), ("zz", [])]
)
def test_topics_and_commands_complete(typed: str, offered: list[str]) -> None:
    shell = ShellComplete(verbs.main, {}, "farm", "_FARM_COMPLETE")
    found = shell.get_completions(["help"], typed)

    assert [item.value for item in found] == offered


@pytest.mark.processes
@pytest.mark.parametrize("columns", [40, 200])
@pytest.mark.parametrize("topic", [*TOPICS, ""])
def test_no_line_is_wider_than_the_terminal_and_none_too_wide_to_read(
    topic: str, columns: int
) -> None:
    said = on_a_terminal(columns, *topic.split())
    lines = STYLE.sub("", said).splitlines()

    assert "\x1b[" in said
    assert max(map(len, lines)) <= min(columns, WIDEST)


@pytest.mark.processes
def test_on_a_terminal_markdown_is_rendered() -> None:
    said = on_a_terminal(80, "control")

    assert "```" not in said
    assert "|---|" not in said


@pytest.mark.processes
def test_no_color_means_no_escape_codes() -> None:
    said = on_a_terminal(80, "tasks", NO_COLOR="1")

    assert "\x1b" not in said
    assert "```" not in said


@pytest.mark.processes
def test_a_narrow_terminal_cuts_nothing_out_of_a_table() -> None:
    said = on_a_terminal(40, "settings", NO_COLOR="1")

    assert "…" not in said
    assert "FARM_HEARTBEAT_TIMEOUT" in said
