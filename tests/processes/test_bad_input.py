"""Bad input of every kind, at once and beside good tasks.

Each bad file gets a result that says what, where and what to do; nothing else is
disturbed by it.
"""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.driver import Farm
from tests.sockets import make_socket
from tests.waiting import wait_until

pytestmark = pytest.mark.processes


class Bad(NamedTuple):
    """A bad file: its bytes or how to make it, and what is said of it."""

    make: bytes | Callable[[Path], object]
    word: str
    placed: bool = True  #: line and column are said


def task(**keys: object) -> bytes:
    """A task file of one key a line, so that a line number tells the key."""
    return json.dumps({"labels": ["bad"], **keys}, indent=1).encode()


def big(path: Path) -> None:
    """A file of one byte more than 50 MB, without writing them."""
    path.touch()
    os.truncate(path, 50 * 2**20 + 1)


def link_outside(path: Path) -> None:
    """A symbolic link to a good task outside the project."""
    outside = path.parent.parent.parent / "outside.json"
    outside.write_bytes(task(run="true"))
    path.symlink_to(outside)


BAD = {
    "empty": Bad(b"", "JSON", placed=False),
    "torn": Bad(b'{\n "run": "tr', "ends in the middle"),
    "comma": Bad(b'{\n "run": "true",\n}', "JSON"),
    "list": Bad(b'["true"]', "object", placed=False),
    "number": Bad(b"7", "object", placed=False),
    "two-kinds": Bad(task(run="true", call="a:b"), "call"),
    "no-kind": Bad(task(priority=1), "run", placed=False),
    "unknown-key": Bad(task(run="true", retrys=2), "retries"),
    "key-twice": Bad(b'{\n "run": "true",\n "run": "false"}', "run"),
    "wrong-type": Bad(task(run="true", priority="high"), "priority"),
    "timeout": Bad(task(run="true", timeout=-1), "timeout"),
    "duration": Bad(task(run="true", timeout="1 fortnight"), "timeout"),
    "naive-time": Bad(task(run="true", not_before="2026-11-21T03:00:00"), "offset"),
    "empty-command": Bad(task(run=""), "run"),
    "empty-list": Bad(task(run=[]), "run"),
    "nul": Bad(task(run="echo a\0b"), "NUL"),
    "nul-in-a-list": Bad(task(run=["echo", "a\0b"]), "NUL"),
    "cwd-above": Bad(task(run="true", cwd="../elsewhere"), "cwd"),
    "cwd-absolute": Bad(task(run="true", cwd="/"), "cwd"),
    "no-function": Bad(task(call="module"), "call"),
    "not-utf-8": Bad(b'{\n "run": "\xff"}', "UTF-8"),
    "nested": Bad(b'{"meta": ' + b"[" * 100_000, "deep", placed=False),
    "too-big": Bad(big, "50 MB", placed=False),
    "folder": Bad(lambda path: path.mkdir(), "folder", placed=False),
    "fifo": Bad(os.mkfifo, "FIFO", placed=False),
    "socket": Bad(make_socket, "socket", placed=False),
    "dangling": Bad(lambda path: path.symlink_to("nowhere"), "link", placed=False),
    "outside": Bad(link_outside, "outside the project", placed=False),
    "self": Bad(task(run="true", needs=["self"]), "self", placed=False),
    "circle-1": Bad(task(run="true", needs=["circle-2"]), "circle-2", placed=False),
    "circle-2": Bad(task(run="true", needs=["circle-1"]), "circle-1", placed=False),
}


def drop_bad(farm: Farm, name: str) -> None:
    """Put a bad file there."""
    make = BAD[name].make
    if isinstance(make, bytes):
        farm.drop_bytes(name, make)
    else:
        make(farm.tasks / f"{name}.json")


class Settled(NamedTuple):
    """One folder with every kind of bad file, after a worker went through it."""

    farm: Farm
    code: int
    good: list[str]


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Settled:
    """All bad files and some good ones, worked on until nothing is left."""
    farm = Farm(tmp_path_factory.mktemp("bad") / "project")
    good = [farm.drop(f"good-{number}", run="true") for number in range(10)]
    for name in BAD:
        drop_bad(farm, name)
    good.append(farm.drop("z/good", run="true", needs=["good-*"]))
    code = farm.work()
    return Settled(farm, code, good)


