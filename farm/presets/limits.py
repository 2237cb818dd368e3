"""What an agent's refusal means, by its status or by its own words; pure.

    told(Said(status, words, rejected, resets_at), now)     -> Trouble | None

A status decides; words do so only where a status says too little (429, 400) or there is
none. They are matched from their beginning, and are the program's own: what the agent
said in its answer is never looked at. Times of day in them are local, and may be read
wrong: an end is believed if it comes within 8 days, and else it is 15 minutes away.
Until then such a limit is probed once an hour, but for that of one model.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from farm import disk
from farm.trouble import DAY, Kind, Reply, Trouble, trouble

LONGEST = 8 * DAY  #: seconds; a week, and a day for zones and clocks
UNKNOWN = 900.0  #: seconds until a limit whose end nobody can tell
TOO_MANY = 429
_MOST_WORDS = 2000  # letters of a refusal


class Said(msgspec.Struct, frozen=True):
    """What a program says of the refusal that it met."""

    status: int | None = None  #: of HTTP
    words: Sequence[str] = ()  #: its own, the best first
    rejected: bool = False  #: an event said that its usage limit is reached
    resets_at: float | None = None  #: POSIX seconds, told by that event


class _Row(NamedTuple):
    pattern: "re.Pattern[str]"
    kind: Kind | None = None  #: None: what its status means
    status: int | None = None  #: None: the group of the pattern
    ends: bool = False  #: at a time that is told, or in a while


def _row(
    pattern: str,
    kind: Kind | None = None,
    *,
    status: int | None = None,
    ends: bool = False,
) -> _Row:
    whole = rf"(?:(?:API )?Error: )?(?:{pattern})"
    return _Row(re.compile(whole, re.IGNORECASE), kind, status, ends=ends)


_ROWS = (
    _Row(re.compile(r"API Error: (?P<status>[45]\d\d)\b")),
    _row(r"request rejected \(429\)", status=TOO_MANY),
    _row(r"repeated 529 overloaded errors", status=529),
    _row(r"exceeded retry limit, last status: (?P<status>[45]\d\d)\b"),
    _row(r"unexpected status (?P<status>[45]\d\d)\b"),
    _row(r"(?:[\w-]+ ){0,4}spend(?:ing)? limit reached", status=TOO_MANY),
    _row(r"(?:your )?credit balance is too low", Kind.SPENT),
    _row(r"quota exceeded", Kind.SPENT),
    _row(r"server is temporarily limiting requests", Kind.OVERLOAD),
    _row(r"selected model is at capacity", Kind.OVERLOAD),
    _row(r"invalid (?:api key|bearer token)|not logged in", Kind.DEAD),
    _row(r"claude ai usage limit reached", Kind.SPENT, ends=True),
    _row(r"you['\u2019]ve (?:hit|reached) your opus limit", Kind.RATE, ends=True),
    _row(
        r"you['\u2019]ve (?:hit|reached) your (?:[\w'\u2019-]+ ){0,5}limit\b",
        Kind.SPENT,
        ends=True,
    ),
)
_TOO_LITTLE = (Kind.RATE, Kind.BAD)


def told(said: Said, now: float) -> Trouble | None:
    """What a refusal means; None if it tells of none that we know."""
    every = [words[:_MOST_WORDS] for words in said.words]
    text = every[0] if every else ""
    by_status = _by_status(said.status, text, now) if said.status else None
    if by_status is not None and by_status.kind not in _TOO_LITTLE:
        return by_status
    if said.rejected:
        until = ending(said.resets_at, now)
        text = text or "its usage limit is reached"
        return Trouble(Kind.SPENT, _sentence(Kind.SPENT, text), until=until)
    found = (_by_words(words, now) for words in every)
    return next((trouble for trouble in found if trouble is not None), by_status)


def ending(at: float | None, now: float) -> float:
    """A limit's end as it was told, if anybody can mean it; else in a while."""
    return at if at is not None and now < at <= now + LONGEST else now + UNKNOWN


def _by_words(text: str, now: float) -> Trouble | None:
    for row in _ROWS:
        found = row.pattern.match(text)
        if found is None:
            continue
        if row.kind is None:
            return _by_status(row.status or int(found["status"]), text, now)
        until = ending(reset_at(text, now), now) if row.ends else None
        return Trouble(row.kind, _sentence(row.kind, text), until=until)
    return None


def _by_status(status: int, text: str, now: float) -> Trouble:
    """By the one table of statuses; a text may have the provider's whole answer in it."""
    body = text[text.find("{") :].encode() if "{" in text else b""
    try:
        disk.decode(body)
    except ValueError:
        body = disk.encode({"error": {"message": text}})
    return trouble(Reply(status, {}, body), now)


def _sentence(kind: Kind, text: str) -> str:
    # Of a key that it does not know a provider may quote the end.
    return kind if kind is Kind.DEAD else f"{kind}: {text}"


# -- times ------------------------------------------------------------------------

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MONTHS = (
    *("jan", "feb", "mar", "apr", "may", "jun"),
    *("jul", "aug", "sep", "oct", "nov", "dec"),
)
_RESET = re.compile(
    r"(?:\bresets|\btry again at) (?:at )?"
    rf"(?:(?P<weekday>{'|'.join(_DAYS)})[a-z]*,? (?:at )?"
    rf"|(?P<month>{'|'.join(_MONTHS)})[a-z]* (?P<day>\d{{1,2}})(?:st|nd|rd|th)?,? "
    r"(?:(?P<year>20\d\d),? )?(?:at )?)?"
    r"(?P<hour>\d{1,2})(?::(?P<minute>\d\d))? ?(?P<half>[ap])m\b"
    r"(?: \((?P<zone>[A-Za-z0-9_/+-]+)\))?",
    re.IGNORECASE,
)
_EPOCH = re.compile(r"reached\|(\d{10})\b")


def reset_at(text: str, now: float) -> float | None:
    """When a limit ends by these words; None if they do not say so."""
    if epoch := _EPOCH.search(text):
        return float(epoch[1])
    found = _RESET.search(text)
    if found is None:
        return None
    try:
        return _moment(found, now).timestamp()
    except (ValueError, OverflowError):
        return None  # 13pm, or the 31st of a month that has none


def _moment(found: "re.Match[str]", now: float) -> datetime:
    """The next such moment; on the clock of this host if it names no zone."""
    here = datetime.fromtimestamp(now, _zone(found["zone"]))
    hour = int(found["hour"]) % 12 + (12 if found["half"] in "pP" else 0)
    if not 1 <= int(found["hour"]) <= 12:  # noqa: PLR2004 - hours of half a day
        raise ValueError(found["hour"])
    there = here.replace(
        hour=hour, minute=int(found["minute"] or 0), second=0, microsecond=0
    )
    if found["month"]:
        return _on_date(found, there, here)
    if found["weekday"]:
        wanted = _DAYS.index(found["weekday"].lower())
        there += timedelta(days=(wanted - here.weekday()) % 7)
        return there if there > here else there + timedelta(days=7)
    return there if there > here else there + timedelta(days=1)


def _on_date(found: "re.Match[str]", at_hour: datetime, here: datetime) -> datetime:
    month = _MONTHS.index(found["month"].lower()) + 1
    year = int(found["year"] or here.year)
    there = at_hour.replace(year=year, month=month, day=int(found["day"]))
    past = not found["year"] and there <= here
    return there.replace(year=year + 1) if past else there


def _zone(name: str | None) -> tzinfo | None:
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None  # not known here: its clock is ours then, within the bounds
