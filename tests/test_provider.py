"""The provider of the tests: it speaks as real ones do, and counts what it got."""

import http.client
import importlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.provider.answers import HUGE, Answer, Cut, InStream, Says, Stall
from tests.provider.buckets import Bucket, full_bucket, wait_for_all
from tests.provider.calls import most_within
from tests.provider.echo import fitting
from tests.provider.forms import short_duration
from tests.provider.rows import DATE, GARBAGE, MESSAGES, OPENAI, ROWS, redirect
from tests.provider.server import Provider
from tests.provider.wire import Reply, Request, Server
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent
MESSAGES_PATH = "/v1/messages"
CHAT_PATH = "/v1/chat/completions"

# What the official SDK makes of a row; all others are a plain class for their status.
NAMED = {
    "organization_on_hold": "OrganizationOnHoldError",
    "linked_spend_limit": "LinkedOrganizationSpendLimitReachedError",
    "linked_billing": "LinkedOrganizationBillingUnavailableError",
    "ramp_limit": "RampLimitExceededError",
    "enforced_spend_limit": "EnforcedSpendLimitReachedError",
    "contract_spend_limit": "ContractSpendLimitReachedError",
}
BY_STATUS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    402: "PaymentRequiredError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    408: "RequestTimeoutError",
    409: "ConflictError",
    413: "ContentTooLargeError",
    429: "RateLimitError",
    500: "InternalServerError",
    502: "InternalServerError",
    503: "ServiceUnavailableError",
    504: "GatewayTimeoutError",
    529: "OverloadedError",
}
OPENAI_BY_STATUS = BY_STATUS | {402: "APIStatusError", 503: "InternalServerError"}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Answered(NamedTuple):
    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


@pytest.fixture
def secret() -> str:
    return secrets.token_hex(16)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def provider(secret: str, clock: Clock) -> Iterator[Provider]:
    """With one key, `a` of the pool `acme`, that has no limit."""
    with Provider(clock=clock) as there:
        there.add_key("a", secret, pool="acme")
        yield there


@pytest.fixture
def claude(provider: Provider, secret: str) -> Iterator[Any]:
    """The official SDK of the Messages API; it takes a second to import."""
    sdk = importlib.import_module("anthropic")
    with sdk.Anthropic(api_key=secret, base_url=provider.url, max_retries=0) as client:
        yield client


@pytest.fixture
def chat(provider: Provider, secret: str) -> Iterator[Any]:
    """The official SDK of chat completions."""
    sdk = importlib.import_module("openai")
    with sdk.OpenAI(
        api_key=secret, base_url=f"{provider.url}/v1", max_retries=0
    ) as client:
        yield client


def request(prompt: str = "hello there", **more: object) -> dict[str, Any]:
    """What both SDKs and both formats take."""
    said = [{"role": "user", "content": prompt}]
    return {"model": "some-model", "max_tokens": 100, "messages": said} | more


def connect(url: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)


def ask(
    provider: Provider,
    secret: str,
    path: str = MESSAGES_PATH,
    header: str = "x-api-key",
    **more: Any,
) -> Answered:
    """One call over plain HTTP."""
    connection = connect(provider.url)
    headers = {header: secret, "anthropic-version": "2026-10-21"}
    try:
        connection.request("POST", path, json.dumps(request(**more)), headers)
        came = connection.getresponse()
        return Answered(came.status, dict(came.headers.items()), came.read())
    finally:
        connection.close()


def statuses(provider: Provider) -> list[int]:
    return [call.status for call in provider.calls]


# -- the official SDKs understand it


def test_the_official_sdk_gets_an_answer(claude: Any, provider: Provider) -> None:
    message = claude.messages.create(**request())
    assert message.content[0].text == "echo: hello there"
    assert message.stop_reason == "end_turn"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (2, 3)
    assert message._request_id == provider.calls[0].request_id


def test_the_official_sdk_gets_a_stream(claude: Any) -> None:
    with claude.messages.stream(**request()) as stream:
        pieces = list(stream.text_stream)
        message = stream.get_final_message()
    assert len(pieces) > 1
    assert "".join(pieces) == message.content[0].text == "echo: hello there"
    assert message.stop_reason == "end_turn"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (2, 3)


