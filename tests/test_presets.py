"""How agents' command lines are spoken to, and what their output is taken for."""

import json
import math
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from farm.agent import Agent
from farm.keys import Key
from farm.presets import Answer, Exited, claude, codex, plain, preset_of
from farm.presets.limits import UNKNOWN, Said, reset_at, told
from farm.result import Usage
from farm.trouble import DAY, Kind

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC).timestamp()  # a Saturday
WELL = Exited(ok=True)
BADLY = Exited(ok=False, words="exit code 1")
SESSION = "11111111-2222-4333-8444-555555555555"


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is UTC, wherever the tests run."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def lines(*said: dict[str, Any] | str | bytes) -> list[bytes]:
    """An output: events, and whatever else is printed."""
    return [
        one
        if isinstance(one, bytes)
        else (one if isinstance(one, str) else json.dumps(one)).encode() + b"\n"
        for one in said
    ]


def result(**told_by: Any) -> dict[str, Any]:
    """The last event of a turn that went well, but for this."""
    return {
        "type": "result",
        "subtype": "success",
        "is_error": False,
        "result": "Done.",
        "session_id": SESSION,
        "num_turns": 3,
        "total_cost_usd": 0.25,
        "usage": {
            "input_tokens": 10,
            "cache_read_input_tokens": 100,
            "cache_creation_input_tokens": 1000,
            "output_tokens": 7,
        },
    } | told_by


def init() -> dict[str, Any]:
    """The first event of a turn."""
    return {"type": "system", "subtype": "init", "session_id": SESSION, "model": "opus"}


def retry(error: str, status: int | None = None) -> dict[str, Any]:
    """The program says that it was refused, and tries again."""
    told_by = {"type": "system", "subtype": "api_retry", "error": error}
    return told_by | ({"error_status": status} if status else {})


def answers(text: str) -> dict[str, Any]:
    """The model says something."""
    content = [{"type": "text", "text": text}]
    return {"type": "assistant", "message": {"content": content}}


def by_claude(*said: dict[str, Any] | str | bytes, exited: Exited = WELL) -> Answer:
    return claude.read(lines(*said), exited, NOW)


def by_codex(*said: dict[str, Any] | str | bytes, exited: Exited = WELL) -> Answer:
    return codex.read(lines(*said), exited, NOW)


def kind_of(answer: Answer) -> Kind | None:
    return answer.trouble.kind if answer.trouble else None


# -- command lines --------------------------------------------------------------------


def test_claude_gets_its_caps_and_then_the_words_of_its_agent() -> None:
    agent = Agent(
        preset="claude", model="opus", max_turns=60, max_cost_usd=2.5, args=("--bare",)
    )

    assert claude.argv(agent, SESSION, resume=False) == [
        *("claude", "-p", "--output-format", "stream-json", "--verbose"),
        *("--session-id", SESSION, "--model", "opus", "--max-turns", "60"),
        *("--max-budget-usd", "2.5", "--bare"),
    ]


def test_claude_resumes_a_session_and_then_names_no_new_one() -> None:
    words = claude.argv(Agent(preset="claude"), SESSION, resume=True)

    assert words[-2:] == ["--resume", SESSION]
    assert "--session-id" not in words


def test_a_command_stands_in_for_the_name_of_its_preset() -> None:
    agent = Agent(preset="codex", command=("npx", "codex"))

    assert codex.argv(agent, None, resume=False) == [
        *("npx", "codex", "exec", "--json", "-")
    ]


def test_codex_gets_what_only_exec_knows_before_resume() -> None:
    agent = Agent(preset="codex", model="gpt", args=("--sandbox", "read-only"))

    assert codex.argv(agent, "thread-1", resume=True) == [
        *("codex", "exec", "--json", "--model", "gpt", "--sandbox", "read-only"),
        *("resume", "thread-1", "-"),
    ]


def test_a_plain_command_gets_its_own_words_only() -> None:
    agent = Agent(command=("my-agent", "--json"), args=("-x",))

    assert plain.argv(agent, None, resume=False) == ["my-agent", "--json", "-x"]
    assert preset_of(agent).session(lines(init())) is None


