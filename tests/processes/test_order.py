"""What runs when: retries, needs, priority, times."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.driver import LOOKS_OFTEN, Farm, whys
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

NOTED = "echo $FARM_TASK_ID >> order"


def order(farm: Farm) -> list[str]:
    """The ids in the order in which they ran."""
    return (farm.root / "order").read_text().split()


def status(farm: Farm) -> dict[str, Any]:
    """What `farm status --json` prints."""
    found: dict[str, Any] = json.loads(farm.farm("status", "--json").stdout)
    return found


# -- retries -------------------------------------------------------------------------


def test_a_task_is_tried_again_as_often_as_it_says(farm: Farm) -> None:
    farm.drop("job", run="exit 3", retries={"max": 2, "base_delay": 0.01})
    farm.work()
    result = farm.result("job")

    assert result["status"] == "failed"
    assert whys(result) == ["failed", "failed", "failed"]
    assert [a["exit_code"] for a in result["attempts"]] == [3, 3, 3]
    assert [a["counted"] for a in result["attempts"]] == [True, True, True]


def test_a_task_without_retries_is_tried_once(farm: Farm) -> None:
    farm.drop("job", run="exit 3")
    farm.work()

    assert whys(farm.result("job")) == ["failed"]


def test_the_status_is_that_of_the_last_attempt(farm: Farm) -> None:
    run = "test $FARM_ATTEMPT = 1 || exit 0; sleep 1000"
    # More than one: a machine that stands still lets the second time out, too.
    farm.drop("job", run=run, timeout=0.3, retries={"max": 9, "base_delay": 0.01})
    farm.work(FARM_GRACE="0.5")
    result = farm.result("job")

    assert result["status"] == "succeeded"
    assert (whys(result)[0], whys(result)[-1]) == ("timed_out", "succeeded")


def test_each_attempt_keeps_its_own_output(farm: Farm) -> None:
    run = "echo attempt $FARM_ATTEMPT; test $FARM_ATTEMPT = 2"
    farm.drop("job", run=run, retries={"max": 1, "base_delay": 0.01})
    farm.work()
    result = farm.result("job")
    first = result["attempts"][0]["stdout_path"]

    assert (farm.root / first).read_text() == "attempt 1\n"
    assert result["stdout"] == "attempt 2\n"


def test_a_delay_is_noted_and_shown_while_it_lasts(farm: Farm) -> None:
    delay = {"max": 1, "base_delay": 3600, "max_delay": 3600}
    farm.drop("job", run="exit 3", retries=delay)
    farm.start_worker()
    ledger = farm.state / "locks" / "task-job.lock"
    wait_until(lambda: ledger.exists() and '"ended"' in ledger.read_text())
    ended = json.loads(ledger.read_text().splitlines()[-1])
    (waiting,) = wait_until(lambda: status(farm)["waiting"], on_timeout=farm.describe)

    assert ended["finished"] <= ended["not_before"] <= ended["finished"] + 3600
    assert (waiting["id"], waiting["why"]) == ("job", "its next attempt has its time")
    assert waiting["until"] is not None


def test_a_task_that_was_edited_while_it_failed_does_not_wait(farm: Farm) -> None:
    delay = {"max": 1, "base_delay": 3600, "max_delay": 3600}
    gate = farm.gate()
    farm.drop("job", run=f"{gate.command}; exit 3", retries=delay)
    farm.start_worker()
    gate.wait_reached()
    farm.drop("job", run="true")
    gate.open()
    result = farm.wait_for("succeeded", "job")

    assert whys(result) == ["succeeded"]


def test_an_edited_task_does_not_wait_for_its_former_failures(farm: Farm) -> None:
    delay = {"max": 1, "base_delay": 3600, "max_delay": 3600}
    farm.drop("job", run="exit 3", retries=delay)
    farm.start_worker()
    ledger = farm.state / "locks" / "task-job.lock"
    wait_until(lambda: ledger.exists() and '"ended"' in ledger.read_text())
    farm.drop("job", run="true")
    result = farm.wait_for("succeeded", "job")

    assert whys(result) == ["succeeded"]


# -- needs ---------------------------------------------------------------------------


def test_a_task_runs_after_what_it_needs(farm: Farm) -> None:
    farm.drop("a", run=NOTED, needs=["b"])
    farm.drop("b", run=NOTED, needs=["c"])
    farm.drop("c", run=NOTED)
    farm.work()

    assert order(farm) == ["c", "b", "a"]


def test_a_need_that_is_the_id_of_a_task_means_that_task(farm: Farm) -> None:
    farm.drop("a", run=NOTED, needs=["t[x-z]"])
    farm.drop("t[x-z]", run=NOTED)
    farm.drop("tx", run="exit 1")
    farm.work()

    assert order(farm) == ["t[x-z]", "a"]


def test_a_paused_id_with_brackets_waits_and_what_it_would_match_runs(
    farm: Farm,
) -> None:
    farm.drop("t[x-z]", run=NOTED)
    farm.drop("tx", run=NOTED)
    farm.farm("pause", "t[x-z]")
    farm.work()

    assert order(farm) == ["tx"]


def test_a_glob_needs_all_that_match(farm: Farm) -> None:
    farm.drop("a-join", run=NOTED, needs=["tiles/*"])
    for number in range(5):
        farm.drop(f"tiles/{number}", run=NOTED)
    farm.drop("tiles/deep/er", run=f"exit 1; {NOTED}")
    farm.work()

    assert order(farm)[-1] == "a-join"
    assert len(order(farm)) == 6


def test_two_stars_reach_into_folders(farm: Farm) -> None:
    farm.drop("a-join", run=NOTED, needs=["tiles/**"])
    farm.drop("tiles/1", run=NOTED)
    farm.drop("tiles/deep/er", run=NOTED)
    farm.work()

    assert sorted(order(farm)[:-1]) == ["tiles/1", "tiles/deep/er"]
    assert order(farm)[-1] == "a-join"


def test_a_glob_never_matches_its_own_task(farm: Farm) -> None:
    farm.drop("all", run=NOTED, needs=["*"])
    farm.drop("b", run=NOTED)
    farm.work()

    assert order(farm) == ["b", "all"]


def test_a_glob_that_matches_nothing_waits(farm: Farm) -> None:
    farm.drop("join", run=NOTED, needs=["tiles/*"])
    farm.work()

    assert farm.status_of("join") is None
    assert "tiles/*" in status(farm)["waiting"][0]["why"]


def test_what_needs_a_failed_task_is_skipped_and_so_on(farm: Farm) -> None:
    farm.drop("a", run="exit 3")
    farm.drop("b", run=NOTED, needs=["a"])
    farm.drop("c", run=NOTED, needs=["b"])
    farm.work()

    assert farm.result("b")["error"]["message"] == "it needs a, which ended failed"
    assert farm.result("c")["error"]["message"] == "it needs b, which ended skipped"
    assert farm.result("b")["attempts"] == []
    assert not (farm.root / "order").exists()


def test_an_idle_worker_runs_what_waited_for_a_task_that_comes_later(
    farm: Farm,
) -> None:
    farm.drop("b", run=NOTED, needs=["a"])
    farm.start_worker()
    wait_until(lambda: status(farm)["waiting"], on_timeout=farm.describe)
    farm.drop("a", run=NOTED)
    farm.wait_for("succeeded", "a", "b")

    assert order(farm) == ["a", "b"]


def test_a_result_whose_task_is_gone_satisfies_a_need(farm: Farm) -> None:
    farm.drop("a", run=NOTED)
    farm.work()
    (farm.tasks / "a.json").unlink()
    farm.drop("b", run=NOTED, needs=["a"])
    farm.work()

    assert order(farm) == ["a", "b"]


def test_an_invalid_need_keeps_waiting_until_it_is_corrected(farm: Farm) -> None:
    farm.drop("a", run="")
    farm.drop("b", run=NOTED, needs=["a"])
    farm.start_worker()
    farm.wait_for("invalid", "a")
    waits = wait_until(lambda: status(farm)["waiting"], on_timeout=farm.describe)
    farm.drop("a", run=NOTED)
    farm.wait_for("succeeded", "b")

    assert [w["id"] for w in waits] == ["b"]
    assert order(farm) == ["a", "b"]


# -- priority and time -----------------------------------------------------------------


def test_higher_priorities_run_first_then_by_name(farm: Farm) -> None:
    priorities = {"a": -1, "b": 0, "c": 10, "d": 0}
    for name, priority in priorities.items():
        farm.drop(name, run=NOTED, priority=priority)
    farm.work()

    assert order(farm) == ["c", "b", "d", "a"]


def test_the_highest_priority_runs_first_of_ten_thousand(farm: Farm) -> None:
    for number in range(10_000):
        (farm.tasks / f"t{number}.json").write_text(f'{{"run": "{NOTED}"}}')
    farm.drop("z-urgent", run=NOTED, priority=10)
    farm.start_worker()
    wait_until((farm.root / "order").exists, 40, farm.describe)
    first = wait_until(lambda: order(farm))[0]

    assert first == "z-urgent"


def test_a_busy_worker_sees_a_higher_priority_that_is_dropped_later(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=gate.command)
    farm.drop("b", run=NOTED)
    farm.start_changed(LOOKS_OFTEN)
    gate.wait_reached()
    farm.drop("z-urgent", run=NOTED, priority=10)
    held_for_a_listing(farm)
    gate.open()
    farm.wait_for("succeeded", "b", "z-urgent")

    assert order(farm) == ["z-urgent", "b"]


def held_for_a_listing(farm: Farm) -> None:
    """Until the task that runs has run long enough for the next listing."""
    wait_until(lambda: status(farm)["running"][0]["elapsed_s"] > 1.5)


def stamp(seconds: float) -> str:
    """The time in so many seconds, as a task file says it."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def test_a_task_does_not_run_before_its_time(farm: Farm) -> None:
    farm.drop("later", run=NOTED, not_before=stamp(3600))
    farm.drop("now", run=NOTED, not_before=stamp(-3600))
    farm.start_worker()
    farm.wait_for("succeeded", "now")
    (waiting,) = status(farm)["waiting"]

    assert (waiting["id"], waiting["why"]) == ("later", "not before its time")
    assert order(farm) == ["now"]


def test_a_worker_until_done_waits_for_a_time_that_comes(farm: Farm) -> None:
    begin = stamp(1.5)
    farm.drop("soon", run=NOTED, not_before=begin)
    code = farm.work()
    started = datetime.fromisoformat(farm.result("soon")["started"])

    assert code == 0
    assert started >= datetime.fromisoformat(begin).replace(microsecond=0)
