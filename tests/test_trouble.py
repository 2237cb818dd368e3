"""What a provider's refusal means: every row of its documentation, and the hostile."""

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.trouble import (
    DAY,
    HOUR,
    LONGEST,
    Kind,
    Reply,
    Trouble,
    in_stream,
    organization,
    per_minute,
    trouble,
    unreachable,
)
from farm.words import plain

NOW = datetime(2026, 8, 15, 12, 0, tzinfo=UTC).timestamp()
NEXT_MONTH = datetime(2026, 9, 1, tzinfo=UTC).timestamp()


def refusal(
    status: int,
    kind: str = "",
    message: str = "no",
    code: str | None = None,
    **headers: str,
) -> Trouble:
    """As the Messages API says no; `retry_after` is the header `retry-after`."""
    error: dict[str, Any] = {"type": kind, "message": message}
    if code is not None:
        error["details"] = {"error_code": code}
    body = msgspec.json.encode({"type": "error", "error": error})
    return trouble(Reply(status, named(headers), body), NOW)


def openai(status: int, headers: dict[str, str] | None = None, **error: Any) -> Trouble:
    """As chat completions say no."""
    body = msgspec.json.encode({"error": {"message": "no"} | error})
    return trouble(Reply(status, headers or {}, body), NOW)


def named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (400, "invalid_request_error", Kind.BAD),
        (401, "authentication_error", Kind.DEAD),
        (402, "billing_error", Kind.SPENT),
        (403, "permission_error", Kind.FORBIDDEN),
        (404, "not_found_error", Kind.NO_MODEL),
        (408, "", Kind.AGAIN),
        (409, "conflict_error", Kind.AGAIN),
        (413, "request_too_large", Kind.BAD),
        (422, "invalid_request_error", Kind.BAD),
        (429, "rate_limit_error", Kind.RATE),
        (500, "api_error", Kind.OVERLOAD),
        (502, "api_error", Kind.OVERLOAD),
        (503, "api_error", Kind.OVERLOAD),
        (504, "timeout_error", Kind.OVERLOAD),
        (529, "overloaded_error", Kind.OVERLOAD),
        (302, "", Kind.BAD),
    ],
)
def test_the_status_says_what_a_plain_refusal_means(
    status: int, kind: str, expected: Kind
) -> None:
    assert refusal(status, kind).kind is expected


@pytest.mark.parametrize(
    ("status", "code", "until", "every"),
    [
        (429, "enforced_spend_limit_reached", NEXT_MONTH, HOUR),
        (429, "contract_spend_limit_reached", None, DAY),
        (402, "linked_organization_spend", None, HOUR),
    ],
)
def test_a_spend_limit_is_known_by_its_code_and_probed(
    status: int, code: str, until: float | None, every: float
) -> None:
    said = refusal(status, "rate_limit_error", code=code)
    assert (said.kind, said.until, said.probe_every) == (Kind.SPENT, until, every)


@pytest.mark.parametrize(
    ("status", "message", "until"),
    [
        (400, "Your credit balance is too low to access the Anthropic API.", None),
        (400, "You have reached your specified API usage limits.", NEXT_MONTH),
        (429, "You have reached your specified API usage limits.", NEXT_MONTH),
        (400, "You've reached your monthly spend limit.", NEXT_MONTH),
        (400, "The workspace spend limit was reached", NEXT_MONTH),
        (
            429,
            "spend limit reached (daily; resets 2026-08-16 00:00 UTC)",
            NOW + DAY / 2,
        ),
        (
            400,
            (
                "You have reached your specified API usage limits. You will regain"
                " access on 2026-09-01 at 00:00 UTC."
            ),
            NEXT_MONTH,
        ),
        (
            400,
            "Organization spend limit reached on 2026-08-02; resets 2026-08-20",
            datetime(2026, 8, 20, tzinfo=UTC).timestamp(),
        ),
        (400, "Your credit balance is too low since 2026-02-31", None),
    ],
)
def test_spent_money_is_read_at_the_beginning_of_the_providers_own_message(
    status: int, message: str, until: float | None
) -> None:
    said = refusal(status, "invalid_request_error", message)
    assert (said.kind, said.until) == (Kind.SPENT, until)


def test_a_bad_request_that_merely_quotes_such_words_is_bad() -> None:
    message = "messages.0: 'Your credit balance is too low' is no valid role"
    assert refusal(400, "invalid_request_error", message).kind is Kind.BAD