def test_codex_finds_its_key_under_the_name_that_exec_reads() -> None:
    secret = secrets.token_hex(16)
    given = codex.variables(Key("openai-1", "openai", secret))

    assert set(given) == {"OPENAI_API_KEY", "CODEX_API_KEY"}
    assert set(given.values()) == {secret}


def test_a_key_of_another_provider_is_found_where_the_program_looks() -> None:
    given = claude.variables(Key("other-1", "other", "x", base_url="http://127.0.0.1"))

    assert set(given) == {"ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"}


# -- claude: how a turn went -------------------------------------------------------------


def test_a_result_tells_text_usage_session_and_model() -> None:
    answer = by_claude(init(), answers("Let me see."), result())

    assert answer == Answer(
        text="Done.",
        usage=Usage(
            input_tokens=1110,
            output_tokens=7,
            cached_tokens=100,
            turns=3,
            cost_usd=0.25,
        ),
        session=SESSION,
        model="opus",
    )


def test_without_a_result_exit_0_is_a_failure() -> None:
    answer = by_claude(init(), answers("Done."), "Monthly request limit reached")

    assert answer.error is not None
    assert answer.error.message == (
        "it ended without a result: Monthly request limit reached"
    )
    assert answer.trouble is None


def test_prose_about_a_usage_limit_is_no_limit() -> None:
    prose = "Claude AI usage limit reached|1795219815 is what it prints."
    answer = by_claude(answers(prose), result(result=prose))

    assert (answer.error, answer.trouble) == (None, None)


def test_prose_is_no_limit_even_if_the_program_then_fails() -> None:
    prose = "You've hit your session limit · resets 3:45pm"
    answer = by_claude(answers(prose), result(result=prose), exited=BADLY)

    assert answer.error is not None
    assert answer.trouble is None


@pytest.mark.parametrize(
    ("subtype", "kind"),
    [("error_max_turns", "max_turns"), ("error_max_budget_usd", "budget")],
)
def test_a_cap_of_the_task_is_its_failure_and_no_refusal(
    subtype: str, kind: str
) -> None:
    said = (retry("rate_limit", 429), result(subtype=subtype, is_error=True))
    answer = by_claude(*said, exited=BADLY)

    assert answer.error is not None
    assert (answer.error.kind, answer.trouble) == (kind, None)
    assert answer.was_given
    assert answer.usage is not None


def test_an_error_during_execution_says_what_it_lists() -> None:
    said = result(subtype="error_during_execution", errors=["it broke"], is_error=True)
    answer = by_claude({**said, "result": ""}, exited=BADLY)

    assert answer.error is not None
    assert answer.error.message == "exit code 1: it broke"
    assert not answer.was_given


@pytest.mark.parametrize(
    "noise",
    [
        b'{"type": "assistant", "message": {"content": [{"te',
        b"\xff\xfe\x00 no text\n",
        b"[1, 2]\n",
        b'{"type": 7, "session_id": ["x"]}\n',
        b'{"type": "rate_limit_event", "rate_limit_info": "soon"}\n',
        b'{"type": "assistant", "error": {"no": "text"}}\n',
        b'{"type": "result_of_a_newer_version"}\n',
        b"\n",
        b"[" * 100_000 + b"\n",
    ],
    ids=["cut", "bytes", "list", "types", "odd", "error", "unknown", "empty", "deep"],
)
def test_noise_in_an_output_is_passed_over(noise: bytes) -> None:
    answer = by_claude(init(), noise + b"\n", result())

    assert (answer.text, answer.error) == ("Done.", None)


def test_a_stream_that_is_cut_in_its_result_has_none() -> None:
    whole = lines(result())[0]
    answer = by_claude(init(), whole[:-40])

    assert answer.error is not None
    assert answer.error.message == "it ended without a result"


def test_half_a_letter_in_an_answer_does_not_lose_the_answer() -> None:
    told_by = json.dumps(result(result="x")).replace('"x"', r'"a \ud83d b 😀"')
    answer = by_claude(told_by)

    assert answer.text == "a \ufffd b 😀"
    assert msgspec.json.encode(answer.text)


def test_numbers_that_count_nothing_are_0() -> None:
    odd = result(num_turns=True, total_cost_usd=-1, usage={"input_tokens": "many"})
    answer = by_claude(odd)

    assert answer.usage == Usage()


