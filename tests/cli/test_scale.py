"""`farm scale`, and scaling by hand."""

import fcntl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from farm import process
from farm.config import Settings
from farm.control import Control, give, scale_name
from farm.project import Project
from farm.supervisor import Supervisor
from tests.cli.conftest import Run
from tests.driver import Farm, said, whys
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

HERE = process.identify().host


def orders(project: Project) -> list[str]:
    return sorted(path.name for path in Path(project.control).iterdir())


@contextmanager
def supervised(project: Project, *hosts: str) -> Iterator[None]:
    """As if supervisors lived on these hosts, that do not obey."""
    files = []
    for host in hosts:
        path = Path(project.supervisor_path(host))
        path.write_text("41\n")
        files.append(path.open())
        fcntl.flock(files[-1], fcntl.LOCK_EX)
    try:
        yield
    finally:
        for file in files:
            file.close()


# -- how it is typed -------------------------------------------------------------------


def test_without_a_supervisor_nobody_is_told(run: Run, project: Project) -> None:
    code, _, err = run("scale", "-C", project.root, "2")

    assert (code, "farm supervise" in err) == (1, True)
    assert orders(project) == []


def test_a_supervisor_that_has_ended_is_none(run: Run, project: Project) -> None:
    Path(project.supervisor_path(HERE)).write_text("41\n")
    code, _, _ = run("scale", "-C", project.root, "2")

    assert code == 1
    assert orders(project) == []


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        (["east", "west"], ["--host", "north"]),
        (["east", "west"], []),
        (["east", HERE], ["--host", "west"]),
    ],
    ids=["another", "none of two", "not the nearest"],
)
def test_a_wrong_host_is_an_error_that_names_the_right_ones(
    run: Run, project: Project, hosts: list[str], words: list[str]
) -> None:
    with supervised(project, *hosts):
        code, _, err = run("scale", "-C", project.root, "2", *words)

    assert code == 1
    assert all(host in err for host in hosts)
    assert orders(project) == []


@pytest.mark.parametrize("count", ["-1", "many", "2.5", "10001", "1" * 30, ""])
def test_a_number_that_is_none_is_wrong_usage(
    run: Run, project: Project, count: str
) -> None:
    with supervised(project, HERE):
        code, _, _ = run("scale", "-C", project.root, "--", count)

    assert code == 2
    assert orders(project) == []


def test_how_many_must_be_said(run: Run, project: Project) -> None:
    assert run("scale", "-C", project.root)[0] == 2


@pytest.mark.parametrize(
    ("hosts", "words", "host"),
    [
        ([HERE, "east"], [], HERE),
        ([HERE, "east"], ["--host", "east"], "east"),
        (["east"], [], "east"),
    ],
    ids=["this one", "a named one", "the only one"],
)
def test_the_order_is_for_one_host_and_taken_back_if_its_supervisor_ends(
    farm: Farm, hosts: list[str], words: list[str], host: str
) -> None:
    project = Project.open(farm.root)
    with supervised(project, *hosts):
        verb = farm.start("scale", "3", *words)
        order = Path(project.control, f"scale-{host}")
        wait_until(order.exists, on_timeout=farm.describe)
        text = order.read_text()

    assert text == "3\n"
    assert verb.wait(30) == 1
    assert "ended before it could obey" in farm.logs[-1].read_text()
    assert orders(project) == []


# -- a supervisor obeys ----------------------------------------------------------------


def supervise(farm: Farm, count: int) -> "subprocess.Popen[bytes]":
    popen = farm.supervise("-j", str(count))
    wait_workers(farm, count)
    return popen


def wait_workers(farm: Farm, count: int) -> list[int]:
    """Process ids of the workers, once there are exactly so many."""
    wait_until(lambda: len(farm.worker_pids()) == count, on_timeout=farm.describe)
    return farm.worker_pids()


def test_more_start_at_once_and_those_that_are_there_stay(farm: Farm) -> None:
    supervise(farm, 1)
    (first,) = farm.worker_pids()
    scaled = farm.farm("scale", "3")
    pids = wait_workers(farm, 3)

    assert (scaled.returncode, scaled.stdout) == (0, "")
    assert scaled.stderr == f"{HERE} keeps 3 workers from now on\n"
    assert first in pids
    assert orders(Project(farm.root)) == []


def test_one_that_is_too_many_finishes_what_it_runs_first(farm: Farm) -> None:
    gates = [farm.gate(name) for name in "abc"]
    for name, gate in zip("abc", gates, strict=True):
        farm.drop(name, run=gate.command)
    supervisor = supervise(farm, 3)
    for gate in gates:
        gate.wait_reached()
    scaled = farm.farm("scale", "1")
    wait_until(lambda: "1 worker from now on" in said(farm, supervisor))
    for name in "def":
        farm.drop(name, run=f": > ran.{name}")
    all_there = len(farm.worker_pids())
    for gate in gates:
        gate.open()
    farm.wait_for("succeeded", *"abcdef")
    (last,) = wait_workers(farm, 1)
    hows = [farm.result(name)["attempts"] for name in "abcdef"]

    assert scaled.returncode == 0
    assert all_there == 3
    assert [len(attempts) for attempts in hows] == [1] * 6
    assert last in farm.worker_pids()
    assert {farm.result(n)["worker"] for n in "def"} == {farm.worker_names()[0]}