def test_the_next_month_of_december_is_january() -> None:
    december = datetime(2026, 12, 31, 23, 0, tzinfo=UTC).timestamp()
    body = b'{"error": {"details": {"error_code": "enforced_spend_limit_reached"}}}'
    said = trouble(Reply(429, {}, body), december)
    assert said.until == datetime(2027, 1, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "said",
    [
        refusal(400, "invalid_request_error", code="organization_on_hold"),
        refusal(400, "organization_on_hold"),
        refusal(400, "invalid_request_error", "This organization has been disabled."),
    ],
    ids=["code", "type", "words"],
)
def test_an_organization_on_hold_waits_for_people(said: Trouble) -> None:
    assert (said.kind, said.until) == (Kind.HELD, None)


def test_a_gateway_that_says_never_to_try_again_has_a_spend_limit() -> None:
    said = refusal(429, "rate_limit_error", x_should_retry="false")
    assert said.kind is Kind.SPENT


def test_a_refusal_that_says_when_is_a_rate_limit_whatever_else_it_says() -> None:
    said = refusal(429, "rate_limit_error", x_should_retry="false", retry_after="7200")
    assert (said.kind, said.until) == (Kind.RATE, NOW + 7200)


def test_a_growth_limit_asks_for_a_slower_pace() -> None:
    said = refusal(429, "rate_limit_error", code="ramp_limit_exceeded", retry_after="5")
    assert (said.kind, said.until, said.slower) == (Kind.RATE, NOW + 5, True)
    assert not refusal(429, "rate_limit_error", retry_after="5").slower


@pytest.mark.parametrize(
    ("error", "kind", "until"),
    [
        ({"code": "rate_limit_exceeded"}, Kind.RATE, NOW + 60),
        ({"type": "insufficient_quota"}, Kind.SPENT, None),
        ({"code": "credit_balance_exhausted"}, Kind.SPENT, None),
        ({"code": "organization_spend_limit_exceeded"}, Kind.SPENT, None),
        ({"code": "project_spend_limit_exceeded"}, Kind.SPENT, None),
        ({"code": "organization_usage_limit_exceeded"}, Kind.SPENT, None),
        (
            {"type": "usage_limit_reached", "resets_in_seconds": 90},
            Kind.SPENT,
            NOW + 90,
        ),
        ({"type": "usage_limit_reached", "resets_at": NOW + 9}, Kind.SPENT, NOW + 9),
        ({"retry_after": 12.5}, Kind.RATE, NOW + 12.5),
        ({"code": 429, "metadata": {"limit_source": "key"}}, Kind.RATE, NOW + 60),
    ],
    ids=str,
)
def test_the_other_format_splits_its_429_by_type_and_code(
    error: dict[str, Any], kind: Kind, until: float | None
) -> None:
    said = openai(429, **error)
    assert (said.kind, said.until) == (kind, until)


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (401, {"code": "invalid_api_key"}, Kind.DEAD),
        (402, {"code": 402}, Kind.SPENT),
        (404, {"code": "model_not_found"}, Kind.NO_MODEL),
        (503, {"message": "Selected model is at capacity."}, Kind.OVERLOAD),
    ],
)
def test_the_other_format_has_the_same_statuses(
    status: int, error: dict[str, Any], kind: Kind
) -> None:
    assert openai(status, **error).kind is kind


def test_a_list_of_one_error_is_that_error() -> None:
    body = b'[{"error": {"code": 429, "type": "insufficient_quota"}}]'
    assert trouble(Reply(429, {}, body), NOW).kind is Kind.SPENT


def test_a_used_up_window_ends_when_the_headers_say() -> None:
    headers = {"x-codex-primary-reset-after-seconds": "300"}
    said = openai(429, headers, type="usage_limit_reached")
    assert (said.kind, said.until) == (Kind.SPENT, NOW + 300)


