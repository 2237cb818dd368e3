"""`farm show`."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farm.project import Project
from farm.states import Why
from tests.attempts import attempt, drop
from tests.cli.conftest import Run
from tests.driver import Farm
from tests.terminals import Terminal

pytestmark = pytest.mark.processes

STEER = "\x1b[31mred\x1b]0;title\x07\x1b[2J"  # what a task may try on a terminal
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
CALLS = f"""
import sys

def value():
    return {{"loss": 0.25, "steps": [1, 2, 3]}}

def nothing():
    return None

def big():
    return ["x" * 100] * 5_000

def steer():
    print({STEER!r} + "out", flush=True)
    print({STEER!r} + "err", file=sys.stderr, flush=True)
    return {STEER!r}

def bad():
    raise ValueError({STEER!r} + "bad")
"""


def show(farm: Farm, task_id: str) -> str:
    """What is shown of a task."""
    ended = farm.farm("show", task_id)
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    return ended.stdout


def facts(farm: Farm, task_id: str) -> dict[str, Any]:
    """The same as JSON."""
    ended = farm.farm("show", task_id, "--json")
    assert (ended.returncode, ended.stdout.count("\n")) == (0, 1), ended
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def blocks(text: str) -> dict[str, list[str]]:
    """The lines below each heading; those of the first part are under "why"."""
    head, *rest = text.rstrip("\n").split("\n\n")
    parts = [part.splitlines() for part in rest]
    return {"why": head.splitlines()} | {name: lines for name, *lines in parts}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A project in which everything has ended."""
    farm = Farm(tmp_path_factory.mktemp("ended") / "project")
    farm.write("calls.py", CALLS)
    again = "echo try $FARM_ATTEMPT; echo no >&2; test $FARM_ATTEMPT -gt 1"
    retries = {"max": 2, "base_delay": 0.01, "max_delay": 0.01}
    farm.drop("again", retries=retries, timeout="1h", run=again, labels=["x"])
    farm.drop("value", call="calls:value")
    farm.drop("nothing", call="calls:nothing")
    farm.drop("big", call="calls:big")
    farm.drop("steer", call="calls:steer", meta={STEER: STEER})
    farm.drop("bad", call="calls:bad")
    farm.drop("quiet", run="true")
    farm.drop("long", run="seq 1 20000; seq 1 20000 >&2")
    farm.drop("odd-bytes", run=r"printf 'a\377b\n'")
    farm.drop("no-end", run="printf 'one\ntwo'")
    farm.drop_bytes("invalid", b'{"runn": "x"}')
    assert farm.work() == 1, farm.describe()
    yield farm
    farm.end()


# -- what is shown -----------------------------------------------------------------


def test_it_begins_with_what_why_says(ended: Farm) -> None:
    _, *proof = ended.farm("why", "again").stdout.splitlines()
    first, answer, *others = blocks(show(ended, "again"))["why"]

    assert first == "again  succeeded"
    assert answer.startswith("  succeeded ")
    assert others == proof


def test_what_it_does_comes_first_then_the_other_keys(ended: Farm) -> None:
    lines = blocks(show(ended, "again"))["task"]

    assert [line.split()[0] for line in lines] == [
        "run",
        "retries",
        "timeout",
        "labels",
    ]
    assert lines[2].split() == ["timeout", '"1h"']


def test_each_attempt_is_a_line(ended: Farm) -> None:
    lines = blocks(show(ended, "again"))["attempts"]
    worker = ended.result("again")["worker"]

    assert [line.split()[:2] for line in lines] == [["1", "failed"], ["2", "succeeded"]]
    assert all(worker in line for line in lines)
    assert lines[0].endswith("exit code 1: no")


def test_the_value_of_a_call_is_shown_as_json(ended: Farm) -> None:
    assert json.loads(blocks(show(ended, "value"))["value"][0]) == {
        "loss": 0.25,
        "steps": [1, 2, 3],
    }


@pytest.mark.parametrize("raw", ["null", "false", "0", '""', "[]"])
def test_what_is_nearly_nothing_is_a_value_too(
    run: Run, project: Project, raw: str
) -> None:
    drop(project, "a")
    text = f'{{"status": "succeeded", "value": {raw}}}'
    Path(project.result_path("a")).write_text(text)
    _, out, _ = run("show", "-C", project.root, "a")
    _, as_json, _ = run("show", "-C", project.root, "a", "--json")

    assert blocks(out)["value"] == [f"  {raw}"]
    assert json.loads(as_json)["value"] == json.loads(raw)


@pytest.mark.parametrize("task_id", ["quiet", "nothing"])
def test_what_returns_nothing_has_no_value(ended: Farm, task_id: str) -> None:
    assert "value" not in blocks(show(ended, task_id))
    assert facts(ended, task_id)["value"] is None


