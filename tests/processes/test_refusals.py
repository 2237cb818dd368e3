"""What an agent's API refuses, and how a farm with one key takes each refusal."""

import json
import secrets
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from farm.states import Why
from tests.driver import Farm
from tests.processes.test_secrets import holding
from tests.prompts import Prompts
from tests.provider.answers import HUGE, Answer, Cut, InStream, Says
from tests.provider.rows import GARBAGE, ROWS, redirect
from tests.provider.server import Provider
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

Known = tuple[str, str]
SPENT = ("exhausted", "spend limit")
DEAD = ("disabled", "dead key")
HELD = ("disabled", "on hold")
FORBIDDEN = ("disabled", "no permission")
COOLING = ("cooling", "rate limit")


class Case(NamedTuple):
    """An answer, how the first attempt ends with it, and how the key rests then."""

    answer: Answer
    why: Why
    rest: Known | None = None
    times: int | None = None


def once(answer: Answer) -> Case:
    """The very attempt asks again, and nobody rests."""
    return Case(answer, Why.SUCCEEDED, times=1)


def waits(name: str, rest: Known) -> Case:
    return Case(ROWS[name], Why.THROTTLED, rest)


def fails(name: str) -> Case:
    return Case(ROWS[name], Why.FAILED)


def soon(name: str) -> Case:
    return once(ROWS[name].with_headers(retry_after="1"))


def cools(name: str) -> Case:
    row = ROWS[name].with_headers(retry_after="3600")
    return Case(row, Why.THROTTLED, COOLING)


CASES = {
    "invalid_request": fails("invalid_request"),
    "credit_balance": waits("credit_balance", SPENT),
    "spend_limit": waits("spend_limit", SPENT),
    "workspace_spend_limit": waits("workspace_spend_limit", SPENT),
    "organization_on_hold": waits("organization_on_hold", HELD),
    "authentication": waits("authentication", DEAD),
    "key_echoed": waits("key_echoed", DEAD),
    "billing": waits("billing", SPENT),
    "linked_spend_limit": waits("linked_spend_limit", SPENT),
    "linked_billing": waits("linked_billing", SPENT),
    "permission": waits("permission", FORBIDDEN),
    "not_found": fails("not_found"),
    "request_timeout": once(ROWS["request_timeout"]),
    "conflict": once(ROWS["conflict"]),
    "too_large": fails("too_large"),
    "too_large_gateway": fails("too_large_gateway"),
    "rate_limit": cools("rate_limit"),
    "ramp_limit": cools("ramp_limit"),
    "enforced_spend_limit": waits("enforced_spend_limit", SPENT),
    "contract_spend_limit": waits("contract_spend_limit", SPENT),
    "gateway_spend_limit": waits("gateway_spend_limit", SPENT),
    "api_error": once(ROWS["api_error"]),
    "bad_gateway": once(ROWS["bad_gateway"]),
    "unavailable": once(ROWS["unavailable"]),
    "unavailable_for_now": soon("unavailable_for_now"),
    "timeout": once(ROWS["timeout"]),
    "overloaded": once(ROWS["overloaded"]),
    "overloaded_for_now": soon("overloaded_for_now"),
    "openai_bad_request": fails("openai_bad_request"),
    "openai_invalid_api_key": waits("openai_invalid_api_key", DEAD),
    "openai_key_echoed": waits("openai_key_echoed", DEAD),
    "openai_permission": waits("openai_permission", FORBIDDEN),
    "openai_model_not_found": fails("openai_model_not_found"),
    "openai_rate_limit": cools("openai_rate_limit"),
    "openai_insufficient_quota": waits("openai_insufficient_quota", SPENT),
    "openai_credit_balance": waits("openai_credit_balance", SPENT),
    "openai_organization_spend_limit": waits("openai_organization_spend_limit", SPENT),
    "openai_project_spend_limit": waits("openai_project_spend_limit", SPENT),
    "openai_organization_usage_limit": waits("openai_organization_usage_limit", SPENT),
    "openai_server_error": once(ROWS["openai_server_error"]),
    "openai_bad_gateway": once(ROWS["openai_bad_gateway"]),
    "openai_overloaded": once(ROWS["openai_overloaded"]),
    "openrouter_credits": waits("openrouter_credits", SPENT),
    "openrouter_key_cap": waits("openrouter_key_cap", SPENT),
    "codex_usage_limit": waits("codex_usage_limit", SPENT),
    "codex_usage_limit_at": waits("codex_usage_limit_at", SPENT),
    # -- no row of the table, but what networks and streams make of an answer
    "garbage": once(GARBAGE),
    "openai_garbage": once(GARBAGE),
    "cut": once(Cut()),
    "openai_cut": once(Cut()),
    "cut_midway": once(Cut(midway=True)),
    "openai_cut_midway": once(Cut(midway=True)),
    "streamed_overload": once(InStream(ROWS["overloaded"])),
    "openai_streamed_error": once(InStream(ROWS["openai_server_error"])),
    "streamed_rate_limit": Case(InStream(ROWS["rate_limit"]), Why.THROTTLED, COOLING),
    "streamed_authentication": Case(
        InStream(ROWS["authentication"]), Why.THROTTLED, DEAD
    ),
    "openai_streamed_quota": Case(
        InStream(ROWS["openai_insufficient_quota"]), Why.THROTTLED, SPENT
    ),
    "streamed_key_echo": Case(InStream(ROWS["key_echoed"]), Why.THROTTLED, DEAD),
    "streamed_bad": Case(InStream(ROWS["invalid_request"]), Why.FAILED),
    "huge": Case(HUGE, Why.SUCCEEDED),
    "openai_huge": Case(HUGE, Why.SUCCEEDED),
    "max_tokens": Case(Says("half of", stop="max_tokens"), Why.FAILED),
    "openai_max_tokens": Case(Says("half of", stop="max_tokens"), Why.FAILED),
    "refusal": Case(Says("no", stop="refusal"), Why.FAILED),
    "openai_refusal": Case(Says("no", stop="refusal"), Why.FAILED),
}


