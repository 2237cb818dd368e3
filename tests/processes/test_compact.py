"""Journals do not grow for ever: workers, supervisors and `farm archive` pack them."""

import json
from typing import Any

import pytest

from farm import compact
from tests.driver import Farm
from tests.waiting import wait_until

pytestmark = pytest.mark.processes


def journals(farm: Farm) -> int:
    return len(list((farm.state / "journal").iterdir()))


def ever(farm: Farm) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(farm.farm("status", "--json").stdout)["ever"]
    return found


def test_workers_that_come_and_go_leave_no_file_each(farm: Farm) -> None:
    lives = compact.FEW + 3
    for number in range(lives):
        farm.drop(f"t{number}", run="true")
        farm.work()

    assert journals(farm) < lives - compact.FEW
    assert ever(farm)["attempts"] == {"succeeded": lives}


def test_what_is_archived_leaves_the_journal(farm: Farm) -> None:
    farm.drop("good", run="true")
    farm.drop("bad", run="false", retries={"max": 1, "base_delay": 0.01})
    farm.work()
    farm.farm("archive", "**")

    assert journals(farm) == 0
    assert len((farm.state / "journal.jsonl").read_text().splitlines()) == 1
    assert ever(farm)["attempts"] == {"succeeded": 1, "failed": 2}


def test_a_supervisor_packs_at_its_end(farm: Farm) -> None:
    for number in range(4):
        farm.drop(f"t{number}", run="true")
    assert farm.farm("supervise", "-j", "2", "--until-done").returncode == 0

    assert journals(farm) == 0
    assert ever(farm)["attempts"] == {"succeeded": 4}


def test_an_idle_worker_packs_what_the_dead_wrote(farm: Farm) -> None:
    farm.drop("a", run="true")
    farm.work()
    before = journals(farm)
    farm.start_worker()

    assert before == 1
    wait_until(lambda: journals(farm) == 0, on_timeout=farm.describe)


def test_a_rescue_is_told_with_the_time_it_took(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=f"if [ $FARM_ATTEMPT = 1 ]; then {gate.command}; fi")
    worker = farm.start_worker()
    gate.wait_reached()
    farm.kill(worker)
    farm.work()
    sums = ever(farm)

    assert sums["attempts"] == {"lost": 1, "succeeded": 1}
    assert sums["rescues"] == 1
    assert 0 < sums["rescue_s"] == sums["longest_rescue_s"]
