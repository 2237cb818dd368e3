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
