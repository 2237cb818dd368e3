"""What happened: one attempt, and the result that ends a task.

`Outcome` is what a runner says of one run. `Attempt` is the same as history
keeps it. `Result` is the file beside the task, written once; its `status` is
that of the last attempt. `Head` is as much of a result as decisions need, read
leniently, so that results of a newer farm still count.

Times in results are RFC 3339 in UTC; times in code are POSIX seconds.
"""

import time
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache

import msgspec

from farm import disk
from farm.states import Status, Why

VERSION = 1  #: of the result format
MOST_ERROR = 16 * 1024  #: letters of an error's message, and of its traceback
MOST_SAID = 500  #: letters of a message where it is one of many, and for people
MOST_REASON = 2_000  #: letters of the reason why a task has ended
_MOST_TRACE = 2_000  # letters of a traceback that is one of many


class Error(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why something did not succeed, for people (`message`) and programs (`kind`)."""

    kind: str  #: exit signal timeout import exception value spawn lost invalid ...
    message: str  #: one sentence
    type: str | None = None  #: the exception's class
    traceback: str | None = None  #: without farm's own frames
    line: int | None = None  #: of the task file, from 1
    column: int | None = None
    files: dict[str, str] | None = None  #: sha256 of each file a verdict rests on
    withheld: tuple[str, ...] | None = (
        None  #: variables that look like secrets, by name
    )


MOST_COST = 1e300  #: dollars; infinity could not be written down


def bounded(error: Error | None) -> Error | None:
    """The same, with as much of it as a result may hold: a task may raise any text."""
    if error is None:
        return None
    return msgspec.structs.replace(
        error,
        message=ends_of(error.message, MOST_ERROR),
        type=error.type and ends_of(error.type, MOST_SAID),
        traceback=error.traceback and ends_of(error.traceback, MOST_ERROR),
    )


def brief(error: Error | None) -> Error | None:
    """The same for one of many attempts, of which a result has a list."""
    if error is None:
        return None
    trace = error.traceback and ends_of(error.traceback, _MOST_TRACE)
    return msgspec.structs.replace(
        error, message=ends_of(error.message, MOST_SAID), traceback=trace
    )


def ends_of(text: str, most: int) -> str:
    """Its beginning and its end, and between them how much was left out."""
    left_out = len(text) - most
    if left_out <= 0:
        return text
    head = most // 2
    tail = text[len(text) - (most - head) :]
    return f"{text[:head]} [... {left_out} letters left out ...] {tail}"


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an answer took, as far as the agent tells."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0  #: of the input, read from the provider's cache
    turns: int = 0
    cost_usd: float = 0.0


class Asked(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which agent was asked, and by what its provider knows that."""

    model: str | None = None
    credential: str | None = None  #: the key's id, never the key
    session_id: str | None = None
    request_id: str | None = None


class Outcome(msgspec.Struct, frozen=True):
    """What a runner says when one attempt is over.

    `stdout` and `stderr` are the paths of what it printed, None for nothing.
    A `FAULT` is the machine's, a `THROTTLED` its provider's, and not the task's: neither
    counts.
    """

    why: Why
    exit_code: int | None = None
    signal: str | None = None  #: name of the signal that ended it, "SIGKILL"
    value: msgspec.Raw | None = None  #: JSON of what a callable returned
    text: str | None = None  #: what an agent answered
    error: Error | None = None
    stdout: str | None = None
    stderr: str | None = None
    asked: Asked | None = None
    usage: Usage | None = None
    not_before: float = 0.0  #: POSIX seconds, of a THROTTLED
    took: float = 0.0  #: seconds from the claim to the end, by the monotonic clock

    @property
    def counted(self) -> bool:
        """Whether it uses up one of the task's `retries`."""
        return self.why in COUNTED


#: what an attempt says that somebody took back
CANCELLED = Error("cancelled", "cancelled while it ran")
COUNTED = frozenset({Why.FAILED, Why.TIMED_OUT})


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attempt as history keeps it."""

    attempt: int
    why: Why
    counted: bool
    started: str
    finished: str
    worker: str
    host: str
    exit_code: int | None = None
    signal: str | None = None
    error: Error | None = None
    stdout_path: str | None = None
    stderr_path: str | None = None
    asked: Asked | None = None
    usage: Usage | None = None  #: of this attempt alone


class Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """The file `<id>.result.json`.

    `stdout` and `stderr` hold the whole output if it is UTF-8 and fits the
    setting `inline_output`; otherwise its tail, and `..._path` says where the
    whole is, relative to the project.
    """

    version: int  #: of this format
    id: str
    status: Status
    started: str  #: of the last attempt
    finished: str
    duration_s: float
    worker: str
    host: str
    sha256: str | None  #: of the task file's bytes; None if they cannot be read
    attempts: list[Attempt]
    stdout: str
    stderr: str
    exit_code: int | None = None
    signal: str | None = None
    value: msgspec.Raw | None = None
    text: str | None = None
    usage: Usage | None = None  #: of all attempts together
    asked: Asked | None = None
    stdout_path: str | None = None
    stderr_path: str | None = None
    stdout_left_out: int = 0  #: bytes of its middle that are not in the log
    stderr_left_out: int = 0
    error: Error | None = None
    token: str = ""  #: of the attempt that wrote it


class Head(msgspec.Struct, frozen=True):
    """The part of a result that decides something; other keys are ignored."""

    status: Status
    sha256: str | None = None
    finished: str = ""
    duration_s: float = 0.0
    error: Error | None = None
    exit_code: int | None = None
    signal: str | None = None


_HEAD = msgspec.json.Decoder(Head)


def encode(result: Result) -> bytes:
    """The bytes of a result file: one JSON object on one line."""
    return msgspec.json.encode(result) + b"\n"


def parse_head(raw: bytes) -> Head | None:
    """The head of a result, or None if these bytes are no result.

    Bytes are a result if they are a JSON object with one of our statuses; all
    else about them may be of another version.
    """
    try:
        return _HEAD.decode(raw)
    except disk.NO_JSON:
        return _parse_foreign(raw)


def _parse_foreign(raw: bytes) -> Head | None:
    try:
        value = disk.decode(raw)
        return Head(Status(value["status"])) if isinstance(value, dict) else None
    except (ValueError, KeyError):
        return None


def usage_of(attempts: Iterable[Attempt]) -> Usage | None:
    """What all of them took together; None if none of them tells."""
    told = [attempt.usage for attempt in attempts if attempt.usage is not None]
    return total(told) if told else None


def total(every: Iterable[Usage]) -> Usage:
    """The sum of what several answers took."""
    input_tokens = output_tokens = cached_tokens = turns = 0
    costs = []
    for one in every:
        input_tokens += one.input_tokens
        output_tokens += one.output_tokens
        cached_tokens += one.cached_tokens
        turns += one.turns
        costs.append(one.cost_usd)
    cost = min(round(sum(costs), 9), MOST_COST)  # 0.1 + 0.2 is 0.3 to all who pay
    found = Usage(input_tokens, output_tokens, cached_tokens, turns)
    # Left out of the file if it is the default itself: another 0.0 would not be.
    return msgspec.structs.replace(found, cost_usd=cost) if cost else found


def rfc3339(seconds: float) -> str:
    """POSIX seconds as `2026-11-21T03:00:00.123Z`."""
    whole, ms = divmod(round(seconds * 1e6) // 1000, 1000)
    return f"{_to_the_second(whole)}.{ms:03}Z"


@lru_cache(maxsize=2)  # of a thousand quick tasks most begin and end in one second
def _to_the_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def posix(text: str) -> float:
    """RFC 3339 as POSIX seconds; 0.0 for what is no such time."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def reason(error: Error | None, exit_code: int | None, signal: str | None) -> str:
    """In a few words, how something ended that did not succeed."""
    if error is not None:
        return ends_of(error.message, MOST_REASON)
    if signal is not None:
        return f"killed by {signal}"
    return f"exit code {exit_code}" if exit_code is not None else "no reason given"