def test_a_very_long_answer_is_bounded() -> None:
    answer = by_claude(result(result="x" * (3 << 20)))

    assert answer.text is not None
    assert len(answer.text) == 1 << 20


# -- claude: what a refusal means --------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Kind.DEAD),
        (403, Kind.FORBIDDEN),
        (404, Kind.NO_MODEL),
        (402, Kind.SPENT),
        (429, Kind.RATE),
        (400, Kind.BAD),
        (500, Kind.OVERLOAD),
        (529, Kind.OVERLOAD),
    ],
)
def test_the_status_in_a_result_decides(status: int, kind: Kind) -> None:
    said = result(is_error=True, api_error_status=status, result="It says no.")

    assert kind_of(by_claude(said)) is kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("rate_limit", Kind.RATE),
        ("overloaded", Kind.OVERLOAD),
        ("billing_error", Kind.SPENT),
        ("authentication_failed", Kind.DEAD),
        ("something_new", None),
    ],
)
def test_the_last_retry_decides_where_no_result_came(
    error: str, kind: Kind | None
) -> None:
    killed = Exited(ok=False, words="exit code 143")

    assert kind_of(by_claude(init(), retry(error), exited=killed)) is kind


def test_a_retry_that_was_answered_means_nothing() -> None:
    killed = Exited(ok=False, words="exit code 143")
    said = (init(), retry("rate_limit", 429), answers("Now I can."))

    assert by_claude(*said, exited=killed).trouble is None


def test_an_answer_that_is_an_error_answers_no_retry() -> None:
    error = answers("API Error") | {"error": "rate_limit"}

    assert kind_of(by_claude(init(), error, exited=BADLY)) is Kind.RATE


@pytest.mark.parametrize("nested", [True, False], ids=["nested", "flat"])
def test_a_limit_rests_until_its_event_says(nested: bool) -> None:
    info = {"status": "rejected", "resetsAt": NOW + 7200}
    told_by = {"rate_limit_info": info} if nested else info
    event = {"type": "rate_limit_event", **told_by}
    text = "You've hit your session limit · resets 3:45pm"
    answer = by_claude(event, result(is_error=True, api_error_status=429, result=text))

    assert answer.trouble is not None
    assert (answer.trouble.kind, answer.trouble.until) == (Kind.SPENT, NOW + 7200)


@pytest.mark.parametrize("at", [NOW - 1, NOW + 9 * DAY, (NOW + 60) * 1000, math.inf])
def test_an_end_that_nobody_can_mean_is_in_a_while(at: float) -> None:
    trouble = told(Said(rejected=True, resets_at=at), NOW)

    assert trouble is not None
    assert trouble.until == NOW + UNKNOWN


def test_a_warning_before_a_failure_is_no_limit() -> None:
    warned = {"status": "allowed_warning", "resetsAt": NOW + 60}
    event = {"type": "rate_limit_event", "rate_limit_info": warned}
    answer = by_claude(event, result(is_error=True, result="It broke."))

    assert answer.error is not None
    assert answer.trouble is None


def test_of_a_dead_key_its_words_are_not_told() -> None:
    text = "invalid x-api-key ...wxyz"
    answer = by_claude(result(is_error=True, api_error_status=401, result=text))

    assert answer.trouble is not None
    assert "wxyz" not in answer.trouble.message


def test_a_session_that_is_not_there_is_told_apart() -> None:
    gone = Exited(
        False, "exit code 1", f"No conversation found with session ID: {SESSION}"
    )

    assert by_claude(exited=gone).unknown_session
    assert not by_claude(answers(gone.stderr), exited=BADLY).unknown_session


def at(month: int, day: int, hour: int, minute: int = 0) -> float:
    """A time of this year."""
    return datetime(2026, month, day, hour, minute, tzinfo=UTC).timestamp()


