"""One call over HTTP: what comes back, whatever a server or a network does."""

import asyncio
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from types import ModuleType
from typing import Any

import msgspec
import pytest

from farm.agent import read_agent
from farm.formats import Answer, messages, openai
from farm.post import Got, Question, client, post
from farm.trouble import Kind, Trouble
from tests.provider.answers import HUGE, Cut, InStream, Says
from tests.provider.rows import GARBAGE, ROWS, redirect
from tests.provider.server import Provider

Make = Callable[..., Question]
BOTH = [messages, openai]
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as there:
        yield there


@pytest.fixture
def make(provider: Provider) -> Make:
    secret = secrets.token_hex(20)
    provider.add_key("a", secret)

    def question(form: ModuleType, **told: Any) -> Question:
        name = form.__name__.rpartition(".")[2]
        url = provider.url + ("/v1" if form is openai else "")
        agent = read_agent({"kind": name, **told})
        return Question(form, agent, url, secret, "m", "hello ☃")

    return question


def ask(question: Question) -> Got:
    async def once() -> Got:
        async with client(1) as http:
            return await post(http, question)

    return asyncio.run(once())


def answer(got: Got) -> Answer:
    assert isinstance(got.answer, Answer), got.answer
    return got.answer


def trouble(got: Got) -> Trouble:
    assert isinstance(got.answer, Trouble), got.answer
    return got.answer


@pytest.mark.parametrize("form", BOTH)
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_has_its_text_its_usage_and_its_model(
    make: Make, form: ModuleType, *, stream: bool
) -> None:
    found = answer(ask(make(form, stream=stream)))
    assert (found.text, found.model, found.fault) == ("echo: hello ☃", "m", None)
    assert (found.usage.input_tokens, found.usage.output_tokens) == (2, 3)


@pytest.mark.parametrize("form", BOTH)
def test_what_is_sent_is_the_agents_and_says_who_we_are(
    provider: Provider, make: Make, form: ModuleType
) -> None:
    told = {"system": "Be brief.", "temperature": 0.0, "output_schema": SCHEMA}
    ask(make(form, **told))
    (call,) = provider.calls
    assert call.headers["user-agent"] == "dirfarm"
    assert call.headers["content-type"] == "application/json"
    assert (call.key, call.key_header) == ("a", "authorization")
    assert (call.body["model"], call.body["temperature"]) == ("m", 0.0)


@pytest.mark.parametrize("form", BOTH)
def test_the_key_may_go_in_a_header_of_its_own(
    provider: Provider, make: Make, form: ModuleType
) -> None:
    ask(make(form, auth="x-api-key"))
    assert [call.key_header for call in provider.calls] == ["x-api-key"]


@pytest.mark.parametrize("form", BOTH)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("answer_", [GARBAGE, Cut(), Cut(midway=True)])
def test_no_answer_is_trouble_with_the_endpoint(
    provider: Provider, make: Make, form: ModuleType, answer_: Any, *, stream: bool
) -> None:
    provider.answer_with(answer_)
    found = trouble(ask(make(form, stream=stream)))
    assert found.kind is Kind.OVERLOAD
    assert provider.url in found.message


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ("overloaded", Kind.OVERLOAD),
        ("rate_limit", Kind.RATE),
        ("authentication", Kind.DEAD),
        ("credit_balance", Kind.SPENT),
        ("openai_server_error", Kind.OVERLOAD),
        ("openai_insufficient_quota", Kind.SPENT),
        ("openai_rate_limit", Kind.RATE),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_an_error_inside_a_stream_means_what_it_means_outside(
    provider: Provider, make: Make, row: str, kind: Kind, *, stream: bool
) -> None:
    form = openai if row.startswith("openai") else messages
    provider.answer_with(InStream(ROWS[row]))
    assert trouble(ask(make(form, stream=stream))).kind is kind


@pytest.mark.parametrize("form", BOTH)
def test_no_redirect_is_followed(
    provider: Provider, make: Make, form: ModuleType
) -> None:
    with Provider() as other:
        provider.answer_with(redirect(other.url))
        assert trouble(ask(make(form))).kind is Kind.BAD
        assert other.calls == []


@pytest.mark.parametrize("form", BOTH)
def test_an_answer_of_ten_megabytes_comes_whole(
    provider: Provider, make: Make, form: ModuleType
) -> None:
    provider.answer_with(HUGE)
    assert answer(ask(make(form))).text == HUGE.text


