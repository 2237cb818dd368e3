"""Text for people's terminals."""

import re
from datetime import UTC, datetime

_CONTROL = (
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?"  # OSC: titles, links
    r"|\x1b."
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
    r"|[\u2028-\u202e\u2066-\u2069\ud800-\udfff]"  # lines, order of letters, no letters
)


def clean(text: str) -> str:
    """Text from a task, without what could steer a terminal; lines and tabs stay."""
    return re.sub(_CONTROL, "", text.replace("\r\n", "\n"))


def plain(text: str) -> str:
    """The same on one line."""
    # As nearly all is that a worker says, which need not compile the pattern then.
    if text.isprintable():
        return text
    return clean(text).replace("\n", " ").replace("\t", " ")


def counted(count: int, noun: str) -> str:
    """`1 task`, `3 tasks`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def moment(at: float, now: float) -> str:
    """A time of day for people, local: `03:00:00`, with the date on another day."""
    there, here = _local(at), _local(now).date()
    shape = "%H:%M:%S" if there.date() == here else "%Y-%m-%d %H:%M:%S"
    return f"{there:{shape}}"


def _local(at: float) -> datetime:
    try:
        return datetime.fromtimestamp(at).astimezone()
    except (OverflowError, ValueError):  # the year 10000, here but not in UTC
        return datetime.fromtimestamp(at, UTC)


def about(seconds: float) -> str:
    """A guess, in as many digits as it is worth: `~7 s`, `~45 s`, `~12 min`, `~2 h 10 min`."""
    if seconds < _SECONDS:
        return f"~{max(1, round(seconds))} s"
    if (few := 5 * round(seconds / 5)) < _MINUTE:
        return f"~{few} s"
    if (minutes := max(1, round(seconds / _MINUTE))) < _MINUTE:
        return f"~{minutes} min"
    hours, tens = divmod(round(seconds / (10 * _MINUTE)), 6)
    if hours < _DAY:
        return f"~{hours} h {10 * tens} min" if tens else f"~{hours} h"
    days, rest = divmod(round(seconds / (60 * _MINUTE)), _DAY)
    return f"~{days} d {rest} h" if rest else f"~{days} d"


def frequency(rate: float) -> str:
    """So many a second, or a minute, or an hour: `569/s`, `2.5/s`, `24/min`, `3/h`."""
    for span, unit in ((1, "s"), (60, "min")):
        if rate * span >= 1:
            return f"{_two_digits(rate * span)}/{unit}"
    return f"{_two_digits(rate * 3600)}/h"


def _two_digits(number: float) -> str:
    return f"{number:.0f}" if number >= _SECONDS else f"{number:.2g}"


_SECONDS, _MINUTE, _DAY = 10, 60, 24
_NEARLY_1 = 0.9995  # seconds; in three digits these are 1 s, not 1e+03 ms


def duration(seconds: float) -> str:
    """`31 ms`, `42.4 s`, `3 min 12 s`, `2 h 5 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    if minutes:
        return f"{minutes} min {rest} s"
    return f"{seconds:.3g} s" if seconds >= _NEARLY_1 else f"{seconds * 1000:.3g} ms"