def test_to_none_and_back(farm: Farm) -> None:
    supervisor = supervise(farm, 2)
    none = farm.farm("scale", "0")
    wait_workers(farm, 0)
    farm.drop("a", run="true")
    some = farm.farm("scale", "1")
    farm.wait_for("succeeded", "a")

    assert (none.returncode, some.returncode) == (0, 0)
    assert "keeps 0 workers" in none.stderr
    assert "keeps 1 worker from" in some.stderr
    assert supervisor.poll() is None


def test_one_that_was_to_end_when_all_is_done_rests_with_none(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    supervisor = farm.supervise("-j", "1", "--until-done")
    gate.wait_reached()
    (worker,) = farm.worker_pids()
    farm.farm("scale", "0")
    gate.open()
    wait_until(lambda: not psutil.pid_exists(worker), on_timeout=farm.describe)
    scaled = farm.farm("scale", "1")

    assert scaled.returncode == 0
    assert supervisor.wait(30) == 0
    assert farm.status_of("a") == "succeeded"


def test_the_same_number_changes_nobody(farm: Farm) -> None:
    supervise(farm, 2)
    before = sorted(farm.worker_pids())
    code = farm.farm("scale", "2").returncode

    assert code == 0
    assert sorted(wait_workers(farm, 2)) == before


def test_the_new_number_is_kept_after_a_death(farm: Farm) -> None:
    supervise(farm, 1)
    farm.farm("scale", "2")
    first, second = wait_workers(farm, 2)
    farm.kill(first)
    wait_until(
        lambda: first not in farm.worker_pids() and len(farm.worker_pids()) == 2,
        on_timeout=farm.describe,
    )

    assert second in farm.worker_pids()


def test_one_that_was_to_end_and_dies_is_not_replaced(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    supervise(farm, 1)
    gate.wait_reached()
    (busy,) = farm.worker_pids()
    farm.farm("scale", "0")
    farm.kill(busy)
    wait_until(lambda: busy not in farm.worker_pids(), on_timeout=farm.describe)
    farm.farm("scale", "1")
    gate.open()
    result = farm.wait_for("succeeded", "a")

    assert whys(result) == ["lost", "succeeded"]
    assert len(farm.worker_pids()) == 1


def test_a_supervisor_with_none_ends_at_the_first_signal(farm: Farm) -> None:
    supervisor = supervise(farm, 1)
    farm.farm("scale", "0")
    wait_workers(farm, 0)
    supervisor.terminate()

    assert supervisor.wait(30) == 130


# -- by hand ---------------------------------------------------------------------------


def by_hand(farm: Farm, host: str, text: str) -> Path:
    """The order as a person gives it."""
    order = farm.state / "control" / f"scale-{host}"
    aside = order.with_name(".aside")
    aside.write_text(text)
    return aside.rename(order)


def test_a_number_in_the_file_is_obeyed_and_the_file_removed(farm: Farm) -> None:
    supervise(farm, 1)
    order = by_hand(farm, HERE, "2\n")
    wait_workers(farm, 2)
    wait_until(lambda: not order.exists(), on_timeout=farm.describe)


@pytest.mark.parametrize("text", ["", "many", "-1", "9" * 5000])
def test_what_is_no_number_is_nobodys_business(farm: Farm, text: str) -> None:
    supervisor = supervise(farm, 1)
    order = by_hand(farm, HERE, text)
    farm.drop("a", run="true")
    farm.wait_for("succeeded", "a")
    code = farm.farm("drain").returncode

    assert code == 0
    assert supervisor.wait(30) == 0
    assert order.read_text() == text


def test_an_order_for_another_host_is_left_alone(farm: Farm) -> None:
    supervise(farm, 1)
    other = by_hand(farm, f"{HERE}-2", "0")
    farm.farm("scale", "2")
    wait_workers(farm, 2)

    assert other.read_text() == "0"


class Silent:
    """A screen that nobody reads."""

    pause = 1.0
    is_live = False

    def event(self, text: str) -> None: ...
    def ended(self, entries: object) -> None: ...
    def show(self, report: object) -> None: ...


def test_after_it_was_asked_to_stop_an_order_waits_for_the_next(
    project: Project,
) -> None:
    there = Supervisor(project, Settings(workers=2), Silent(), until_done=False)
    give(project, scale_name(HERE), "0")
    there.stop.ask_once("SIGINT")
    there.tick(time.monotonic())

    assert Control(project).read().scale == {HERE: 0}