def test_the_other_sdk_gets_an_answer(chat: Any, provider: Provider) -> None:
    done = chat.chat.completions.create(**request())
    assert done.choices[0].message.content == "echo: hello there"
    assert done.choices[0].finish_reason == "stop"
    assert done.usage.total_tokens == 5
    assert done._request_id == provider.calls[0].request_id


@pytest.mark.parametrize("path", [MESSAGES_PATH, CHAT_PATH])
def test_text_is_sent_as_it_is_and_cut_where_it_hurts(
    path: str, provider: Provider, secret: str
) -> None:
    """Half a character in one chunk, and a line end that is none for server events."""
    odd = "\u00fc\U0001f600\u2028"
    for stream in (True, False):
        raw = ask(provider, secret, path, prompt=odd * 20, stream=stream).raw
        assert odd.encode() in raw


def test_the_official_sdk_gets_odd_text_whole(claude: Any, chat: Any) -> None:
    odd = "\u00fc\U0001f600\u2028" * 20
    with claude.messages.stream(**request(odd)) as stream:
        assert stream.get_final_text() == f"echo: {odd}"
    chunks = list(chat.chat.completions.create(**request(odd, stream=True)))
    text = "".join(c.choices[0].delta.content or "" for c in chunks)
    assert text == f"echo: {odd}"


def test_the_other_sdk_gets_a_stream(chat: Any) -> None:
    asked = request(stream=True, stream_options={"include_usage": True})
    chunks = list(chat.chat.completions.create(**asked))
    choices = [choice for chunk in chunks for choice in chunk.choices]
    text = "".join(choice.delta.content or "" for choice in choices)
    assert text == "echo: hello there"
    assert choices[-1].finish_reason == "stop"
    assert chunks[-1].usage.total_tokens == 5


@pytest.mark.parametrize("name", MESSAGES)
def test_the_official_sdk_knows_each_row(
    name: str, claude: Any, provider: Provider
) -> None:
    row = MESSAGES[name]
    provider.answer_with(row)
    error = refused(claude.messages.create)
    assert type(error).__name__ == NAMED.get(name, BY_STATUS[row.status])
    assert error.status_code == row.status
    assert error.request_id == provider.calls[0].request_id
    assert error.response.headers.get("retry-after") == row.headers.get("retry-after")
    if isinstance(row.body, dict):
        assert error.type == row.body["error"]["type"]
        details = row.body["error"].get("details", {})
        assert error.error_code == details.get("error_code")
        assert error.body["request_id"] == error.request_id


@pytest.mark.parametrize("name", OPENAI)
def test_the_other_sdk_knows_each_row(name: str, chat: Any, provider: Provider) -> None:
    row = OPENAI[name]
    provider.answer_with(row)
    error = refused(chat.chat.completions.create)
    assert type(error).__name__ == OPENAI_BY_STATUS[row.status]
    assert error.status_code == row.status
    assert error.request_id == provider.calls[0].request_id
    assert error.response.headers.get("retry-after") == row.headers.get("retry-after")
    if isinstance(row.body, dict):
        assert error.type == row.body["error"].get("type")
        code = row.body["error"].get("code")
        assert error.code == (None if code is None else str(code))


