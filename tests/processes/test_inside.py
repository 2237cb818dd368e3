"""A task that adds tasks to its own project, and waits for them or works on them."""

import sys

import pytest

from tests.driver import Farm
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

FARM = f"{sys.executable} -P -m farm"
ADD = f"{FARM} add --name sub -- true"


@pytest.mark.parametrize(
    "wait",
    ["wait", "wait '**'", "wait sub", "worker . --until-done"],
)
def test_a_task_may_wait_until_nothing_else_is_left(farm: Farm, wait: str) -> None:
    farm.drop("a", run=f"{ADD} && {FARM} {wait}", timeout=30)
    farm.supervise("-j2", "--until-done")

    farm.wait_for("succeeded", "a", "sub")


@pytest.mark.parametrize(
    "work", ["worker . --until-done", "supervise -j1 --until-done"]
)
def test_the_only_worker_may_be_helped_by_one_inside_its_task(
    farm: Farm, work: str
) -> None:
    farm.drop("a", run=f"{ADD} && {FARM} {work}", timeout=30)

    assert farm.work() == 0
    assert farm.status_of("sub") == "succeeded"


def test_what_failed_beside_it_is_still_told(farm: Farm) -> None:
    farm.drop("a", run=f"{FARM} wait", timeout=30)
    farm.drop("b", run="false")
    farm.supervise("-j2", "--until-done")
    result = farm.wait_for("failed", "a")

    assert (result["exit_code"], result["stdout"]) == (1, "b failed\n")


def test_what_waits_for_the_task_is_not_waited_for_either(farm: Farm) -> None:
    farm.drop("a", run=f"{FARM} wait", timeout=30)
    farm.drop("next", run="true", needs=["a"])
    farm.drop("last", run="true", needs=["nex[t]"])
    farm.supervise("-j2", "--until-done")
    result = farm.wait_for("succeeded", "a")

    assert "not waited for: 2 tasks behind a\n" in result["stderr"]
    farm.wait_for("succeeded", "next", "last")


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ("a", "this runs inside a, so it cannot wait for its end"),
        ("next", "this runs inside a, for which next waits: neither would end"),
    ],
)
def test_a_wait_that_cannot_end_is_refused(farm: Farm, named: str, why: str) -> None:
    farm.drop("a", run=f"{FARM} wait {named}", timeout=30)
    farm.drop("next", run="true", needs=["a"])
    farm.supervise("-j2")
    result = farm.wait_for("failed", "a")

    assert (result["exit_code"], why in result["stderr"]) == (2, True)


def test_a_worker_that_runs_only_the_waiting_task_is_told_of(farm: Farm) -> None:
    farm.drop("a", run=f"{ADD} && {FARM} wait --timeout 2s", timeout=30)
    farm.work()

    assert "no other worker is running here" in farm.result("a")["stderr"]


def test_the_variables_of_a_task_that_has_ended_mean_nothing(farm: Farm) -> None:
    farm.drop("a", run="env | grep ^FARM_ > left; touch done")
    farm.work()
    left = (farm.root / "left").read_text().splitlines()
    environ = dict(line.split("=", 1) for line in left)
    farm.result_path("a").unlink()
    done = farm.farm("wait", "a", "--timeout", "0", **environ)

    assert (done.returncode, done.stdout) == (124, "a ready\n")


def test_a_task_of_another_project_is_no_task_of_this_one(
    farm: Farm,
) -> None:
    other = Farm(farm.root / "other")
    other.drop("a", run="true")
    farm.drop("a", run=f"cd other && {FARM} wait -C . --timeout 0")
    farm.work()

    assert farm.result("a")["stdout"] == "a ready\n"


def test_a_callable_that_waits_leaves_its_own_task_out(farm: Farm) -> None:
    farm.write(
        "waits.py",
        "import subprocess, sys\n"
        "def run():\n"
        "    farm = [sys.executable, '-P', '-m', 'farm']\n"
        "    subprocess.run([*farm, 'add', '--name', 'sub', '--', 'true'], check=True)\n"
        "    subprocess.run([*farm, 'wait'], check=True)\n",
    )
    farm.drop("a", call="waits:run", timeout=30)
    farm.supervise("-j2", "--until-done")

    farm.wait_for("succeeded", "a", "sub")
    wait_until(lambda: farm.processes[0].poll() == 0)