def test_a_big_value_is_whole(ended: Farm) -> None:
    (line,) = blocks(show(ended, "big"))["value"]

    assert json.loads(line) == ["x" * 100] * 5_000
    assert facts(ended, "big")["value"] == ["x" * 100] * 5_000


def test_the_end_of_short_output_is_all_of_it(ended: Farm) -> None:
    found = blocks(show(ended, "again"))

    assert found["stdout, its end"] == ["  try 2"]
    assert found["stderr, its end"] == ["  no"]


def test_of_long_output_the_last_ten_lines_are_shown(ended: Farm) -> None:
    found = blocks(show(ended, "long"))
    last = [f"  {number}" for number in range(19_991, 20_001)]

    assert found["stdout, its end"] == last
    assert found["stderr, its end"] == last


def test_a_last_line_without_an_end_is_shown(ended: Farm) -> None:
    assert blocks(show(ended, "no-end"))["stdout, its end"] == ["  one", "  two"]


def test_bytes_that_are_no_text_are_marked(ended: Farm) -> None:
    assert blocks(show(ended, "odd-bytes"))["stdout, its end"] == ["  a\ufffdb"]


def test_nothing_written_is_no_block(ended: Farm) -> None:
    assert "its end" not in show(ended, "quiet")


def test_a_file_that_is_no_task_is_shown_as_it_is(ended: Farm) -> None:
    assert blocks(show(ended, "invalid"))["task"] == ['  runn  "x"']


def test_where_a_callable_failed_is_shown(ended: Farm) -> None:
    """The traceback is in the result, and what one looks for."""
    assert "raise ValueError" in show(ended, "bad")


# -- control sequences -------------------------------------------------------------


@pytest.mark.parametrize("task_id", ["steer", "bad"])
def test_what_a_task_said_steers_no_terminal(ended: Farm, task_id: str) -> None:
    text = show(ended, task_id)

    assert CONTROL.findall(text) == []
    assert "red" in text


@pytest.mark.parametrize("task_id", ["steer", "bad"])
def test_on_a_terminal_there_is_bold_and_nothing_else(
    ended: Farm, task_id: str
) -> None:
    terminal = Terminal(ended, 80, "show", task_id)
    code, text = terminal.read_all(), terminal.said.replace("\r\n", "\n")
    unstyled = text.replace("\x1b[1m", "").replace("\x1b[0m", "")

    assert (code, "\x1b[1m" in text) == (0, True)
    assert CONTROL.findall(unstyled) == []


def test_no_word_of_a_result_steers_a_terminal(run: Run, project: Project) -> None:
    """Whoever may write into the folder may write a result."""
    drop(project, "a")
    one = {
        "attempt": 1,
        "why": "failed",
        "counted": True,
        "started": STEER,
        "finished": STEER,
        "worker": STEER,
        "host": STEER,
        "error": {"kind": STEER, "message": STEER},
    }
    told = {
        "status": "failed",
        "attempts": [one, one],
        "worker": STEER,
        "text": STEER,
        "stdout": STEER,
        "error": one["error"],
    }
    Path(project.result_path("a")).write_text(json.dumps(told))
    _, out, _ = run("show", "-C", project.root, "a")

    assert CONTROL.findall(out) == []
    assert "red" in out


# -- as JSON -----------------------------------------------------------------------


def test_as_json_it_has_all_facts(ended: Farm) -> None:
    found = facts(ended, "again")
    result = ended.result("again")

    assert (found["id"], found["state"], found["status"]) == (
        "again",
        "final",
        "succeeded",
    )
    assert found["task"]["timeout"] == "1h"
    assert found["attempts"] == result["attempts"]
    assert (found["stdout"], found["stderr"]) == ("try 2", "no")
    assert found["running"] is None


@pytest.mark.parametrize("task_id", ["nothing", "steer", "invalid", "odd-bytes"])
def test_as_json_it_is_one_object(ended: Farm, task_id: str) -> None:
    assert facts(ended, task_id)["id"] == task_id


def test_as_json_the_value_is_a_value(ended: Farm) -> None:
    assert facts(ended, "value")["value"] == {"loss": 0.25, "steps": [1, 2, 3]}
    assert facts(ended, "nothing")["value"] is None


# -- not ended ---------------------------------------------------------------------


def test_a_task_that_never_ran_has_no_attempts(run: Run, project: Project) -> None:
    drop(project, "a", needs=["b"])
    code, out, _ = run("show", "-C", project.root, "a")

    assert (code, "attempts" in out) == (0, False)
    assert out.splitlines()[0] == "a  waiting"
    assert "it needs b, which is not in tasks/" in out


