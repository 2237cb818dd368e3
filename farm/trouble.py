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

from farm.words import plain

HOUR, DAY = 3600.0, 86_400.0
LONGEST = 32 * DAY  #: nobody says in earnest that a key rests for longer
DEFAULT_REST = 60.0  # seconds; a rate limit that does not say when it ends
_LEAST_REST = 1.0  # seconds; who is told "now", or a time that is past, waits as well
_LONGEST_WORDS = 300  # letters of what a provider says
_LONGEST_NAME = 64  # letters of a type, a code, an id


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


#: the `kind` of the error that a refusal becomes
ERROR_KINDS = {
    Kind.RATE: "rate_limited",
    Kind.SPENT: "quota_exhausted",
    Kind.HELD: "quota_exhausted",
    Kind.DEAD: "auth",
    Kind.FORBIDDEN: "auth",
    Kind.NO_MODEL: "no_model",
    Kind.OVERLOAD: "overloaded",
    Kind.AGAIN: "overloaded",
    Kind.BAD: "bad_request",
}


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
    per_minute: float = 0.0  #: requests that are allowed; 0.0 if it is not said
    organization: str | None = None  #: whose limits these are, if it is said


class _Said(msgspec.Struct, frozen=True):
    """What a refusal holds, in one form for both formats."""

    is_told: bool  #: by an API; a gateway's page tells nothing
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
#: Without an error in its body it is a gateway's: nothing is said of key or model.
_BY_PAGE = {403: Kind.OVERLOAD, 404: Kind.BAD}
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
_YOUR_LIMIT = (
    r"you(?:.ve| have) reached your (?:\w+ ){0,3}"
    r"(?:usage|spend(?:ing)?) limit"
)
_SPENT_WORDS = re.compile(
    rf"{_YOUR_LIMIT}"
    r"|your credit balance is too low"
    r"|you exceeded your current quota"
    r"|(?:\w+ ){0,4}spend(?:ing)? limit (?:was |has been )?reached",
    re.IGNORECASE,
)
_HELD_WORDS = re.compile("this organization has been disabled", re.IGNORECASE)
_MONTHLY_WORDS = re.compile(_YOUR_LIMIT, re.IGNORECASE)
_MONTHLY_CODES = {"enforced_spend_limit_reached"}
_DATE = re.compile(
    r"(?P<day>20[0-9]{2}-[01][0-9]-[0-3][0-9])"
    r"(?:(?: at |T| )(?P<time>[0-2][0-9]:[0-5][0-9])(?::[0-5][0-9](?:\.[0-9]+)?)?)?"
    r"(?: ?UTC|Z)?"
)
_RESETS = re.compile(r"(?:anthropic-ratelimit|x-ratelimit|x-codex)-.*reset.*")
_NUMBER = r"([0-9]{1,12}(?:\.[0-9]{1,12})?)"
_DURATION = re.compile(
    "".join(rf"(?:{_NUMBER}{unit})?" for unit in ("d", "h", "m(?!s)", "s", "ms"))
)
_EPOCH = 1e9  # a header's number above this is a date, one below it a duration
_SECONDS = (DAY, HOUR, 60.0, 1.0, 0.001)


def trouble(reply: Reply, now: float) -> Trouble:
    """What an answer means that is no success."""
    return _judged(_said(reply), now)


def in_stream(body: object, headers: Mapping[str, str], now: float) -> Trouble:
    """What an error means that came inside a stream: its type says the status."""
    error = _error_in(body)
    code, kind = _name(error.get("code")), _name(error.get("type"))
    number = int(code) if re.fullmatch("[45][0-9][0-9]", code) else 500
    status = _STATUS_OF.get(code) or _STATUS_OF.get(kind, number)
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


def organization(headers: Mapping[str, str]) -> str | None:
    """Whose limits a call counts for."""
    return headers.get("anthropic-organization-id", "")[:_LONGEST_NAME] or None


def request_id(headers: Mapping[str, str]) -> str | None:
    """By what the provider knows this call."""
    told = headers.get("request-id") or headers.get("x-request-id") or ""
    return plain(told)[:_LONGEST_NAME] or None


# -- reading ----------------------------------------------------------------------