# -- when it ends ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "20"}, 20),
        ({"retry-after": " 20 "}, 20),
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after": "0"}, 1),
        ({"retry-after": "-5"}, 1),
        ({"retry-after": "1e300"}, LONGEST),
        ({"retry-after": "nan"}, 60),
        ({"retry-after": "inf"}, 60),
        ({"retry-after": ""}, 60),
        ({"retry-after": "soon"}, 60),
        ({"retry-after": "9" * 5000}, 60),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "-1", "retry-after": "9"}, 9),
        ({"retry-after-ms": "nan"}, 60),
        ({"retry-after": "Sat, 15 Aug 2026 12:01:30 GMT"}, 90),
        ({"retry-after": "Sat, 15 Aug 2026 12:01:30 -0000"}, 90),
        ({"retry-after": "Sat, 15 Aug 2015 12:01:30 GMT"}, 1),
        ({"retry-after": "Sat, 15 Aug 99999 12:01:30 GMT"}, 60),
        ({"retry-after": "15 Aug 2026 12:00:00 +99999999999"}, 60),
        ({"retry-after": "15 Aug 0001 00:00:00 +2300"}, 1),
    ],
    ids=lambda value: str(value)[:60],
)
def test_retry_after_is_read_however_it_is_written(
    headers: dict[str, str], seconds: float
) -> None:
    said = trouble(Reply(429, headers, b""), NOW)
    assert (said.kind, said.until) == (Kind.RATE, NOW + seconds)


@pytest.mark.usefixtures("zone")
def test_a_time_without_a_zone_is_of_greenwich() -> None:
    naive = format_datetime(datetime(2026, 8, 15, 12, 2))  # noqa: DTZ001 - the point
    assert trouble(Reply(429, {"retry-after": naive}, b""), NOW).until == NOW + 120


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2026-08-15T12:00:30Z",
                "anthropic-ratelimit-tokens-remaining": "9000",
                "anthropic-ratelimit-tokens-reset": "2026-08-15T12:09:00Z",
            },
            30,
        ),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "6m0s",
            },
            360,
        ),
        (
            {
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "1500ms",
            },
            1.5,
        ),
        (
            {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"},
            1,
        ),
        (
            {
                "anthropic-ratelimit-unified-5h-reset": f"{NOW + 600:.0f}",
                "anthropic-ratelimit-unified-7d-reset": f"{NOW + 6 * DAY:.0f}",
            },
            600,
        ),
        (
            {
                "anthropic-ratelimit-requests-remaining": "7",
                "anthropic-ratelimit-requests-reset": "2026-08-15T12:00:30Z",
            },
            60,
        ),
        ({"x-ratelimit-reset-requests": "1.2.3s"}, 60),
        ({"x-ratelimit-reset-requests": "."}, 60),
        ({"x-ratelimit-reset-requests": ""}, 60),
        ({"x-ratelimit-reset-requests": "0001-01-01T00:00:00"}, 60),
        ({"x-ratelimit-reset-requests": "9" * 400 + "h"}, 60),
        ({"x-ratelimit-reset-requests": "-30"}, 60),
    ],
    ids=str,
)
def test_without_retry_after_a_limit_of_which_nothing_remains_tells(
    headers: dict[str, str], seconds: float
) -> None:
    assert trouble(Reply(429, headers, b""), NOW).until == NOW + seconds


def test_an_overload_ends_when_it_says_or_when_its_circuit_says() -> None:
    assert refusal(529, "overloaded_error", retry_after="7").until == NOW + 7
    assert refusal(529, "overloaded_error").until is None


# -- bodies that tell nothing ------------------------------------------------------

PAGE = b"<html><body>403 Forbidden</body></html>"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Kind.DEAD),
        (403, Kind.OVERLOAD),
        (404, Kind.BAD),
        (413, Kind.BAD),
        (429, Kind.RATE),
        (502, Kind.OVERLOAD),
    ],
)
@pytest.mark.parametrize(
    "body",
    [PAGE, b"", b"[]", b"null", b"[" * 100_000, b"\xff"],
    ids=lambda body: f"{body[:5]!r}",
)
def test_a_gateways_page_disables_no_key_for_a_model(
    status: int, kind: Kind, body: bytes
) -> None:
    assert trouble(Reply(status, {}, body), NOW).kind is kind


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True)
    | st.text(max_size=40)
    | st.sampled_from(["rate_limit_error", "insufficient_quota", "1e999", "10s"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "error",
                    "type",
                    "code",
                    "message",
                    "details",
                    "error_code",
                    "resets_at",
                    "resets_in_seconds",
                    "retry_after",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "retry-after",
            "retry-after-ms",
            "x-should-retry",
            "request-id",
            "anthropic-ratelimit-requests-reset",
            "anthropic-ratelimit-requests-remaining",
            "x-ratelimit-reset-tokens",
            "x-ratelimit-limit-requests",
        ]
    ),
    st.text(max_size=30)
    | st.floats().map(str)
    | st.datetimes().map(str)
    | st.from_regex(r"[0-9.]{0,4}d?[0-9.]{0,4}h?[0-9.]{0,4}ms?[0-9.]{0,4}m?s?")
    | st.datetimes().map(format_datetime),
    max_size=5,
)


