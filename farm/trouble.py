"""What a provider's refusal means: one table for both formats, read once.

    trouble(reply, now)        of an HTTP answer that is no success
    in_stream(error, now)      of an error that came inside a stream
    unreachable(words)         of no answer at all

The structured part decides: the status, the error's type and code, the headers. Words
are looked at only where a provider says a thing in no other way (a spent credit is a
plain 400), at the beginning of its own message, never in what a model wrote. The
classes are those of the providers' documentation, and of what their libraries'
users have met:

    kind        rests                    until
    RATE        the pool, for the model  `retry-after`; else a reset that is told, or 60 s
    SPENT       the pool                 the date that is told, or the next month; probed
    HELD        the pool                 somebody calls the provider
    DEAD        the key                  its value changes
    FORBIDDEN   the key, for the model   somebody resets it
    NO_MODEL    the same, if another key may have it; else the task fails
    OVERLOAD    the endpoint             its circuit says; keys are not rotated
    AGAIN       nothing                  the same call again, soon
    BAD         nothing                  never: the task fails at once

A 429 without `retry-after` is not believed to be a matter of seconds.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

import msgspec

HOUR, DAY = 3600.0, 86_400.0
LONGEST = 32 * DAY  #: nobody says in earnest that a key rests for longer
DEFAULT_REST = 60.0  # seconds; a rate limit that does not say when it ends


class Kind(StrEnum):
    """What a refusal means; see the module's table."""

    RATE = "rate limit"
    SPENT = "spend limit"
    HELD = "on hold"
    DEAD = "dead key"
    FORBIDDEN = "no permission"
    NO_MODEL = "no such model"
    OVERLOAD = "overload"
    AGAIN = "again"
    BAD = "bad request"


class Reply(msgspec.Struct, frozen=True):
    """An answer over HTTP; header names are in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Trouble(msgspec.Struct, frozen=True):
    """A refusal: what it means, in words too, and until when."""

    kind: Kind
    message: str  #: a sentence for people
    until: float | None = None  #: POSIX seconds, where it is told
    probe_every: float = HOUR  #: seconds; of SPENT
    slower: bool = False  #: of RATE: the pace itself was too much
    request_id: str | None = None


class _Said(msgspec.Struct, frozen=True):
    """What a refusal holds, in one form for both formats."""

    status: int
    type: str
    code: str
    message: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]


_BY_STATUS = {
    400: Kind.BAD,
    401: Kind.DEAD,
    402: Kind.SPENT,
    403: Kind.FORBIDDEN,
    404: Kind.NO_MODEL,
    408: Kind.AGAIN,
    409: Kind.AGAIN,
    413: Kind.BAD,
    425: Kind.AGAIN,
    429: Kind.RATE,
}
#: An error inside a stream has no status of its own.
_STATUS_OF = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "usage_limit_reached": 429,
    "api_error": 500,
    "server_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_SPENT_CODES = {
    "enforced_spend_limit_reached",
    "contract_spend_limit_reached",
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "usage_limit_reached",
    "billing_hard_limit_reached",
}
_SPENT_WORDS = re.compile(
    r"your credit balance is too low"
    r"|you(?:'ve| have) reached your (?:specified )?(?:\w+ )?(?:usage|spend(?:ing)?) limit"
    r"|(?:\w+ ){0,4}spend(?:ing)? limit (?:was |has been )?reached",
    re.IGNORECASE,
)
_UNTIL_NEXT_MONTH = {"enforced_spend_limit_reached"}
_DATE = re.compile(
    r"(?P<day>20[0-9]{2}-[01][0-9]-[0-3][0-9])"
    r"(?:(?: at |T| )(?P<time>[0-2][0-9]:[0-5][0-9])(?::[0-5][0-9](?:\.[0-9]+)?)?)?"
    r"(?: ?UTC|Z)?"
)
_RESETS = re.compile(r"(?:anthropic-ratelimit|x-ratelimit|x-codex)-.*reset.*")
_DURATION = re.compile(
    r"(?:([0-9.]+)d)?(?:([0-9.]+)h)?(?:([0-9.]+)m(?!s))?(?:([0-9.]+)s)?(?:([0-9.]+)ms)?"
)
_EPOCH = 1e9  # a header's number above this is a date, one below it a duration
_SECONDS = (DAY, HOUR, 60.0, 1.0, 0.001)


def trouble(reply: Reply, now: float) -> Trouble:
    """What an answer means that is no success."""
    return _judged(_said(reply), now)


def in_stream(
    body: Mapping[str, Any], headers: Mapping[str, str], now: float
) -> Trouble:
    """What an error means that came inside a stream: its type says the status."""
    error = _error_in(body)
    kind = f"{error.get('code') or error.get('type') or ''}"
    status = _STATUS_OF.get(kind) or _STATUS_OF.get(f"{error.get('type')}", 500)
    return _judged(_said_by(status, headers, body), now)


def unreachable(words: str) -> Trouble:
    """No answer came, or one that breaks off: it is the endpoint's trouble."""
    return Trouble(Kind.OVERLOAD, words)


def per_minute(headers: Mapping[str, str]) -> float:
    """How many requests a minute the headers allow; 0.0 if they do not say."""
    for name in (
        "anthropic-ratelimit-requests-limit",
        "x-ratelimit-limit-requests",
    ):
        if name in headers:
            return max(0.0, _number(headers[name]) or 0.0)
    return 0.0