FAULTS = {
    "max_tokens": "the answer was cut at `max_tokens`",
    "openai_max_tokens": "the answer was cut at `max_tokens`",
    "refusal": "the model refused to answer",
    "openai_refusal": "the server's content filter stopped the answer",
}


class Taken(NamedTuple):
    """How a first attempt ended, and what it left behind."""

    why: Why
    status: str | None
    rests: set[Known]
    calls: int | None  # None: nobody knows how often


def expected(case: Case) -> Taken:
    rests = {case.rest} if case.rest else set()
    if case.why is Why.THROTTLED:
        return Taken(case.why, None, rests, None)
    return Taken(case.why, case.why, rests, 1 + (case.times or 0))


def found(prompts: Prompts, name: str, provider: Provider) -> Taken:
    status, rests = prompts.farm.status_of(name), prompts.rests(name)
    if status is None:
        last = prompts.endings(name)[-1]
        assert not last.counted
        return Taken(last.why, None, rests, None)
    (attempt,) = prompts.farm.result(name)["attempts"]
    return Taken(Why(attempt["why"]), status, rests, provider.count())


def set_up(prompts: Prompts, name: str, provider: Provider) -> str:
    """An agent, a key and an endpoint for this case alone; the key."""
    is_openai = name.startswith(("openai", "openrouter", "codex"))
    kind, path = ("openai", "/v1") if is_openai else ("messages", "")
    prompts.agent(name, kind, credentials=name, base_url=f"{provider.url}{path}")
    secret = secrets.token_hex(20)
    provider.add_key(name, secret)
    provider.answer_with(CASES[name].answer, times=CASES[name].times)
    prompts.farm.environ[f"{name.upper()}_API_KEY"] = secret
    prompts.farm.drop(name, prompt="hello", agent=name)
    return secret


def test_every_refusal_of_the_table_is_a_case_here() -> None:
    assert set(ROWS) <= set(CASES)


def test_every_refusal_is_taken_for_what_it_is_and_tells_nothing_of_a_key(
    farm: Farm,
) -> None:
    with ExitStack() as stack:
        providers = {name: stack.enter_context(Provider()) for name in CASES}
        prompts = Prompts(farm, providers["huge"])
        keys = [set_up(prompts, name, there) for name, there in providers.items()]
        for _ in range(3):
            farm.start_worker()
        wait_until(
            lambda: all(farm.status_of(n) or prompts.endings(n) for n in CASES),
            45.0,
            farm.describe,
        )
        taken = {name: found(prompts, name, providers[name]) for name in CASES}
        for verb in (["keys"], ["status"], ["why", "key_echoed"], ["keys", "--json"]):
            farm.farm(*verb)
        farm.said.append(farm.describe())

        assert taken == {name: expected(case) for name, case in CASES.items()}
        held = holding(farm, *keys)
        assert held == []
        assert len(farm.result("huge")["text"]) == len(HUGE.text or "")
        for name, words in FAULTS.items():
            result = farm.result(name)
            assert result["error"]["message"].startswith(words)
            assert result["text"] in ("half of", "no")
        for path in (farm.state / "workers").glob("*.json"):
            assert "consecutive_failures" not in json.loads(path.read_text())


def test_a_redirect_is_not_followed_with_the_key(farm: Farm) -> None:
    with Provider() as provider, Provider() as other:
        prompts = Prompts(farm, provider)
        prompts.agent_with_key()
        provider.answer_with(redirect(f"{other.url}/v1/messages"), times=None)
        prompts.drop(1)
        farm.work()

        assert farm.status_of("p00") == "failed"
        assert "(307)" in farm.result("p00")["error"]["message"]
        assert (provider.count(), other.calls) == (1, [])