# -- all at once -------------------------------------------------------------------------


def test_good_tasks_beside_them_succeed(settled: Settled) -> None:
    assert {settled.farm.status_of(i) for i in settled.good} == {"succeeded"}
    assert settled.code == 1


@pytest.mark.fault(22)
@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_invalid_and_its_result_says_why(
    settled: Settled, name: str
) -> None:
    result = settled.farm.result(name)
    error = result["error"]

    assert (result["status"], error["kind"]) == ("invalid", "invalid")
    assert BAD[name].word in error["message"]
    assert result["attempts"] == []


@pytest.mark.parametrize("name", BAD)
def test_a_fault_is_located_in_its_file(settled: Settled, name: str) -> None:
    error = settled.farm.result(name)["error"]
    place = r":(\d+):(\d+)" if BAD[name].placed else r"(?::\d+:\d+)?"

    assert re.match(rf"tasks/{name}\.json{place}: \S", error["message"])
    assert ("line" in error) >= BAD[name].placed


def test_the_line_is_that_of_the_key(settled: Settled) -> None:
    lines = {
        name: settled.farm.result(name)["error"]["line"]
        for name in ("timeout", "unknown-key", "wrong-type")
    }

    assert lines == {"timeout": 6, "unknown-key": 6, "wrong-type": 6}


def test_check_says_the_same_words_and_ends_with_1(settled: Settled) -> None:
    messages = {settled.farm.result(name)["error"]["message"] for name in BAD}
    checked = settled.farm.farm("check")

    assert messages - set(checked.stdout.splitlines()) == set()
    assert checked.returncode == 1


def test_check_of_one_file_tells_only_of_that(settled: Settled) -> None:
    bad = settled.farm.farm("check", "tasks/timeout.json")
    good = settled.farm.farm("check", "tasks/good-1.json")

    assert bad.stdout.startswith("tasks/timeout.json:")
    assert len(bad.stdout.splitlines()) == 1
    assert (bad.returncode, good.returncode, good.stdout) == (1, 0, "")


def test_status_names_them_with_the_reason(settled: Settled) -> None:
    said = settled.farm.farm("status", "--failed").stdout
    counts = json.loads(settled.farm.farm("status", "--json").stdout)["counts"]

    assert counts["invalid"] == len(BAD)
    assert counts["succeeded"] == len(settled.good)
    assert "timeout" in said


def test_each_member_of_a_circle_is_named_in_each(settled: Settled) -> None:
    for name in ("circle-1", "circle-2"):
        message = settled.farm.result(name)["error"]["message"]

        assert "circle-1" in message
        assert "circle-2" in message


def test_nothing_bad_is_touched(settled: Settled) -> None:
    changed = [
        name
        for name, bad in BAD.items()
        if isinstance(bad.make, bytes)
        and (settled.farm.tasks / f"{name}.json").read_bytes() != bad.make
    ]

    assert changed == []


def test_what_is_invalid_is_not_tried_again_while_it_stays(settled: Settled) -> None:
    before = {name: settled.farm.result_path(name).read_bytes() for name in BAD}
    settled.farm.work()
    after = {name: settled.farm.result_path(name).read_bytes() for name in BAD}

    assert after == before


# -- one by one ----------------------------------------------------------------------------


POWERLESS = """
import ctypes, os, sys

for power in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: root reads every file
    ctypes.CDLL(None).prctl(24, power)  # PR_CAPBSET_DROP, from the next exec on
os.execv(sys.executable, [sys.executable, "-P", "-m", "farm", *sys.argv[1:]])
"""


@pytest.mark.fault(23)
def test_a_file_that_cannot_be_read_is_invalid(farm: Farm) -> None:
    script = farm.write("powerless.py", POWERLESS)
    farm.drop("job", run="true")
    (farm.tasks / "job.json").chmod(0)
    worker = farm.start_python(str(script), "worker", str(farm.root), "--until-done")
    worker.wait(30)
    message = farm.result("job")["error"]["message"]

    assert farm.status_of("job") == "invalid"
    assert message.startswith("tasks/job.json: cannot read it")


def test_a_link_inside_the_project_is_a_task(farm: Farm) -> None:
    farm.write("shared/real.json", '{"run": "echo linked"}')
    (farm.tasks / "job.json").symlink_to("../shared/real.json")
    farm.work()

    assert farm.result("job")["stdout"] == "linked\n"