def request_id(headers: Mapping[str, str]) -> str | None:
    """By what the provider knows this call."""
    return headers.get("request-id") or headers.get("x-request-id")


# -- reading ----------------------------------------------------------------------


def _said(reply: Reply) -> _Said:
    try:
        body = msgspec.json.decode(reply.body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        body = None  # a gateway's page: the status must do
    return _said_by(reply.status, reply.headers, body if isinstance(body, dict) else {})


def _said_by(status: int, headers: Mapping[str, str], body: Mapping[str, Any]) -> _Said:
    error = _error_in(body)
    details = error.get("details")
    inner = details.get("error_code") if isinstance(details, dict) else None
    return _Said(
        status=status,
        type=f"{error.get('type') or ''}",
        code=f"{inner or error.get('code') or ''}",
        message=f"{error.get('message') or ''}",
        body={**body, **error},
        headers=headers,
    )


def _error_in(body: Mapping[str, Any]) -> Mapping[str, Any]:
    error = body.get("error")
    if isinstance(error, dict):
        return error
    return {"message": error} if isinstance(error, str) else body


# -- deciding ---------------------------------------------------------------------


def _judged(said: _Said, now: float) -> Trouble:
    kind = _kind(said)
    until = None
    if kind in (Kind.RATE, Kind.OVERLOAD):
        until = _retry_at(said, now)
    if kind is Kind.RATE and until is None:
        until = _reset_in_body(said, now) or _reset_in_headers(said, now)
        until = until or now + DEFAULT_REST
    if kind is Kind.SPENT:
        until = _spent_until(said, now)
    return Trouble(
        kind,
        _sentence(said, kind),
        until=None if until is None else min(until, now + LONGEST),
        probe_every=DAY if said.code == "contract_spend_limit_reached" else HOUR,
        slower=said.code == "ramp_limit_exceeded",
        request_id=request_id(said.headers),
    )


def _kind(said: _Said) -> Kind:
    if said.code == "organization_on_hold":
        return Kind.HELD
    if _is_spent(said):
        return Kind.SPENT
    if said.status >= 500:  # noqa: PLR2004 - whatever it is, it is theirs
        return Kind.OVERLOAD
    return _BY_STATUS.get(said.status, Kind.BAD)


def _is_spent(said: _Said) -> bool:
    if {said.code, said.type} & _SPENT_CODES:
        return True
    if said.status == 429 and said.headers.get("x-should-retry") == "false":  # noqa: PLR2004
        return True
    return (
        said.status in (400, 403, 429) and _SPENT_WORDS.match(said.message) is not None
    )


def _retry_at(said: _Said, now: float) -> float | None:
    """When `retry-after` ends, however it is written."""
    ms = _number(said.headers.get("retry-after-ms", ""))
    if ms is not None and ms >= 0:
        return now + ms / 1000
    text = said.headers.get("retry-after", "")
    seconds = _number(text)
    if seconds is not None:
        return now + max(0.0, seconds)
    try:
        return max(now, parsedate_to_datetime(text).timestamp())
    except ValueError:
        return None


def _reset_in_body(said: _Said, now: float) -> float | None:
    """When a limit ends, as some servers tell it beside the message."""
    for name in ("resets_in_seconds", "retry_after", "resets_at"):
        value = said.body.get(name)
        found = _number(f"{value}") if value is not None else None
        if found is not None and found > 0:
            return found if name == "resets_at" else now + found
    return None


def _reset_in_headers(said: _Said, now: float) -> float | None:
    """When the limits are full again of which nothing remains."""
    ends = []
    for name, text in said.headers.items():
        remains = said.headers.get(name.replace("reset", "remaining"), "0")
        end = _moment(text, now) if _RESETS.fullmatch(name) else None
        if end is not None and end > now and _number(remains) == 0:
            ends.append(end)
    return max(ends, default=None)


def _spent_until(said: _Said, now: float) -> float | None:
    """The date in the message, or what else is told; None if nothing is."""
    if found := _DATE.search(said.message):
        text = f"{found['day']}T{found['time'] or '00:00'}+00:00"
        try:
            told = datetime.fromisoformat(text).timestamp()
        except ValueError:
            told = 0.0  # the 31st of a month that has none
        if told > now:
            return told
    if told := _reset_in_body(said, now) or 0.0:
        return told
    by_month = said.code in _UNTIL_NEXT_MONTH or "usage limit" in said.message
    return _next_month(now) if by_month else None


def _next_month(now: float) -> float:
    today = datetime.fromtimestamp(now, UTC)
    year, month = divmod(today.year * 12 + today.month, 12)
    return datetime(year, month + 1, 1, tzinfo=UTC).timestamp()


def _moment(text: str, now: float) -> float | None:
    """POSIX seconds of a header's `6m0s`, `12`, or RFC 3339 time."""
    number = _number(text)
    if number is not None:
        return number if number > _EPOCH else now + number
    found = _DURATION.fullmatch(text)
    if found and text:
        parts = zip(found.groups(), _SECONDS, strict=True)
        return now + sum(float(part) * unit for part, unit in parts if part)
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def _number(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if abs(found) < float("inf") else None  # nan is below nothing


def _sentence(said: _Said, kind: Kind) -> str:
    names = " ".join(dict.fromkeys(n for n in (said.type, said.code) if n))
    # Of a key that it does not know a provider may quote the end.
    told = f": {said.message}" if said.message and kind is not Kind.DEAD else ""
    return f"{kind} ({said.status}{' ' if names else ''}{names}){told}"
