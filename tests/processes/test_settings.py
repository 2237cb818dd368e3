"""farm.toml is changed while workers and their supervisor run."""

import time
from pathlib import Path

import pytest

from tests.driver import Farm, said
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

AGENT = '[agents.echo]\ncommand = ["cat"]\n'


def set_up(farm: Farm, text: str) -> None:
    """Write farm.toml in one step."""
    farm.write("farm.aside", text).rename(farm.root / "farm.toml")


def start(farm: Farm, how: str) -> None:
    """Start a lone worker, or a supervisor with one."""
    if how == "worker":
        farm.start_worker()
    else:
        farm.supervise("-j1")
        wait_until(farm.worker_names, on_timeout=farm.describe)


def watches(pid: int) -> bool:
    """Whether a worker has nothing to do, and waits for file events."""
    return any(
        "inotify" in str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()
    )


@pytest.mark.parametrize("how", ["worker", "supervise"])
def test_following_the_advice_helps_at_once(farm: Farm, how: str) -> None:
    start(farm, how)
    farm.drop("ask", prompt="Say this.")
    result = farm.wait_for("failed", "ask")
    assert "write a table [agents.NAME] into farm.toml" in result["error"]["message"]
    workers = farm.worker_names()
    set_up(farm, AGENT)
    assert farm.farm("retry", "ask").returncode == 0
    result = farm.wait_for("succeeded", "ask")

    assert result["text"] == "Say this."
    assert farm.worker_names() == workers


def test_a_prompt_that_is_dropped_right_after_the_change_is_answered(
    farm: Farm,
) -> None:
    worker = farm.start_worker()
    wait_until(lambda: watches(worker.pid), on_timeout=farm.describe)
    set_up(farm, AGENT)
    farm.drop("ask", prompt="Say this.")

    assert farm.wait_for("succeeded", "ask")["text"] == "Say this."


def test_a_worker_that_is_busy_all_the_time_follows_it_too(farm: Farm) -> None:
    gate = farm.gate()
    farm.start_worker()
    farm.drop("a", run=gate.command)
    gate.wait_reached()
    set_up(farm, AGENT)
    for number in range(3):
        farm.drop(f"b{number}", run="true")
    farm.drop("c", prompt="Say this.")
    gate.open()

    farm.wait_for("succeeded", "c", "b0", "b1", "b2")


def test_the_supervisor_says_what_it_has_read(farm: Farm) -> None:
    start(farm, "supervise")
    set_up(farm, "retries = 2\nheartbeat_timeout = 90\n")
    words = "retries from now on; heartbeat_timeout after a restart"

    wait_until(lambda: words in said(farm), on_timeout=farm.describe)


def test_a_wrong_file_changes_nothing_and_is_told_of(farm: Farm) -> None:
    set_up(farm, AGENT)
    start(farm, "supervise")
    set_up(farm, AGENT + "retries = \n")
    words = "the settings from before stay in force"
    wait_until(lambda: words in said(farm), on_timeout=farm.describe)
    farm.drop("ask", prompt="Say this.")
    farm.wait_for("succeeded", "ask")
    status = farm.farm("status")

    assert said(farm).count(words) == 1
    assert (status.returncode, "farm.toml:3:" in status.stdout) == (0, True)
    assert "what runs keeps the settings from before" in status.stdout


def test_a_new_number_of_workers_is_obeyed(farm: Farm) -> None:
    set_up(farm, "workers = 1\n")
    farm.supervise()
    wait_until(farm.worker_names, on_timeout=farm.describe)
    set_up(farm, "workers = 3\n")

    wait_until(lambda: len(farm.worker_names()) == 3, on_timeout=farm.describe)


def test_a_flag_outweighs_a_new_number_of_workers(farm: Farm) -> None:
    start(farm, "supervise")
    set_up(farm, "workers = 3\nretries = 1\n")
    wait_until(lambda: "retries from now on" in said(farm), on_timeout=farm.describe)

    assert len(farm.worker_names()) == 1


def test_a_hook_that_is_set_up_later_is_run(farm: Farm) -> None:
    farm.start_worker()
    farm.drop("a", run="true")
    farm.wait_for("succeeded", "a")
    set_up(
        farm, "[hooks]\non_done = ['sh', '-c', 'touch done-$(basename $1)', 'hook']\n"
    )
    farm.drop("b", run="true")

    wait_until(
        lambda: list(farm.root.glob("done-b*")) and not list(farm.root.glob("done-a*")),
        on_timeout=farm.describe,
    )


def test_one_change_is_told_of_once_by_a_lone_worker(farm: Farm) -> None:
    worker = farm.start_worker()
    set_up(farm, "retries = 1\n")
    farm.drop("a", run="true")
    farm.wait_for("succeeded", "a")
    farm.drop("b", run="true", not_before=_soon())
    farm.wait_for("succeeded", "b")

    assert said(farm, worker).count("farm.toml was read again") == 1


def _soon() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1))
