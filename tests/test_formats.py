"""How each API is spoken to, and what is made of what it says; without a network."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.agent import Agent, read_agent
from farm.formats import Answer, NoAnswerError, dig, messages, number, openai, text
from farm.result import Usage

ANY = st.recursive(
    st.sampled_from([None, True, -1, 7, 10**30, 0.5, "", "text", "message"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "content",
                    "choices",
                    "message",
                    "delta",
                    "usage",
                    "text",
                    "model",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)
OBJECTS = st.dictionaries(
    st.sampled_from(["type", "content", "choices", "message", "delta", "usage"]),
    ANY,
    max_size=5,
)
SCHEMA = {"type": "object"}


def agent(kind: str, **told: Any) -> Agent:
    return read_agent({"kind": kind, **told})


# -- asking -------------------------------------------------------------------------


def test_a_call_of_the_messages_api_says_only_what_the_agent_says() -> None:
    assert messages.url("http://x") == "http://x/v1/messages"
    assert messages.body(agent("messages"), "m", "hi") == {
        "model": "m",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
    }


def test_a_call_of_the_messages_api_says_all_that_the_agent_says() -> None:
    told = {"system": "s", "temperature": 0.0, "max_tokens": 5, "stream": False}
    said = messages.body(agent("messages", **told, output_schema=SCHEMA), "m", "hi")
    assert said.items() >= told.items()
    assert said["output_config"] == {
        "format": {"type": "json_schema", "schema": SCHEMA}
    }


def test_chat_completions_ask_for_the_usage_of_a_stream() -> None:
    assert openai.url("http://x/v1") == "http://x/v1/chat/completions"
    assert openai.body(agent("openai"), "m", "hi") == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_chat_completions_say_all_that_the_agent_says() -> None:
    told = {"temperature": 0.0, "stream": False}
    who = agent("openai", **told, system="s", output_schema=SCHEMA)
    said = openai.body(who, "m", "hi")
    assert said.items() >= told.items()
    assert said["messages"][0] == {"role": "system", "content": "s"}
    assert said["response_format"]["json_schema"]["schema"] == SCHEMA
    assert "stream_options" not in said


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (None, "max_completion_tokens"),
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("http://127.0.0.1:8000/v1", "max_tokens"),
    ],
)
def test_the_limit_has_the_name_that_a_server_knows(url: str | None, name: str) -> None:
    said = openai.body(agent("openai", base_url=url, max_tokens=7), "m", "hi")
    assert {k: v for k, v in said.items() if "tokens" in k} == {name: 7}


@pytest.mark.parametrize("form", [messages, openai])
@pytest.mark.parametrize(
    ("auth", "expected"),
    [("bearer", {"authorization": "Bearer k"}), ("x-api-key", {"x-api-key": "k"})],
)
def test_the_key_goes_where_the_agent_says(
    form: Any, auth: str, expected: dict[str, str]
) -> None:
    said = form.headers(agent("messages", auth=auth), "k")
    assert {k: v for k, v in said.items() if k != "anthropic-version"} == expected


@pytest.mark.parametrize("form", [messages, openai])
def test_without_a_key_no_header_speaks_of_one(form: Any) -> None:
    assert not {"authorization", "x-api-key"} & set(form.headers(agent("openai"), ""))


# -- answers ----------------------------------------------------------------------------


def chat(finish: str | None = "stop", **message: Any) -> dict[str, Any]:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 3},
    }
    choice = {"message": message, "finish_reason": finish}
    return {"model": "m", "choices": [choice], "usage": usage}


def whole(reason: str = "end_turn", *blocks: dict[str, Any]) -> dict[str, Any]:
    usage = {
        "input_tokens": 5,
        "output_tokens": 4,
        "cache_read_input_tokens": 3,
        "cache_creation_input_tokens": None,
    }
    said = {"type": "message", "model": "m", "stop_reason": reason, "usage": usage}
    return {**said, "content": list(blocks)}


def test_of_a_message_the_texts_are_the_answer() -> None:
    found = messages.whole(
        whole(
            "end_turn",
            {"type": "thinking", "thinking": "hm", "text": "no"},
            {"type": "text", "text": "a"},
            {"type": "text", "text": "b"},
        )
    )
    usage = Usage(input_tokens=8, output_tokens=4, cached_tokens=3, turns=1)
    assert found == Answer("ab", usage, "m", None)


def test_of_a_completion_the_first_choice_is_the_answer() -> None:
    usage = Usage(input_tokens=9, output_tokens=4, cached_tokens=3, turns=1)
    assert openai.whole(chat(content="ab")) == Answer("ab", usage, "m", None)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("max_tokens", "cut at `max_tokens`"),
        ("refusal", "refused to answer"),
        ("model_context_window_exceeded", "do not fit the model"),
        ("tool_use", "asked for a tool"),
    ],
)
def test_a_message_that_ended_otherwise_has_a_fault(reason: str, words: str) -> None:
    fault = messages.whole(whole(reason, {"type": "text", "text": "a"})).fault
    assert fault is not None
    assert words in fault


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("length", "cut at `max_tokens`"),
        ("content_filter", "content filter"),
        ("tool_calls", "asked for a tool"),
    ],
)
def test_a_completion_that_ended_otherwise_has_a_fault(reason: str, words: str) -> None:
    fault = openai.whole(chat(reason, content="a")).fault
    assert fault is not None
    assert words in fault


def test_a_refusal_in_its_own_field_is_a_fault() -> None:
    found = openai.whole(chat(content=None, refusal="I will not."))
    assert found.fault == "the model refused to answer: I will not."


@pytest.mark.parametrize("body", [{}, {"type": "error"}, {"type": "message"}])
def test_what_is_no_message_is_no_answer(body: dict[str, Any]) -> None:
    with pytest.raises(NoAnswerError):
        messages.whole(body)


@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": ["a"]}])
def test_what_has_no_choice_is_no_answer(body: dict[str, Any]) -> None:
    with pytest.raises(NoAnswerError):
        openai.whole(body)


@pytest.mark.parametrize("count", [-1, 1.5, "7", None, 10**30])
def test_a_count_that_nobody_can_mean_counts_nothing(count: object) -> None:
    body = chat(content="a") | {"usage": {"prompt_tokens": count}}
    assert openai.whole(body).usage.input_tokens == 0


# -- answers in parts ------------------------------------------------------------------


def parts(form: Any, *events: dict[str, Any]) -> Answer:
    there = form.Parts()
    for event in events:
        there.take(event)
    found: Answer = there.end()
    return found


START = {
    "type": "message_start",
    "message": {"model": "m", "usage": {"input_tokens": 5, "output_tokens": 1}},
}
HALF = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "a"}}
OTHER = {"type": "content_block_delta", "delta": {"thinking": "hm"}}
LAST = {
    "type": "message_delta",
    "delta": {"stop_reason": "end_turn"},
    "usage": {"output_tokens": 4, "input_tokens": None},
}
STOP = {"type": "message_stop"}


def test_a_message_in_parts_is_the_same_answer() -> None:
    found = parts(messages, START, {"type": "ping"}, OTHER, HALF, HALF, LAST, STOP)
    usage = Usage(input_tokens=5, output_tokens=4, turns=1)
    assert found == Answer("aa", usage, "m", None)


def test_a_message_without_its_last_event_broke_off() -> None:
    with pytest.raises(NoAnswerError, match="broke off"):
        parts(messages, START, HALF, LAST)


def piece(content: str | None, finish: str | None = None) -> dict[str, Any]:
    choice = {"delta": {"content": content}, "finish_reason": finish}
    return {"model": "m", "choices": [choice]}


def test_a_completion_in_parts_is_the_same_answer() -> None:
    usage = {"model": "m", "choices": [], "usage": chat()["usage"]}
    pieces = [piece(None), piece("a"), piece("b"), piece(None, "stop")]
    assert parts(openai, *pieces, usage) == openai.whole(chat(content="ab"))
    assert parts(openai, *pieces).usage == Usage(turns=1)


def test_a_completion_without_a_reason_to_end_broke_off() -> None:
    with pytest.raises(NoAnswerError, match="broke off"):
        parts(openai, piece("a"), piece("b"))


# -- hostile answers -------------------------------------------------------------------


@given(OBJECTS, st.lists(OBJECTS, max_size=4))
@pytest.mark.parametrize("form", [messages, openai])
def test_whatever_comes_is_an_answer_or_none(
    form: Any, body: dict[str, Any], events: list[dict[str, Any]]
) -> None:
    for make in (lambda: form.whole(body), lambda: parts(form, *events)):
        try:
            found = make()
        except NoAnswerError:
            continue
        assert isinstance(found.text, str)
        assert msgspec.json.encode(found.usage)


@given(ANY, st.lists(st.sampled_from(["text", "usage", "choices", 0, 1])))
def test_a_way_that_leads_nowhere_ends_in_nothing(
    value: object, path: list[str | int]
) -> None:
    dig(value, *path)
    assert isinstance(number(value, *path), int)
    assert isinstance(text(value, *path), str)