@given(body=VALUES, headers=HEADERS, status=st.integers(100, 999))
def test_nothing_that_a_server_says_is_an_error_of_ours(
    body: Any, headers: dict[str, str], status: int
) -> None:
    told = [in_stream(body, headers, NOW)]
    try:
        raw = msgspec.json.encode(body)
    except (UnicodeEncodeError, msgspec.MsgspecError):
        raw = b"{"
    told.append(trouble(Reply(status, headers, raw), NOW))
    for said in told:
        assert said.until is None or NOW < said.until <= NOW + LONGEST
        assert len(said.message) < 600
        assert plain(said.message) == said.message
        assert msgspec.json.encode(said)


@given(raw=st.binary(max_size=200))
def test_no_bytes_are_an_error_of_ours(raw: bytes) -> None:
    assert trouble(Reply(429, {}, raw), NOW).until is not None


@pytest.mark.parametrize(
    "value",
    [10**5000, [[[]]] * 9, {"a": 1}, True, "x" * 10**6],
    ids=lambda value: type(value).__name__,
)
def test_a_value_of_the_wrong_kind_says_nothing(value: Any) -> None:
    said = in_stream({"error": {"type": value, "retry_after": value}}, {}, NOW)
    assert said.kind is Kind.OVERLOAD


# -- inside a stream ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"type": "overloaded_error"}, Kind.OVERLOAD),
        ({"type": "rate_limit_error"}, Kind.RATE),
        ({"type": "api_error"}, Kind.OVERLOAD),
        ({"type": "timeout_error"}, Kind.OVERLOAD),
        ({"type": "authentication_error"}, Kind.DEAD),
        ({"type": "permission_error"}, Kind.FORBIDDEN),
        ({"type": "billing_error"}, Kind.SPENT),
        ({"type": "invalid_request_error"}, Kind.BAD),
        ({"code": "insufficient_quota"}, Kind.SPENT),
        ({"code": 429}, Kind.RATE),
        ({"code": "what"}, Kind.OVERLOAD),
        ({}, Kind.OVERLOAD),
    ],
    ids=str,
)
def test_inside_a_stream_the_type_says_what_no_status_can(
    error: dict[str, Any], kind: Kind
) -> None:
    assert in_stream({"type": "error", "error": error}, {}, NOW).kind is kind


def test_no_answer_at_all_is_the_endpoints_trouble() -> None:
    assert unreachable("refused") == Trouble(Kind.OVERLOAD, "refused")


# -- for people, and for others ----------------------------------------------------


def test_the_sentence_names_status_type_code_and_what_the_provider_says() -> None:
    said = refusal(
        429,
        "rate_limit_error",
        "Slow down",
        code="ramp_limit_exceeded",
        retry_after="5",
    )
    assert said.message == (
        "rate limit (429 rate_limit_error ramp_limit_exceeded): Slow down"
    )


def test_what_is_said_of_a_dead_key_is_not_repeated() -> None:
    message = "Incorrect API key provided: it ends in wxyz"
    assert refusal(401, "authentication_error", message).message == (
        "dead key (401 authentication_error)"
    )


def test_a_message_is_one_short_line_that_steers_no_terminal() -> None:
    said = refusal(400, "invalid_request_error", "\x1b]0;x\x07a\nb" + "c" * 10_000)
    assert said.message.startswith("bad request (400 invalid_request_error): a bccc")
    assert len(said.message) < 400


def test_the_headers_of_a_refusal_tell_limit_organization_and_request() -> None:
    headers = {
        "anthropic-ratelimit-requests-limit": "600",
        "anthropic-organization-id": "org-a",
        "request-id": "req_1",
    }
    said = trouble(Reply(429, headers, b""), NOW)
    assert (said.per_minute, said.organization, said.request_id) == (
        600.0,
        "org-a",
        "req_1",
    )


@pytest.mark.parametrize("text", ["", "many", "-5", "nan", "inf", "0"])
def test_a_limit_that_is_none_is_not_known(text: str) -> None:
    assert per_minute({"x-ratelimit-limit-requests": text}) == 0.0
    assert per_minute({}) == 0.0
    assert organization({}) is None