SOON = NOW + UNKNOWN
TEXTS: list[tuple[str, Kind, float | None]] = [
    ("You've hit your session limit · resets 3:45pm", Kind.SPENT, at(11, 21, 15, 45)),
    ("You've hit your session limit · resets 11am", Kind.SPENT, at(11, 22, 11)),
    ("You've hit your weekly limit · resets Mon 12:00am", Kind.SPENT, at(11, 23, 0)),
    ("You've hit your weekly limit · resets Sat 1am", Kind.SPENT, at(11, 28, 1)),
    ("You\u2019ve hit your limit · resets Nov 24, 5pm", Kind.SPENT, at(11, 24, 17)),
    (
        "You've hit your limit · resets 2pm (Asia/Shanghai)",
        Kind.SPENT,
        at(11, 22, 6),
    ),
    ("You've hit your session limit · resets 2pm (Mars/Base)", Kind.SPENT, at(11, 21, 14)),
    ("You've hit your Opus limit · resets Tue 9:30am", Kind.RATE, at(11, 24, 9, 30)),
    ("You've hit your monthly spend limit", Kind.SPENT, SOON),
    ("You've hit your org's monthly spend limit", Kind.SPENT, SOON),
    ("You've hit your individual spend limit · resets Dec 30", Kind.SPENT, SOON),
    ("You've hit your weekly limit · resets 13:00pm", Kind.SPENT, SOON),
    (f"Claude AI usage limit reached|{int(NOW) + 600}", Kind.SPENT, NOW + 600),
    ("Claude AI usage limit reached", Kind.SPENT, SOON),
    ("API Error: Request rejected (429) · try later", Kind.RATE, NOW + 60),
    ("Credit balance is too low", Kind.SPENT, None),
    ("Repeated 529 Overloaded errors · try later", Kind.OVERLOAD, None),
    (
        "API Error: Server is temporarily limiting requests (not your usage limit)",
        Kind.OVERLOAD,
        None,
    ),
    (
        "spend limit reached (daily; resets 2026-11-23 00:00 UTC)",
        Kind.SPENT,
        at(11, 23, 0),
    ),
    ('API Error: 529 {"type":"error","error":{"type":"overloaded_error"}}', Kind.OVERLOAD, None),
    (
        'API Error: 400 {"error":{"message":"Your credit balance is too low to go on"}}',
        Kind.SPENT,
        None,
    ),
    ("Invalid API key · Please run /login", Kind.DEAD, None),
    (
        "You've hit your usage limit. Upgrade, or try again at Nov 28th, 2026 10:03 PM.",
        Kind.SPENT,
        at(11, 28, 22, 3),
    ),
    ("You've hit your usage limit. Please try again at 3:45 PM.", Kind.SPENT, at(11, 21, 15, 45)),
    ("Quota exceeded. Check your plan and billing details.", Kind.SPENT, None),
    ("Selected model is at capacity. Please try another.", Kind.OVERLOAD, None),
    ("exceeded retry limit, last status: 429 Too Many Requests", Kind.RATE, NOW + 60),
    ("exceeded retry limit, last status: 503 Unavailable", Kind.OVERLOAD, None),
    ("unexpected status 401 Unauthorized: no", Kind.DEAD, None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "kind", "until"), TEXTS, ids=[t[0][:60] for t in TEXTS]
)
def test_a_refusal_in_words_is_understood(
    text: str, kind: Kind, until: float | None
) -> None:
    by_result = by_claude(result(is_error=True, result=text), exited=BADLY)
    by_line = by_claude(text, exited=BADLY)
    by_turn = by_codex({"type": "turn.failed", "error": {"message": text}})

    for answer in (by_result, by_line, by_turn):
        assert answer.trouble is not None
        assert (answer.trouble.kind, answer.trouble.until) == (kind, until)


@pytest.mark.parametrize("text", [t[0] for t in TEXTS], ids=[t[0][:60] for t in TEXTS])
def test_the_same_words_further_on_are_no_refusal(text: str) -> None:
    assert told(Said(words=[f"The log says: {text}"]), NOW) is None


def test_a_number_at_the_beginning_of_a_line_is_no_status() -> None:
    assert told(Said(words=["500 files changed"]), NOW) is None


def test_a_time_without_a_day_is_the_next_such_time() -> None:
    assert reset_at("resets 12:00am", NOW) == at(11, 22, 0)
    assert reset_at("resets 12pm", NOW - 1) == NOW
    assert reset_at("resets 12pm", NOW) == at(11, 22, 12)