def refused(create: Any) -> Any:
    """The error that an SDK's call ends in; each SDK has a base of its own."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        create(**request())
    return caught.value


@pytest.mark.parametrize("name", ["overloaded", "rate_limit", "ramp_limit"])
def test_an_error_in_a_stream_is_raised_while_reading(
    name: str, claude: Any, provider: Provider
) -> None:
    row = ROWS[name]
    provider.answer_with(InStream(row))
    events = []
    with claude.messages.create(**request(stream=True)) as stream:
        error = refused(lambda **_: events.extend(stream))
    assert error.status_code == 200
    assert isinstance(row.body, dict)
    assert error.type == row.body["error"]["type"]
    assert provider.calls[0].status == 200


def test_an_error_in_a_stream_of_the_other_format(
    chat: Any, provider: Provider
) -> None:
    provider.answer_with(InStream(ROWS["openai_overloaded"]))
    with chat.chat.completions.create(**request(stream=True)) as stream:
        error = refused(lambda **_: list(stream))
    assert error.type == "server_error"


@pytest.mark.parametrize(
    ("path", "last"),
    [
        (MESSAGES_PATH, b'event: message_stop\ndata: {"type": "message_stop"}\n\n'),
        (CHAT_PATH, b"data: [DONE]\n\n"),
    ],
)
def test_a_stream_says_that_it_is_over(
    path: str, last: bytes, provider: Provider, secret: str
) -> None:
    """No SDK asks for it, but a stream without it was cut."""
    assert ask(provider, secret, path, stream=True).raw.endswith(last)


def test_the_official_sdk_gets_json_that_fits_its_schema(claude: Any) -> None:
    shape = {"type": "json_schema", "schema": SCHEMA}
    message = claude.messages.create(**request(output_config={"format": shape}))
    assert json.loads(message.content[0].text) == FITTING


def test_the_other_sdk_gets_json_that_fits_its_schema(chat: Any) -> None:
    shape = {"name": "it", "schema": SCHEMA, "strict": True}
    wanted = {"type": "json_schema", "json_schema": shape}
    done = chat.chat.completions.create(**request(response_format=wanted))
    assert json.loads(done.choices[0].message.content) == FITTING


SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "size": {"type": "integer"},
        "good": {"type": "boolean"},
        "kind": {"type": "string", "enum": ["red", "blue"]},
        "parts": {"type": "array", "items": {"type": "object"}},
        "nothing": {"type": "null"},
    },
}
FITTING = {
    "title": "echo: hello there",
    "size": 11,
    "good": True,
    "kind": "red",
    "parts": [{}],
    "nothing": None,
}


def test_a_schema_that_says_nothing_is_an_object() -> None:
    assert fitting({}, "hello") == {}


# -- the table of rows


def test_only_these_rows_say_when_to_come_again() -> None:
    """A 429 without `retry-after` is money that is spent, not a pace."""
    saying = {name for name, row in ROWS.items() if "retry-after" in row.headers}
    assert saying == {
        "rate_limit",
        "ramp_limit",
        "unavailable_for_now",
        "overloaded_for_now",
        "openai_rate_limit",
    }


def test_only_a_gateway_says_not_to_try_again() -> None:
    saying = {name for name, row in ROWS.items() if "x-should-retry" in row.headers}
    assert saying == {"gateway_spend_limit"}


def test_a_day_that_a_refusal_names_lies_ahead() -> None:
    named = datetime.fromisoformat(f"{DATE}T00:00:00Z")

    assert timedelta(days=28) < named - datetime.now(UTC) <= timedelta(days=30)
    assert f"'resets_at': {int(named.timestamp())}" in str(
        ROWS["codex_usage_limit_at"].body
    )


def test_a_row_names_another_day_if_told() -> None:
    row = ROWS["enforced_spend_limit"]
    assert DATE in str(row.body)
    assert "2001-02-03 at 00:00 UTC" in str(row.on("2001-02-03").body)
    assert DATE not in str(row.on("2001-02-03").body)
    assert DATE in str(row.body)  # the constant stays


def test_a_gateway_answers_with_a_page(provider: Provider, secret: str) -> None:
    provider.answer_with(ROWS["bad_gateway"])
    answered = ask(provider, secret)
    assert answered.headers["content-type"].startswith("text/html")
    assert answered.raw.startswith(b"<html>")


def test_a_server_may_show_the_key_to_its_owner(
    provider: Provider, secret: str
) -> None:
    provider.answer_with(ROWS["key_echoed"])
    shown = secret.encode() in ask(provider, secret).raw
    assert shown


# -- who may call


@pytest.mark.parametrize("path", [MESSAGES_PATH, CHAT_PATH])
def test_an_unknown_key_is_refused(path: str, provider: Provider) -> None:
    answered = ask(provider, secrets.token_hex(16), path)
    assert answered.status == 401
    error = answered.body["error"]
    assert "authentication_error" in error.values() or error["code"] == (
        "invalid_api_key"
    )
    assert provider.calls[0].key is None


@pytest.mark.parametrize("path", [MESSAGES_PATH, CHAT_PATH])
def test_a_key_may_come_in_either_header(
    path: str, provider: Provider, secret: str
) -> None:
    assert ask(provider, secret, path).status == 200
    assert ask(provider, f"Bearer {secret}", path, "Authorization").status == 200
    assert [call.key for call in provider.calls] == ["a", "a"]
    seen = [call.key_header for call in provider.calls]
    assert seen == ["x-api-key", "authorization"]


def test_a_key_with_a_new_value_is_the_same_key(
    provider: Provider, secret: str
) -> None:
    new = secrets.token_hex(16)
    provider.add_key("a", new, pool="acme")
    assert ask(provider, secret).status == 401
    assert ask(provider, new).status == 200
    provider.remove_key("a")
    assert ask(provider, new).status == 401


def test_the_pool_is_named_unless_switched_off(secret: str) -> None:
    for names_pool in (True, False):
        with Provider(names_pool=names_pool) as provider:
            provider.add_key("a", secret, pool="acme")
            named = ask(provider, secret).headers.get("anthropic-organization-id")
            assert named == ("acme" if names_pool else None)


def test_what_a_real_server_would_not_read_is_refused(
    provider: Provider, secret: str
) -> None:
    no_limit = ask(provider, secret, max_tokens=None)
    assert no_limit.body["error"]["message"] == "max_tokens: Field required"
    no_model = ask(provider, secret, CHAT_PATH, model="")
    assert no_model.body["error"]["message"] == "Missing required parameter: 'model'."
    assert ask(provider, secret, "/v2/other").status == 404
    assert statuses(provider) == [400, 400, 404]


# -- limits


def bucket(per_minute: int, burst: float | None = None) -> Bucket:
    found = full_bucket(per_minute, burst, now=0.0)
    assert found is not None
    return found


def test_a_bucket_lets_its_burst_through_and_then_its_rate() -> None:
    tokens = bucket(600)
    first = [wait_for_all([tokens], now=0.0) for _ in range(11)]
    assert first[:10] == [0.0] * 10
    assert first[10] == pytest.approx(0.1)
    assert wait_for_all([tokens], now=0.1) == 0.0
    assert wait_for_all([tokens], now=0.1) == pytest.approx(0.1)


def test_a_bucket_holds_no_more_than_its_burst() -> None:
    tokens = bucket(60)
    assert [wait_for_all([tokens], now=1e6) for _ in range(2)] == [0.0, 1.0]


def test_a_clock_that_steps_back_brings_no_token() -> None:
    tokens = bucket(60)
    assert wait_for_all([tokens], now=10.0) == 0.0
    assert wait_for_all([tokens], now=5.0) == 1.0
    assert wait_for_all([tokens], now=10.5) == 0.5


def test_a_refusal_takes_no_token_of_any_bucket() -> None:
    full, empty = bucket(60), bucket(60)
    wait_for_all([empty], now=0.0)
    assert wait_for_all([full, empty], now=0.0) == 1.0
    assert wait_for_all([full], now=0.0) == 0.0


def test_keys_of_one_pool_share_its_limit(clock: Clock) -> None:
    values = {label: secrets.token_hex(16) for label in "abc"}
    pools = {"a": "acme", "b": "acme", "c": "other"}
    with Provider(clock=clock) as provider:
        for label, value in values.items():
            provider.add_key(label, value, pool=pools[label], per_minute=60)
        got = {label: ask(provider, values[label]).status for label in "abc"}
        assert got == {"a": 200, "b": 429, "c": 200}
        clock.now += 1.0
        assert ask(provider, values["b"]).status == 200


def test_a_pool_may_have_a_limit_of_its_own(clock: Clock, secret: str) -> None:
    with Provider(clock=clock) as provider:
        provider.limit_pool("acme", per_minute=60, burst=2)
        provider.add_key("a", secret, pool="acme")
        assert [ask(provider, secret).status for _ in range(3)] == [200, 200, 429]


def test_headers_tell_the_limit_of_a_success_and_of_a_refusal(
    clock: Clock, secret: str
) -> None:
    with Provider(clock=clock) as provider:
        provider.add_key("a", secret, per_minute=6, burst=1)
        before = datetime.now(UTC)
        for status in (200, 429):
            headers = ask(provider, secret).headers
            assert provider.calls[-1].status == status
            prefix = "anthropic-ratelimit-requests"
            assert headers[f"{prefix}-limit"] == "6"
            assert headers[f"{prefix}-remaining"] == "0"
            reset = datetime.fromisoformat(headers[f"{prefix}-reset"])
            assert (reset - before).total_seconds() >= 10
        assert ask(provider, secret).headers["retry-after"] == "10"
        clock.now += 9.5
        assert ask(provider, secret).headers["retry-after"] == "1"


def test_the_other_format_has_other_headers(clock: Clock, secret: str) -> None:
    with Provider(clock=clock) as provider:
        provider.add_key("a", secret, per_minute=6, burst=1)
        for status in (200, 429):
            answered = ask(provider, secret, CHAT_PATH)
            assert answered.status == status
            assert answered.headers["x-ratelimit-limit-requests"] == "6"
            assert answered.headers["x-ratelimit-remaining-requests"] == "0"
            assert answered.headers["x-ratelimit-reset-requests"] == "10s"


def test_retry_after_is_what_it_is_told_to_be(clock: Clock, secret: str) -> None:
    with Provider(clock=clock, retry_after="3600") as provider:
        provider.add_key("a", secret, per_minute=60)
        ask(provider, secret)
        assert ask(provider, secret).headers["retry-after"] == "3600"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.12, "120ms"), (1, "1s"), (59.2, "1m0s"), (360, "6m0s"), (3605, "1h0m5s")],
)
def test_durations_are_written_short(seconds: float, text: str) -> None:
    assert short_duration(seconds) == text


def test_the_most_in_any_window_is_counted() -> None:
    assert most_within(1.0, []) == 0
    assert most_within(1.0, [0.0, 0.9, 1.0, 1.8, 5.0]) == 3


def test_only_accepted_calls_count_against_a_limit(clock: Clock, secret: str) -> None:
    with Provider(clock=clock) as provider:
        provider.add_key("a", secret, pool="acme", per_minute=120)
        for _ in range(4):
            ask(provider, secret)
        clock.now += 0.5
        ask(provider, secret)
        assert statuses(provider) == [200, 200, 429, 429, 200]
        assert provider.most_within(1.0, pool="acme") == 3
        assert provider.most_within(0.5, key="a") == 2
        assert provider.most_within(60.0, key="b") == 0


# -- what goes wrong


def test_a_planned_answer_is_for_the_next_calls_of_its_key(
    provider: Provider, secret: str
) -> None:
    other = secrets.token_hex(16)
    provider.add_key("b", other)
    provider.answer_with(ROWS["overloaded"], times=2, key="b")
    provider.answer_with(ROWS["timeout"])
    got = [ask(provider, value).status for value in (secret, other, other, other)]
    assert got == [504, 529, 529, 200]


def test_a_planned_row_takes_no_token(clock: Clock, secret: str) -> None:
    with Provider(clock=clock) as provider:
        provider.add_key("a", secret, per_minute=60)
        provider.answer_with(ROWS["overloaded"], times=3)
        got = [ask(provider, secret).status for _ in range(5)]
        assert got == [529, 529, 529, 200, 429]


def test_a_planned_answer_waits_until_the_limit_lets_it(
    clock: Clock, secret: str
) -> None:
    with Provider(clock=clock) as provider:
        provider.add_key("a", secret, per_minute=60)
        ask(provider, secret)
        provider.answer_with(Says("at last"))
        assert ask(provider, secret).status == 429
        clock.now += 1.0
        assert ask(provider, secret).body["content"][0]["text"] == "at last"


def test_a_connection_is_cut_before_the_answer(provider: Provider, secret: str) -> None:
    provider.answer_with(Cut())
    with pytest.raises(http.client.RemoteDisconnected):
        ask(provider, secret)
    assert statuses(provider) == [0]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", [MESSAGES_PATH, CHAT_PATH])
def test_an_answer_is_cut_in_its_middle(
    path: str, stream: bool, provider: Provider, secret: str
) -> None:
    provider.answer_with(Cut(midway=True))
    with pytest.raises(http.client.IncompleteRead) as cut:
        ask(provider, secret, path, stream=stream)
    assert cut.value.partial


def test_garbage_is_no_json(provider: Provider, secret: str) -> None:
    provider.answer_with(GARBAGE)
    answered = ask(provider, secret)
    assert answered.status == 200
    with pytest.raises(ValueError, match="decode"):
        _ = answered.body


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_may_be_huge(stream: bool, provider: Provider, secret: str) -> None:
    provider.answer_with(HUGE)
    assert len(ask(provider, secret, stream=stream).raw) > 10_000_000


@pytest.mark.parametrize(
    ("stop", "finish"), [("max_tokens", "length"), ("refusal", "content_filter")]
)
def test_an_answer_may_stop_for_another_reason(
    stop: str, finish: str, provider: Provider, secret: str
) -> None:
    provider.answer_with(Says(stop=stop), times=2)
    assert ask(provider, secret).body["stop_reason"] == stop
    choice = ask(provider, secret, CHAT_PATH).body["choices"][0]
    assert choice["finish_reason"] == finish


def test_a_redirect_leads_to_another_host(provider: Provider, secret: str) -> None:
    provider.answer_with(redirect("http://127.0.0.2:9/elsewhere"))
    answered = ask(provider, secret)
    assert answered.status == 307
    assert answered.headers["location"] == "http://127.0.0.2:9/elsewhere"


def test_without_a_stream_an_error_for_one_is_a_plain_refusal(
    provider: Provider, secret: str
) -> None:
    provider.answer_with(InStream(ROWS["overloaded"]))
    assert ask(provider, secret).status == 529
    assert statuses(provider) == [529]


# -- held and slow answers


def test_200_calls_are_held_at_once_and_then_answered(
    provider: Provider, secret: str
) -> None:
    provider.hold()
    with ThreadPoolExecutor(200) as pool:
        asked = [pool.submit(ask, provider, secret) for _ in range(200)]
        provider.wait_for_calls(200)
        assert not any(call.done() for call in asked)
        provider.release()
        assert {call.result().status for call in asked} == {200}


def test_a_late_success_comes_after_a_newer_refusal(
    provider: Provider, secret: str
) -> None:
    provider.hold(times=1)
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(ask, provider, secret)
        provider.wait_for_calls(1)
        provider.answer_with(ROWS["rate_limit"])
        assert ask(provider, secret).status == 429
        assert not late.done()
        provider.release()
        assert late.result().status == 200
    assert statuses(provider) == [200, 429]  # in order of arrival


def test_an_answer_stalls_in_its_middle(provider: Provider, secret: str) -> None:
    provider.answer_with(Stall())
    connection = connect(provider.url)
    headers = {"x-api-key": secret, "anthropic-version": "2026-10-21"}
    body = json.dumps(request(stream=True))
    connection.request("POST", MESSAGES_PATH, body, headers)
    came = connection.getresponse()
    assert came.readline() == b"event: message_start\n"
    provider.release()
    assert came.read().endswith(b'data: {"type": "message_stop"}\n\n')
    connection.close()


def test_half_an_answer_is_sent_before_the_wait_in_its_middle() -> None:
    class Gate(threading.Event):
        waited = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.waited += 1
            return super().wait(timeout)

    gate = Gate()
    reply = Reply(200, {}, [b"one ", b"two"], is_stream=True, go_on=gate)
    server = Server(0, lambda request: reply)
    server.start()
    connection = connect(f"http://127.0.0.1:{server.port}")
    connection.request("POST", "/")
    came = connection.getresponse()
    assert came.read(4) == b"one "
    gate.set()
    assert came.read() == b"two"
    connection.close()
    server.stop()
    assert gate.waited == 1


BUG = LookupError("a bug of ours")


def test_what_goes_wrong_in_it_is_raised_at_its_end() -> None:
    def fail(request: Request) -> Reply:
        raise BUG

    server = Server(0, fail)
    server.start()
    connection = connect(f"http://127.0.0.1:{server.port}")
    connection.request("POST", "/")
    with pytest.raises(http.client.RemoteDisconnected):
        connection.getresponse()
    connection.close()
    with pytest.raises(LookupError, match="a bug of ours"):
        server.stop()


def begun_since(before: list[threading.Thread]) -> list[threading.Thread]:
    """New threads; one of an earlier test may end at any time."""
    return [thread for thread in threading.enumerate() if thread not in before]


@pytest.mark.parametrize("how", ["held", "slow", "stalled"])
def test_it_ends_whatever_is_open(how: str, secret: str) -> None:
    """At once, and with no thread left."""
    before = threading.enumerate()
    with ThreadPoolExecutor(1) as pool:
        with Provider() as provider:
            provider.add_key("a", secret)
            if how == "held":
                provider.hold()
            if how == "slow":
                provider.slow(3600)
            if how == "stalled":
                provider.answer_with(Stall())
            asked = pool.submit(ask, provider, secret)
            provider.wait_for_calls(1)
        asked.exception(timeout=20)
    assert begun_since(before) == []


def test_it_ends_connections_that_are_kept_alive(secret: str) -> None:
    before = threading.enumerate()
    with Provider() as provider:
        connection = connect(provider.url)
        for _ in range(2):
            connection.request("GET", "/")
            assert connection.getresponse().read()
        assert len(begun_since(before)) == 2  # one listens, one answers
    assert begun_since(before) == []
    connection.close()


def test_waiting_for_calls_that_never_come_fails(provider: Provider) -> None:
    with pytest.raises(AssertionError, match="0 of 1 calls"):
        provider.wait_for_calls(1, timeout=0.01)


# -- no key is ever shown


@pytest.mark.parametrize("answer", [Says(), ROWS["key_echoed"], Cut()])
def test_nothing_it_keeps_shows_a_key(
    answer: Answer, provider: Provider, secret: str
) -> None:
    provider.answer_with(answer)
    try:
        ask(provider, secret)
        ask(provider, f"Bearer {secret}", CHAT_PATH, "authorization")
    except http.client.RemoteDisconnected:
        pass
    shown = [secret in text for text in everything_in(provider)]
    assert len(shown) > 10
    assert not any(shown)


def test_a_call_on_its_way_does_not_show_its_key(secret: str) -> None:
    call = Request(MESSAGES_PATH, {}, secret.encode(), "x-api-key", secret)
    is_shown = secret in repr(call) + str(call)
    assert not is_shown


def everything_in(thing: object, depth: int = 6) -> Iterator[str]:
    """`repr` and `str` of an object and of all it is made of."""
    yield repr(thing)
    yield str(thing)
    if isinstance(thing, dict):
        parts = [*thing.keys(), *thing.values()]
    elif isinstance(thing, list | tuple | set):
        parts = list(thing)
    else:
        slots = getattr(type(thing), "__slots__", ())
        parts = [getattr(thing, name, None) for name in slots]
        parts += list(getattr(thing, "__dict__", {}).values())
    for part in parts if depth else []:
        yield from everything_in(part, depth - 1)


# -- as a program


def test_it_serves_as_a_program_until_it_is_told_to_end(tmp_path: Path) -> None:
    values = [secrets.token_hex(16) for _ in range(3)]
    names = {f"ANTHROPIC_API_KEY_{n}": v for n, v in enumerate(values, start=1)}
    log = tmp_path / "calls.log"
    command = [sys.executable, "-m", "tests.provider", "--keys", "3", "--pools", "2"]
    command += ["--per-minute", "1", "--log", str(log)]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | names | {"ANTHROPIC_POOL_3": "mine"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as program:
        assert program.stdout
        line = program.stdout.readline()
        told = json.loads(line)
        pools = {"anthropic-1": "pool-1", "anthropic-2": "pool-2"}
        assert told["keys"] == pools | {"anthropic-3": "mine"}
        connection = connect(told["url"])
        for value in (values[0], values[0], "none"):
            headers = {"x-api-key": value, "anthropic-version": "2026-10-21"}
            connection.request("POST", MESSAGES_PATH, json.dumps(request()), headers)
            connection.getresponse().read()
        wait_until(lambda: len(log.read_text().splitlines()) == 3)
        program.send_signal(signal.SIGTERM)
        rest = program.stdout.read()
        connection.close()
    assert program.returncode == 0
    assert rest == ""
    logged = [line.split()[1:] for line in log.read_text().splitlines()]
    assert logged == [
        ["anthropic-1", "200"],
        ["anthropic-1", "429"],
        ["unknown", "401"],
    ]
    shown = [value in line + log.read_text() for value in values]
    assert not any(shown)


def test_as_a_program_it_says_which_key_it_lacks() -> None:
    bare = {n: v for n, v in os.environ.items() if not n.startswith("ANTHROPIC_")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.provider", "--keys", "1"],
        cwd=ROOT,
        env=bare,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "ANTHROPIC_API_KEY_1 is not in the environment" in done.stderr
