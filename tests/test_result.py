"""The result file: what it holds, and what counts as one."""

import json
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.result import (
    COUNTED,
    MOST_COST,
    Attempt,
    Error,
    Outcome,
    Result,
    Usage,
    encode,
    parse_head,
    posix,
    reason,
    rfc3339,
    total,
)
from farm.states import Status, Why


def result(**more: object) -> Result:
    made = Result(
        version=1,
        id="tiles/0-0",
        status=Status.FAILED,
        started="2026-11-21T03:00:00.000Z",
        finished="2026-11-21T03:00:01.500Z",
        duration_s=1.5,
        worker="ada",
        host="lab",
        sha256="5ha",
        attempts=[],
        stdout="out",
        stderr="",
    )
    return msgspec.structs.replace(made, **more)


def test_a_result_is_one_json_object_on_one_line() -> None:
    raw = encode(result(stdout="two\nlines\n"))

    assert raw.endswith(b"}\n")
    assert raw.count(b"\n") == 1
    assert json.loads(raw)["stdout"] == "two\nlines\n"


def test_a_result_always_says_who_when_and_how() -> None:
    keys = (
        "version id status started finished duration_s worker host sha256 attempts"
        " stdout stderr"
    )

    assert set(json.loads(encode(result()))) == set(keys.split())


def test_what_was_not_the_case_is_left_out() -> None:
    attempt = Attempt(1, Why.FAILED, True, "a", "b", "ada", "lab", exit_code=3)
    value = json.loads(encode(result(attempts=[attempt], exit_code=3)))

    assert value["exit_code"] == value["attempts"][0]["exit_code"] == 3
    assert "signal" not in value
    assert "error" not in value["attempts"][0]


def test_the_value_of_a_callable_is_kept_as_it_was_encoded() -> None:
    raw = encode(result(value=msgspec.Raw(b'{"b": 1, "a": [1.0, null]}')))

    assert json.loads(raw)["value"] == {"b": 1, "a": [1.0, None]}


def test_the_value_null_is_not_the_same_as_no_value() -> None:
    assert json.loads(encode(result(value=msgspec.Raw(b"null"))))["value"] is None


# -- heads --------------------------------------------------------------------------


def test_our_own_result_has_a_head() -> None:
    error = Error("exit", "exit code 3", files={"a": "5ha"})
    head = parse_head(encode(result(error=error, exit_code=3, signal="SIGKILL")))

    assert head is not None
    assert (head.status, head.sha256, head.duration_s) == (Status.FAILED, "5ha", 1.5)
    assert (head.error, head.exit_code, head.signal) == (error, 3, "SIGKILL")


@pytest.mark.parametrize(
    "foreign",
    [
        {"finished": 17},
        {"error": "text"},
        {"error": {"kind": "new"}},
        {"sha256": ["a"]},
        {"exit_code": "3"},
        {"unknown": {}},
    ],
    ids=str,
)
def test_a_result_of_another_version_still_counts(foreign: dict[str, object]) -> None:
    head = parse_head(json.dumps({"status": "lost"} | foreign).encode())

    assert head is not None
    assert head.status is Status.LOST


NOT_RESULTS = [
    b"",
    b"\0" * 4096,
    b"{",
    b'{"status": "succeeded"',
    b"null",
    b"17",
    b'"succeeded"',
    b'["succeeded"]',
    b"{}",
    b'{"status": null}',
    b'{"status": 1}',
    b'{"status": "running"}',
    b'{"status": "Succeeded"}',
    b'{"status": ["succeeded"]}',
    b'{"status": {}, "sha256": 1}',
    b"\xff\xfe",
    b"[" * 100_000,
]


@pytest.mark.parametrize("raw", NOT_RESULTS, ids=range(len(NOT_RESULTS)))
def test_what_is_no_object_with_a_status_is_no_result(raw: bytes) -> None:
    assert parse_head(raw) is None


@given(st.binary(max_size=200))
def test_random_bytes_are_no_result(raw: bytes) -> None:
    assert parse_head(raw) is None


def test_no_beginning_of_a_result_is_a_result() -> None:
    raw = encode(result())

    assert [n for n in range(len(raw) - 1) if parse_head(raw[:n])] == []


# -- times --------------------------------------------------------------------------


def test_times_are_utc_to_the_millisecond() -> None:
    assert rfc3339(1_795_230_000.1239) == "2026-11-21T03:00:00.123Z"


@given(st.integers(0, 4_000_000_000_000))
def test_a_time_is_read_back_as_it_was_written(milliseconds: int) -> None:
    text = rfc3339(milliseconds / 1000)

    assert abs(posix(text) - milliseconds / 1000) < 0.002
    assert datetime.fromisoformat(text).tzinfo == UTC


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01T00:00:00Z"])
def test_what_is_no_time_is_the_beginning_of_time(text: str) -> None:
    assert posix(text) == 0.0


# -- words --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "signal", "expected"),
    [
        (Error("exit", "no luck"), 3, "SIGKILL", "no luck"),
        (None, 3, "SIGKILL", "killed by SIGKILL"),
        (None, 3, None, "exit code 3"),
        (None, 0, None, "exit code 0"),
        (None, None, None, "no reason given"),
    ],
)
def test_the_best_reason_is_given(
    error: Error | None, code: int | None, signal: str | None, expected: str
) -> None:
    assert reason(error, code, signal) == expected


def test_only_failures_and_time_outs_count_against_the_retries() -> None:
    counted = {why for why in Why if Outcome(why).counted}

    assert counted == COUNTED == {Why.FAILED, Why.TIMED_OUT}


def test_what_several_answers_took_is_added() -> None:
    taken = [Usage(1, 2, 3, 4, 0.1), Usage(10, 20, 30, 40, 0.2)]

    assert total(taken) == Usage(11, 22, 33, 44, 0.3)


def test_a_sum_that_no_number_can_hold_can_be_written_all_the_same() -> None:
    most = Usage(cost_usd=1.7e308)
    raw = msgspec.json.encode(total([most, most]))

    assert msgspec.json.decode(raw, type=Usage).cost_usd == MOST_COST