def test_a_date_without_a_year_is_the_next_such_date() -> None:
    found = reset_at("resets Jan 2, 5am", NOW)

    assert found == datetime(2027, 1, 2, 5, tzinfo=UTC).timestamp()


# -- codex --------------------------------------------------------------------------------


THREAD = {"type": "thread.started", "thread_id": "thread-1"}
SAYS = {"type": "item.completed", "item": {"type": "agent_message", "text": "Done."}}
COMPLETED = {
    "type": "turn.completed",
    "usage": {"input_tokens": 50, "cached_input_tokens": 40, "output_tokens": 5},
}


def test_a_completed_turn_tells_its_last_message_usage_and_thread() -> None:
    thinks = {"type": "item.completed", "item": {"type": "reasoning", "text": "Hm."}}
    first = {
        "type": "item.completed",
        "item": {"type": "agent_message", "text": "I look."},
    }
    answer = by_codex(THREAD, first, SAYS, thinks, COMPLETED)

    usage = Usage(input_tokens=50, output_tokens=5, cached_tokens=40, turns=1)
    assert answer == Answer(text="Done.", usage=usage, session="thread-1")


def test_a_failed_turn_fails_at_exit_0_too() -> None:
    failed = {"type": "turn.failed", "error": {"message": "it broke"}}
    answer = by_codex(THREAD, SAYS, failed)

    assert answer.error is not None
    assert answer.error.message == "it broke"
    assert answer.trouble is None


def test_reconnecting_is_nothing_final() -> None:
    trying = {"type": "error", "message": "Reconnecting... 1/5 (last status: 429)"}

    assert by_codex(THREAD, trying, SAYS, COMPLETED).error is None


def test_a_turn_that_fails_after_another_was_completed_fails() -> None:
    failed = {"type": "turn.failed", "error": {"message": "it broke"}}

    assert by_codex(THREAD, COMPLETED, failed).error is not None


def test_reconnecting_is_not_why_it_failed() -> None:
    trying = {"type": "error", "message": "Reconnecting... 2/5"}
    answer = by_codex(trying, exited=Exited(False, "exit code 1", "no network"))

    assert answer.error is not None
    assert answer.error.message == "exit code 1: no network"


def test_an_exit_without_a_turn_is_a_failure() -> None:
    answer = by_codex(THREAD, SAYS)

    assert answer.error is not None
    assert answer.error.message == "it ended without a result"


def test_what_codex_says_as_an_agent_is_no_refusal() -> None:
    text = "You've hit your usage limit. Quota exceeded."
    says = {"type": "item.completed", "item": {"type": "agent_message", "text": text}}
    answer = by_codex(THREAD, says, exited=BADLY)

    assert answer.error is not None
    assert answer.trouble is None


@pytest.mark.parametrize(
    "words",
    [
        "Error: thread/resume: no rollout found for thread id thread-1",
        "No saved session found with ID thread-1",
    ],
)
def test_a_thread_that_is_not_there_is_told_apart(words: str) -> None:
    assert by_codex(exited=Exited(False, "exit code 1", words)).unknown_session


# -- sessions, and plain commands ----------------------------------------------------------


def test_a_session_has_begun_when_an_event_names_it() -> None:
    assert claude.session(lines(init())) == SESSION
    assert claude.session(lines(result())) is None  # of one that was refused, say
    assert claude.session([]) is None
    assert codex.session(lines(THREAD)) == "thread-1"
    assert codex.session(lines(SAYS)) is None


def test_a_session_that_looks_like_an_option_is_none() -> None:
    assert claude.session(lines(init() | {"session_id": "--help"})) is None


def test_the_output_of_a_plain_command_is_its_answer() -> None:
    assert plain.read([b"a\n", b"\xffb\n"], WELL, NOW) == Answer(text="a\n\ufffdb\n")


def test_a_plain_command_that_fails_meets_no_limits() -> None:
    exited = Exited(False, "exit code 3", "Credit balance is too low")
    answer = plain.read([b"part"], exited, NOW)

    assert answer.error is not None
    assert answer.error.message == "exit code 3: Credit balance is too low"
    assert (answer.text, answer.trouble) == ("part", None)