def _said(reply: Reply) -> _Said:
    try:
        body = msgspec.json.decode(reply.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        body = None  # a gateway's page: the status must do
    return _said_by(reply.status, reply.headers, body)


def _said_by(status: int, headers: Mapping[str, str], body: object) -> _Said:
    error = _error_in(body)
    details = error.get("details")
    inner = details.get("error_code") if isinstance(details, dict) else None
    message = error.get("message")
    kind, code = _name(error.get("type")), _name(inner) or _name(error.get("code"))
    return _Said(
        is_told=bool(message or code or kind),
        status=status,
        type=kind,
        code=code,
        message=plain(message)[:_LONGEST_WORDS] if isinstance(message, str) else "",
        body={**_only(body), **error},
        headers=headers,
    )


def _only(body: object) -> Mapping[str, Any]:
    """The object that a body is; some servers answer with a list of one."""
    if isinstance(body, list) and body:
        body = body[0]
    return body if isinstance(body, dict) else {}


def _error_in(body: object) -> Mapping[str, Any]:
    there = _only(body)
    error = there.get("error")
    if isinstance(error, dict):
        return error
    return {"message": error} if isinstance(error, str) else there


def _name(value: object) -> str:
    """A type or a code; some servers number them."""
    if isinstance(value, int):
        return f"{value}" if abs(value) < _EPOCH else ""
    return plain(value)[:_LONGEST_NAME] if isinstance(value, str) else ""


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
        per_minute=per_minute(said.headers),
        organization=organization(said.headers),
    )


def _kind(said: _Said) -> Kind:
    if _is_held(said):
        return Kind.HELD
    if _is_spent(said):
        return Kind.SPENT
    if said.status >= 500:  # noqa: PLR2004 - whatever it is, it is theirs
        return Kind.OVERLOAD
    if not said.is_told and said.status in _BY_PAGE:
        return _BY_PAGE[said.status]
    return _BY_STATUS.get(said.status, Kind.BAD)


def _is_held(said: _Said) -> bool:
    if "organization_on_hold" in (said.code, said.type):
        return True
    return said.status in (400, 403) and _HELD_WORDS.match(said.message) is not None


def _is_spent(said: _Said) -> bool:
    if {said.code, said.type} & _SPENT_CODES:
        return True
    never = said.headers.get("x-should-retry") == "false"
    if said.status == 429 and never and "retry-after" not in said.headers:  # noqa: PLR2004
        return True
    return (
        said.status in (400, 403, 429) and _SPENT_WORDS.match(said.message) is not None
    )


def _retry_at(said: _Said, now: float) -> float | None:
    """When `retry-after` ends, however it is written."""
    ms = _number(said.headers.get("retry-after-ms"))
    if ms is not None and ms >= 0:
        return now + max(_LEAST_REST, ms / 1000)
    text = said.headers.get("retry-after", "")
    seconds = _number(text)
    if seconds is not None:
        return now + max(_LEAST_REST, seconds)
    try:
        return max(now + _LEAST_REST, _posix(parsedate_to_datetime(text)))
    except (ValueError, OverflowError, TypeError, IndexError):
        return None  # whatever it is, it is no date


def _reset_in_body(said: _Said, now: float) -> float | None:
    """When a limit ends, as some servers tell it beside the message."""
    for name in ("resets_in_seconds", "retry_after", "resets_at"):
        found = _number(said.body.get(name))
        if found is not None and found > 0:
            end = found if name == "resets_at" else now + found
            return max(end, now + _LEAST_REST)
    return None


def _reset_in_headers(said: _Said, now: float) -> float | None:
    """When the limits are full again of which nothing remains.

    Where no header tells what remains it is the limit that is full again first.
    """
    empty, unknown = [], []
    for name, text in said.headers.items():
        end = _moment(text, now) if _RESETS.fullmatch(name) else None
        if end is None or end <= now:
            continue
        remains = said.headers.get(name.replace("reset", "remaining"))
        if remains is None:
            unknown.append(end)
        elif _number(remains) == 0:
            empty.append(end)
    end = max(empty, default=min(unknown, default=None))
    return None if end is None else max(end, now + _LEAST_REST)


def _spent_until(said: _Said, now: float) -> float | None:
    """The date in the message, or what else is told; None if nothing is."""
    for found in _DATE.finditer(said.message):
        told = _moment(f"{found['day']}T{found['time'] or '00:00'}+00:00", now)
        if told is not None and told > now:
            return told
    for tell in (_reset_in_body, _retry_at, _reset_in_headers):
        told = tell(said, now)
        if told is not None:
            return told
    of_ours = said.status == 400 and "limit" in said.message  # noqa: PLR2004
    monthly = said.code in _MONTHLY_CODES or _MONTHLY_WORDS.match(said.message)
    return _next_month(now) if of_ours or monthly else None


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
        return _posix(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None  # the 31st of a month that has none, the year 0


def _posix(told: datetime) -> float:
    """Providers mean UTC where they name no zone."""
    return (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp()


def _number(value: object) -> float | None:
    if not isinstance(value, str | int | float):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if abs(found) < float("inf") else None  # nan is below nothing


def _sentence(said: _Said, kind: Kind) -> str:
    names = " ".join(dict.fromkeys(n for n in (said.type, said.code) if n))
    # Of a key that it does not know a provider may quote the end.
    told = f": {said.message}" if said.message and kind is not Kind.DEAD else ""
    return f"{kind} ({said.status}{' ' if names else ''}{names}){told}"