def test_a_name_too_long_for_a_result_is_said_by_status_and_check(farm: Farm) -> None:
    farm.drop("good", run="true")
    name = f"{'x' * 248}.json"
    (farm.tasks / name).write_bytes(task(run="true"))
    code = farm.work()
    status, check = farm.farm("status"), farm.farm("check")

    assert code == 1
    assert farm.status_of("good") == "succeeded"
    assert f"tasks/{name}" in check.stdout
    assert name in status.stdout
    assert check.returncode == 1


#: a worker that does not believe in a bad file, however long it stands still
PATIENT = 'patch("farm.standing.SETTLE", 3600.0).start()'


@pytest.mark.fault(37)
def test_a_half_written_file_is_left_alone_until_it_is_whole(farm: Farm) -> None:
    farm.start_changed(PATIENT)
    whole = task(run="echo whole")
    path = farm.tasks / "job.json"
    path.write_bytes(whole[:-9])
    seen = farm.drop("beside", run="true")
    farm.wait_for("succeeded", seen)
    with path.open("ab") as rest:
        rest.write(whole[-9:])
    result = farm.wait_for("succeeded", "job")

    assert result["stdout"] == "whole\n"
    assert len(result["attempts"]) == 1


def test_a_file_corrected_under_an_idle_worker_is_tried_again(farm: Farm) -> None:
    farm.start_worker()
    farm.drop("job", run="")
    farm.wait_for("invalid", "job")
    farm.drop("job", run="echo right")
    wait_until(lambda: farm.status_of("job") != "invalid", 30, farm.describe)
    result = farm.wait_for("succeeded", "job")

    assert result["stdout"] == "right\n"


def test_a_file_corrected_in_place_under_an_idle_worker_is_tried_again(
    farm: Farm,
) -> None:
    farm.start_worker()
    farm.drop("job", run="")
    farm.wait_for("invalid", "job")
    (farm.tasks / "job.json").write_bytes(task(run="true"))
    wait_until(lambda: farm.status_of("job") == "succeeded", 30, farm.describe)


def test_a_file_corrected_while_nobody_works_is_tried_again(farm: Farm) -> None:
    farm.drop("job", run="")
    farm.work()
    before = farm.status_of("job")
    farm.drop("job", run="true")
    code = farm.work()

    assert (before, code) == ("invalid", 0)
    assert farm.status_of("job") == "succeeded"


def test_a_circle_that_is_cut_is_tried_again_in_each_member(farm: Farm) -> None:
    farm.drop("a", run="true", needs=["b"])
    farm.drop("b", run="true", needs=["a"])
    farm.work()
    before = [farm.status_of(i) for i in ("a", "b")]
    farm.drop("b", run="true")
    farm.work()

    assert before == ["invalid", "invalid"]
    assert [farm.status_of(i) for i in ("a", "b")] == ["succeeded", "succeeded"]


def test_a_bad_file_corrected_to_another_bad_one_gets_a_new_verdict(farm: Farm) -> None:
    farm.drop("job", run="")
    farm.work()
    farm.drop("job", run="true", timeout=-1)
    farm.work()

    assert "timeout" in farm.result("job")["error"]["message"]


@pytest.mark.parametrize("name", [".hidden.json", "a.result.json", "notes.txt", "x"])
def test_what_is_no_task_by_its_name_is_left_alone(farm: Farm, name: str) -> None:
    (farm.tasks / name).write_bytes(task(run="touch ran"))
    farm.drop("good", run="true")
    farm.work()

    assert not (farm.root / "ran").exists()
    assert (farm.tasks / name).read_bytes() == task(run="touch ran")


@pytest.mark.parametrize("name", ["a b", "ünï", "100%", "a%2Fb", "-x", "a.b", "日本"])
def test_names_may_be_what_people_write(farm: Farm, name: str) -> None:
    farm.drop(name, run="echo $FARM_TASK_ID; exit 3", ok_exit_codes=[3])
    farm.drop(f"{name}/{name}", run="true")
    farm.work()

    assert farm.result(name)["stdout"] == f"{name}\n"
    assert farm.status_of(f"{name}/{name}") == "succeeded"