def test_between_two_attempts_the_first_is_shown(run: Run, project: Project) -> None:
    drop(project, "a", retries={"max": 1, "base_delay": "2d", "max_delay": "2d"})
    attempt(project, "a", Why.FAILED, time.time())
    _, out, _ = run("show", "-C", project.root, "a")

    assert blocks(out)["attempts"][0].split()[:2] == ["1", "failed"]


def test_a_result_is_shown_although_its_task_file_is_gone(
    run: Run, project: Project
) -> None:
    Path(project.result_path("a")).write_text('{"status": "succeeded", "text": "42"}')
    code, out, _ = run("show", "-C", project.root, "a")

    assert code == 0
    assert "its task file is gone" in out
    assert blocks(out)["answer"] == ["  42"]
    assert "task" not in blocks(out)


def test_an_answer_keeps_its_lines(run: Run, project: Project) -> None:
    drop(project, "a")
    told = {"status": "succeeded", "text": "one\ntwo\r\nthree"}
    Path(project.result_path("a")).write_text(json.dumps(told))
    _, out, _ = run("show", "-C", project.root, "a")

    assert blocks(out)["answer"] == ["  one", "  two", "  three"]


def test_who_was_asked_and_what_it_took_is_shown(run: Run, project: Project) -> None:
    drop(project, "a")
    told = {
        "status": "succeeded",
        "text": "42",
        "asked": {"model": "m", "credential": "anthropic-1", "request_id": "req_1"},
        "usage": {"input_tokens": 12, "cost_usd": 0.5},
    }
    Path(project.result_path("a")).write_text(json.dumps(told))
    _, out, _ = run("show", "-C", project.root, "a")

    assert [line.split() for line in blocks(out)["asked"]] == [
        ["model", "m"],
        ["credential", "anthropic-1"],
        ["request", "id", "req_1"],
    ]
    assert [line.split() for line in blocks(out)["usage"]] == [
        ["input", "tokens", "12"],
        ["cost", "usd", "0.5"],
    ]


def test_a_log_that_is_gone_is_no_output(run: Run, project: Project) -> None:
    drop(project, "a")
    one = {
        "attempt": 1,
        "why": "succeeded",
        "counted": False,
        "started": "2026-11-21T03:00:00.000Z",
        "finished": "2026-11-21T03:00:01.000Z",
        "worker": "ada",
        "host": "here",
        "stdout_path": ".farm/logs/a.1.out",
    }
    told = {"status": "succeeded", "attempts": [one]}
    Path(project.result_path("a")).write_text(json.dumps(told))
    code, out, _ = run("show", "-C", project.root, "a")

    assert (code, "its end" in out) == (0, False)


def test_a_result_of_a_newer_farm_is_shown_as_far_as_it_can_be(
    run: Run, project: Project
) -> None:
    drop(project, "a")
    told = {"version": 99, "status": "succeeded", "value": {"x": 1}, "novelty": [1]}
    Path(project.result_path("a")).write_text(json.dumps(told))
    code, out, _ = run("show", "-C", project.root, "a")

    assert code == 0
    assert json.loads(blocks(out)["value"][0]) == {"x": 1}
    assert "version 99" in out


def test_an_unknown_id_is_an_error_with_the_nearest_name(
    run: Run, project: Project
) -> None:
    drop(project, "deploy")
    code, out, err = run("show", "-C", project.root, "depoly")

    assert (code, out) == (1, "")
    assert "did you mean `deploy`?" in err


# -- running -----------------------------------------------------------------------


def test_a_running_command_shows_what_it_printed_so_far(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=f"echo so far; echo oops >&2; {gate.command}")
    farm.start_worker("--name", "ada")
    gate.wait_reached()
    found, told = blocks(show(farm, "a")), facts(farm, "a")

    assert found["stdout, its end"] == ["  so far"]
    assert found["stderr, its end"] == ["  oops"]
    assert found["attempts"][0].split()[:2] == ["1", "running"]
    assert (told["state"], told["stdout"]) == ("running", "so far")
    assert (told["running"]["holder"], told["running"]["attempt"]) == ("ada", 1)


def test_a_running_callable_shows_what_it_printed_so_far(farm: Farm) -> None:
    gate = farm.gate()
    lines = "".join(f"    {line}\n" for line in gate.python.splitlines())
    farm.write("m.py", f"def f():\n    print('so far', flush=True)\n{lines}")
    farm.drop("a", call="m:f")
    farm.start_worker()
    gate.wait_reached()

    assert blocks(show(farm, "a"))["stdout, its end"] == ["  so far"]


def test_how_far_it_is_is_shown(farm: Farm) -> None:
    """`farm status` shows it, and `show` has everything about a task."""
    gate = farm.gate()
    farm.drop("a", run=f"echo 0.61 epoch 3 > $FARM_PROGRESS; {gate.command}")
    farm.start_worker()
    gate.wait_reached()

    assert "61%" in farm.farm("status").stdout
    assert "61%" in show(farm, "a")
