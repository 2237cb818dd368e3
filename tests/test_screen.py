"""What a supervisor shows: the block's lines, the plain lines, the summary."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from farm.cli.screen import MOST_ROWS, Counts, block, ended_lines, headline, sentence
from farm.crew import Running
from farm.estimate import ENOUGH, Pace
from farm.journal import Entry
from farm.report import Report
from farm.states import State, Status, Why
from farm.words import duration, plain
from tests.driver import Farm

ESCAPE = re.compile(rb"\x1b")


def report(rows: int = 0, **counts: int) -> Report:
    """A report with these counts and so many running tasks with long names."""
    every = dict.fromkeys([State.READY, State.RUNNING, State.WAITING, *Status], 0)
    every |= counts
    runs = [
        Running(f"experiments/{'x' * 90}/{i}", "w", 2, "", 3725.0, 0.61, "epoch 3")
        for i in range(rows)
    ]
    return Report(
        project="/p",
        at="",
        total=sum(every.values()),
        counts={str(word): count for word, count in every.items()},
        running=runs,
        failures=[],
        waiting=[],
        workers=[],
        supervisors=[],
        unusable={},
    )


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_of_the_block_is_wider_than_the_terminal(width: int) -> None:
    lines = block(report(12, running=12, ready=100_000, failed=3), "3/s", width)

    assert max(map(len, lines)) <= width


def test_at_most_eight_running_rows_are_shown_and_the_rest_counted() -> None:
    lines = block(report(11, running=11), "", 80)

    assert sum("experiments/" in line for line in lines) == MOST_ROWS
    assert lines[-1] == "  and 3 more running"


def test_the_headline_counts_each_way_of_ending() -> None:
    line = headline(report(succeeded=5, failed=1, timed_out=2, ready=3))

    assert line == "5 of 11 done, 3 ready, 1 failed, 2 timed out"


def test_the_headline_says_how_many_that_are_ready_may_wait() -> None:
    seen = replace(report(succeeded=5, ready=30_000, failed=1), unread=29_000)

    assert (
        headline(seen)
        == "5 of 30006 done, 30000 ready (29000 not looked into), 1 failed"
    )


def test_an_empty_project_says_where_to_drop() -> None:
    assert block(report(), "", 80)[-1] == "waiting for task files in /p/tasks"


def test_without_a_pace_nothing_is_said_of_it() -> None:
    assert sentence(report(ready=10), Pace()) == ""


@pytest.mark.parametrize(
    ("pace", "said"),
    [
        (Pace(2.0, 0.1), "2/s, ~5 s left"),
        (Pace(569.3, 0.1), "569/s, ~1 s left"),
        (Pace(0.4, 0.1), "24/min, ~25 s left"),
    ],
)
def test_the_rate_and_the_time_left_are_rounded(pace: Pace, said: str) -> None:
    assert sentence(report(ready=10), pace) == said


def test_when_all_is_over_no_rate_is_said() -> None:
    assert sentence(report(succeeded=10), Pace(2.0, 1.0)) == ""


def test_what_was_counted_since_the_last_look_is_the_pace() -> None:
    counts = Counts()
    counts.add(0.0, 0)
    counts.add(10.0, 20)

    assert counts.pace(Pace(7.0, 0.5)) == Pace(2.0, 0.5)


def test_before_enough_were_counted_the_pace_is_as_it_was_told() -> None:
    counts = Counts()
    counts.add(0.0, 0)
    counts.add(2.0, ENOUGH - 1)

    assert counts.pace(Pace(7.0, 0.5)) == Pace(7.0, 0.5)


def test_the_rate_forgets_what_is_over_half_a_minute_old() -> None:
    counts = Counts()
    counts.add(0.0, 0)
    counts.add(100.0, 1000)
    counts.add(110.0, 1000)

    assert counts.pace(Pace()) == Pace()


def test_many_successes_at_once_are_counted_and_failures_still_named() -> None:
    good = [
        Entry(f"t{i}", 0.0, "w", Why.SUCCEEDED, Status.SUCCEEDED) for i in range(30)
    ]
    bad = Entry("bad", 0.0, "w", Why.FAILED, Status.FAILED, message="exit code 3")

    assert ended_lines([*good, bad]) == [
        "30 tasks succeeded",
        "bad failed: exit code 3",
    ]


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("a\x1bcb", "ab"),
        ("bell\x07", "bell"),
        ("two\nlines", "two lines"),
        ("8-bit \x9b31m", "8-bit 31m"),
    ],
)
def test_what_could_steer_a_terminal_is_taken_out(dirty: str, clean: str) -> None:
    assert plain(dirty) == clean


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0312, "31.2 ms"), (42.4, "42.4 s"), (192, "3 min 12 s"), (7500, "2 h 5 min")],
)
def test_durations_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def on_a_terminal(farm: Farm, columns: int, **environ: str) -> bytes:
    """What `supervise --until-done` writes to a terminal of this width."""
    master, slave = pty.openpty()
    try:
        child = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "farm",
                "supervise",
                str(farm.root),
                "--until-done",
            ],
            env=farm.environ | {"TERM": "xterm", "COLUMNS": str(columns)} | environ,
            cwd=farm.root,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        farm.processes.append(child)
        os.close(slave)
        said = b""
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:
                break  # the last writer closed its end
            if not part:
                break
            said += part
        child.wait(timeout=30)
        return said
    finally:
        os.close(master)


@pytest.mark.processes
@pytest.mark.parametrize("columns", [40, 120])
def test_a_terminal_shows_a_block_that_fits_and_failures_at_once(
    farm: Farm, columns: int
) -> None:
    farm.drop("bad", run="echo why >&2; exit 3")
    farm.drop("slow", run="sleep 1.2")
    said = on_a_terminal(farm, columns)
    text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", said).decode()

    assert "bad failed: exit code 3: why" in text.replace("\r\n", " ").replace(
        "  ", " "
    )
    assert "━" in text
    assert max(len(line) for line in re.split(r"[\r\n]+", text)) <= columns


@pytest.mark.processes
def test_without_a_terminal_there_are_no_escape_codes(
    farm: Farm, tmp_path: Path
) -> None:
    farm.drop("bad", run="printf '\\033[31mred\\033[0m' >&2; exit 3")
    done = farm.farm("supervise", str(farm.root), "--until-done")

    assert done.returncode == 1
    assert not ESCAPE.search((done.stdout + done.stderr).encode())
    assert "bad failed: exit code 3: red" in done.stdout


@pytest.mark.processes
def test_no_color_means_no_colour_on_a_terminal_either(farm: Farm) -> None:
    farm.drop("bad", run="exit 3")
    said = on_a_terminal(farm, 80, NO_COLOR="1")

    assert not re.search(rb"\x1b\[[0-9;]*m", said)
