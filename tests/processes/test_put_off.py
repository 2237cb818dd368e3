"""A task whose keys all rest waits without holding a worker, and people learn why."""

import json
import secrets
from collections.abc import Iterator

import pytest

from tests.driver import Farm
from tests.provider.rows import ROWS
from tests.provider.server import Provider
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

AN_HOUR = ROWS["rate_limit"].with_headers(retry_after="3600")
SETTINGS = '[agents.ask]\nkind = "messages"\nmodel = "m"\n'


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture
def asked(farm: Farm, provider: Provider) -> Farm:
    """A farm with an agent and two keys of two organizations."""
    farm.write("farm.toml", SETTINGS)
    farm.environ["ANTHROPIC_BASE_URL"] = provider.url
    for number in (1, 2):
        secret = secrets.token_urlsafe(30)
        provider.add_key(f"key {number}", secret, pool=f"pool-{number}")
        farm.environ[f"ANTHROPIC_API_KEY_{number}"] = secret
    return farm


def waiting(farm: Farm) -> dict[str, dict[str, str]]:
    report = json.loads(farm.farm("status", "--json").stdout)
    return {one["id"]: one for one in report["waiting"]}


def wait_until_waiting(farm: Farm, *task_ids: str) -> None:
    wait_until(lambda: set(task_ids) <= waiting(farm).keys(), on_timeout=farm.describe)


def rest_all_keys(farm: Farm, provider: Provider) -> None:
    """A worker lives, and both keys have been refused for an hour."""
    provider.answer_with(AN_HOUR, times=None)
    farm.drop("ask", prompt="Hello?")
    farm.start_worker()
    provider.wait_for_calls(2)
    wait_until_waiting(farm, "ask")


def why(farm: Farm, task_id: str) -> str:
    return farm.farm("why", task_id).stdout


def test_a_prompt_waits_while_all_keys_rest_and_other_tasks_go_on(
    asked: Farm, provider: Provider
) -> None:
    provider.answer_with(AN_HOUR, times=None)
    for number in range(5):
        asked.drop(f"prompt-{number}", prompt="Hello?", priority=1)
    worker = asked.start_worker()
    provider.wait_for_calls(2)
    asked.drop("other", run="true")
    asked.wait_for("succeeded", "other")

    assert provider.count(status=429) == 2  # each key once
    assert not list(asked.tasks.glob("prompt-*.result.json"))
    assert "cools down until" in why(asked, "prompt-4")
    assert worker.poll() is None


def test_why_and_status_name_the_key_that_frees_first(
    asked: Farm, provider: Provider
) -> None:
    soon = ROWS["rate_limit"].with_headers(retry_after="1800")
    provider.answer_with(soon, times=None, key="key 1")
    later = ROWS["rate_limit"].with_headers(retry_after="7200")
    provider.answer_with(later, times=None, key="key 2")
    asked.drop("one", prompt="Hello?")
    asked.drop("two", prompt="Hello?")
    asked.start_worker()
    provider.wait_for_calls(2)
    wait_until_waiting(asked, "one", "two")

    assert "all 2 keys rest; anthropic-1 cools down until" in why(asked, "two")
    waits = waiting(asked)["two"]
    assert "anthropic-1 cools down until" in waits["why"]
    assert waits["until"]


def test_a_worker_without_a_key_leaves_the_prompt_to_one_that_has_it(
    asked: Farm,
) -> None:
    keys = {n: v for n, v in asked.environ.items() if "_API_KEY_" in n}
    for name in keys:
        del asked.environ[name]
    asked.drop("ask", prompt="Hello?")
    assert asked.work() == 1  # not everything has succeeded

    assert not (asked.tasks / "ask.result.json").exists()
    assert "set ANTHROPIC_API_KEY where workers are started" in why(asked, "ask")
    asked.environ |= keys
    assert asked.work() == 0
    assert asked.result("ask")["status"] == "succeeded"


def test_a_key_that_nobody_accepts_makes_prompts_wait_for_people(
    asked: Farm, provider: Provider
) -> None:
    provider.remove_key("key 1")
    provider.remove_key("key 2")
    asked.drop("ask", prompt="Hello?")
    asked.drop("next", prompt="Hello?")
    assert asked.work() == 1  # nothing that time alone brings is left

    assert provider.count(status=401) == 2
    assert "is not accepted: give it another value" in why(asked, "next")
    value = secrets.token_urlsafe(30)
    provider.add_key("key 1", value)
    asked.environ["ANTHROPIC_API_KEY_1"] = value
    assert asked.work() == 0
    assert (
        asked.result("ask")["status"] == asked.result("next")["status"] == "succeeded"
    )


def test_what_a_prompt_needs_is_judged_before_its_keys(
    asked: Farm, provider: Provider
) -> None:
    rest_all_keys(asked, provider)
    asked.drop("broken", run="false")
    asked.drop("after", prompt="Hello?", needs=["broken"])

    asked.wait_for("skipped", "after")


def test_a_run_task_that_wants_a_key_waits_for_one_too(
    asked: Farm, provider: Provider
) -> None:
    rest_all_keys(asked, provider)
    asked.drop("with", run='test "$ANTHROPIC_API_KEY"', credentials="anthropic")
    asked.drop("without", run="true")
    asked.wait_for("succeeded", "without")

    assert "cools down until" in why(asked, "with")