@pytest.mark.parametrize("form", BOTH)
def test_an_answer_that_was_cut_is_kept_with_its_fault(
    provider: Provider, make: Make, form: ModuleType
) -> None:
    provider.answer_with(Says("half of", stop="max_tokens"))
    found = answer(ask(make(form)))
    assert found.text == "half of"
    assert found.fault is not None


@pytest.mark.parametrize("form", BOTH)
def test_an_agent_may_be_asked_at_an_address_that_nobody_listens_at(
    make: Make, form: ModuleType
) -> None:
    with closing(socket.socket()) as there:
        there.bind(("127.0.0.1", 0))  # so nobody else comes to listen there
        port = there.getsockname()[1]
        url = f"http://user:password@127.0.0.1:{port}"
        got = ask(msgspec.structs.replace(make(form), base_url=url))
    assert trouble(got).kind is Kind.OVERLOAD
    assert f"cannot reach http://127.0.0.1:{port}" in trouble(got).message
    assert "password" not in trouble(got).message


def serve(raw: bytes) -> str:
    """A server that answers one call with these bytes; its address."""
    there = socket.create_server(("127.0.0.1", 0))

    def answer_once() -> None:
        with there, there.accept()[0] as peer:
            peer.recv(65_536)
            peer.sendall(raw)

    threading.Thread(target=answer_once).start()
    return f"http://127.0.0.1:{there.getsockname()[1]}"


def http(kind: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


DEEP = b"[" * 100_000
HOLE = (
    b'data: {"choices": [{"delta": {"content": "a"}}]}\n\ndata: {"choi\n\n'
    b'data: {"choices": [{"delta": {"content": "c"}, "finish_reason": "stop"}]}\n\n'
)


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        ("application/json", b"[]", "it is no JSON object"),
        ("application/json", b"{}", "it is no message"),
        ("application/json", DEEP, "it is no JSON object"),
        ("application/json", b"", "it is no JSON object"),
        ("text/html", b"<html>hello</html>", "it is no JSON object"),
        ("text/event-stream", b"", "the stream broke off"),
        ("text/event-stream", b"data: [DONE]\n\n", "the stream broke off"),
        ("Text/Event-Stream", HOLE, "an event that is no JSON object"),
        ("text/event-stream", b"data: " + DEEP + b"\n\n", "no JSON object"),
        ("application/json", b'{"error": "model is loading"}', "model is loading"),
        ("text/event-stream", b'data: {"error": "it is loading"}\n\n', "is loading"),
    ],
)
def test_a_success_that_is_no_answer_is_trouble(
    make: Make, kind: str, body: bytes, words: str
) -> None:
    url = serve(http(kind, body))
    got = ask(msgspec.structs.replace(make(openai), base_url=url))
    assert trouble(got).kind is Kind.OVERLOAD
    assert words in trouble(got).message


@pytest.mark.parametrize("raw", [b"", b"hello\r\n\r\n", b"HTTP/1.1 200 OK\r\nX"])
def test_what_is_no_http_is_trouble(make: Make, raw: bytes) -> None:
    got = ask(msgspec.structs.replace(make(messages), base_url=serve(raw)))
    assert trouble(got).kind is Kind.OVERLOAD


def test_an_error_that_is_null_is_none(make: Make) -> None:
    body = (
        b'{"error": null, "choices": [{"message": {"content": "a"},'
        b' "finish_reason": "stop"}]}'
    )
    url = serve(http("application/json", body))
    got = ask(msgspec.structs.replace(make(openai), base_url=url))
    assert answer(got).text == "a"


def test_a_question_shows_neither_key_nor_prompt(make: Make) -> None:
    question = make(messages)
    assert (question.secret in repr(question), "hello" in repr(question)) == (
        False,
        False,
    )


def test_a_call_can_be_cancelled_and_its_client_goes_on(
    provider: Provider, make: Make
) -> None:
    provider.hold(times=1)

    async def go() -> Got:
        async with client(1) as http:
            first = asyncio.create_task(post(http, make(messages)))
            await asyncio.to_thread(provider.wait_for_calls, 1)
            first.cancel()
            await asyncio.wait([first])
            assert first.cancelled()
            return await post(http, make(messages))

    assert answer(asyncio.run(go())).text == "echo: hello ☃"


@pytest.mark.parametrize("form", BOTH)
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_without_an_end_is_none_however_it_comes(
    make: Make, form: ModuleType, *, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farm.post._MOST_BYTES", 100)
    found = trouble(ask(make(form, stream=stream)))
    assert "it has more than 100 bytes" in found.message
