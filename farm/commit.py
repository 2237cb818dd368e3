"""End an attempt: make it the task's result, or give the task back.

    finish(claim, outcome)   a run is over: commit, or note it and retry later
    conclude(hold, ...)      a result without a run: skipped, invalid, cancelled
    exhaust(exhausted)       what earlier attempts came to: lost, failed ...

Each of them lets the lock go when it returns. A result is linked only after
`still_ours` said that nobody else can have worked on the task; if it says no,
or another result is there already, we are *fenced*: our output is kept in
`.farm/logs/` and nothing is changed. Processes of the attempt must be ended
before any of these is called: the lock is their leash.

OSError means that the disk took nothing (full, say): the lock is kept, the
attempt is still open and still ours, and the caller tries again or lets go. To
try again is safe: a result of ours that is already there is known by its bytes.
"""

from contextlib import suppress
from enum import StrEnum

import msgspec

from farm import control, disk, register
from farm.claim import Claim, Exhausted, Hold, Holder
from farm.config import LEAST_OUTPUT, Settings
from farm.journal import Entry
from farm.ledger import Ended, Final, Past, endings
from farm.project import Project
from farm.result import (
    MOST_SAID,
    VERSION,
    Attempt,
    Error,
    Outcome,
    Result,
    Usage,
    bounded,
    brief,
    encode,
    ends_of,
    posix,
    rfc3339,
    usage_of,
)
from farm.retry import Finish, next_step, retry_at
from farm.states import Status, Why
from farm.words import counted, duration

MOST_INLINE = 4 << 20  #: bytes of stdout, or stderr, in a result
SYNC_AFTER = 0.1  # seconds; quicker attempts cost less to run again than to sync


class End(StrEnum):
    """What became of an attempt."""

    COMMITTED = "committed"
    RETRY = "retry"  #: noted; it runs again, perhaps later
    FENCED = "fenced"  #: the task was not ours any more


class Ending(msgspec.Struct, frozen=True):
    """What became of an attempt, for the journal and for people."""

    end: End
    id: str
    why: Why | None = None  #: of the attempt; None for a result without a run
    status: Status | None = None  #: of the result, if one was committed
    error: Error | None = None
    attempt: int = 0
    duration: float = 0.0  #: seconds
    finished: float = 0.0  #: POSIX seconds, as the result has it
    until: float = 0.0  #: POSIX seconds; when a retry may start
    file: int = 0  #: the identity of the result's file; 0 if there is none, or unknown
    usage: Usage | None = None  #: of the attempt

    def entry(self, writer: str) -> Entry:
        """The same as a line of the journal."""
        return Entry(
            id=self.id,
            at=self.finished,
            worker=writer,
            why=self.why,
            status=self.status,
            attempt=self.attempt,
            duration=round(self.duration, 6),
            message=ends_of(self.error.message, MOST_SAID) if self.error else "",
            file=self.file,
            usage=self.usage,
        )


class Desk(msgspec.Struct, frozen=True):
    """What every ending needs: where, who, and by which settings."""

    project: Project
    holder: Holder
    settings: Settings


def finish(desk: Desk, claim: Claim, outcome: Outcome, now: float) -> Ending:
    """A run is over: commit it, or note it and let the task run again.

    An attempt that does not count (drained, the machine's fault) is noted, too.
    Who tries again gives the same outcome and the same `now`.
    """
    outcome = msgspec.structs.replace(outcome, error=bounded(outcome.error))
    ended = _ended(desk, claim, outcome, now)
    attempts = [*endings(claim.past), ended]
    step = next_step(attempts, claim.policy, now)
    if isinstance(step, Finish):
        if outcome.why is Why.THROTTLED and outcome.error is not None:
            error = _given_up(desk, outcome.error)
            outcome = msgspec.structs.replace(outcome, error=error)
        result = _result(desk, claim, outcome, ended, step.status)
        return _commit(desk, claim.hold, result, ended)
    return _note(claim, ended, outcome.took)


def conclude(
    desk: Desk, held: Hold, status: Status, error: Error, sha256: str | None
) -> Ending:
    """Commit a result that no run brought about: it starts and ends with this hold."""
    attempts = [attempt_of(p) for p in held.past(sha256)]
    result = Result(
        version=VERSION,
        id=held.id,
        status=status,
        usage=usage_of(attempts),
        started=rfc3339(held.since),
        finished=rfc3339(held.since),
        duration_s=0.0,
        worker=desk.holder.name,
        host=desk.holder.who.host,
        sha256=sha256,
        attempts=attempts,
        stdout="",
        stderr="",
        error=bounded(error),
    )
    return _commit(desk, held, result, None)


def exhaust(desk: Desk, taken: Exhausted) -> Ending:
    """Commit what a task's history already says: it may not run again."""
    opened, last = taken.past[-1].claimed, taken.past[-1].ended
    assert last is not None, "only ended attempts are history"  # noqa: S101 - for mypy
    error = last.error or Error("failed", "its last attempt failed")
    if taken.status is Status.LOST:
        vanished = sum(ended.why == Why.LOST for ended in endings(taken.past))
        message = (
            f"{counted(vanished, 'attempt')} vanished with a worker; the last one:"
        )
        error = Error("lost", f"{message} {error.message}")
    if last.why is Why.THROTTLED:
        error = _given_up(desk, error)
    attempts = [attempt_of(p) for p in taken.past]
    result = Result(
        version=VERSION,
        id=taken.hold.id,
        status=taken.status,
        usage=usage_of(attempts),
        started=rfc3339(opened.acquired_at),
        finished=rfc3339(last.finished),
        duration_s=round(last.finished - opened.acquired_at, 6),
        worker=desk.holder.name,
        host=desk.holder.who.host,
        sha256=taken.sha256,
        attempts=attempts,
        exit_code=last.exit_code,
        signal=last.signal,
        stdout="",
        stderr="",
        stdout_path=last.stdout_path,
        stderr_path=last.stderr_path,
        error=bounded(error),
    )
    return _commit(desk, taken.hold, result, None)


def _given_up(desk: Desk, error: Error) -> Error:
    """The error of a task that ends because it was only put off."""
    wait = f"put off by its provider for longer than {duration(desk.settings.max_wait)}"
    return msgspec.structs.replace(error, message=f"{wait}: {error.message}")


# -- steps ---------------------------------------------------------------------


def _ended(desk: Desk, claim: Claim, outcome: Outcome, now: float) -> Ended:
    before = endings(claim.past)
    relative = desk.project.relative
    return Ended(
        token=claim.opened.token,
        attempt=claim.opened.attempt,
        why=outcome.why,
        counted=outcome.counted,
        finished=now,
        not_before=max(
            outcome.not_before, retry_at(before, outcome.why, claim.policy, now)
        ),
        exit_code=outcome.exit_code,
        signal=outcome.signal,
        error=outcome.error,
        stdout_path=relative(outcome.stdout) if outcome.stdout else None,
        stderr_path=relative(outcome.stderr) if outcome.stderr else None,
        asked=outcome.asked,
        usage=outcome.usage,
    )


def attempt_of(past: Past) -> Attempt:
    """An ended attempt, as results keep it."""
    opened, ended = past.claimed, past.ended
    assert ended is not None, "only ended attempts are history"  # noqa: S101 - for mypy
    return Attempt(
        attempt=opened.attempt,
        why=ended.why,
        counted=ended.counted,
        started=rfc3339(opened.acquired_at),
        finished=rfc3339(ended.finished),
        worker=opened.holder,
        host=opened.who.host,
        exit_code=ended.exit_code,
        signal=ended.signal,
        error=brief(ended.error),
        stdout_path=ended.stdout_path,
        stderr_path=ended.stderr_path,
        asked=ended.asked,
        usage=ended.usage,
    )


class _Text(msgspec.Struct, frozen=True):
    inline: str = ""
    path: str | None = None
    left_out: int = 0


def _text(desk: Desk, path: str | None) -> _Text:
    """Output as a result holds it: whole if it fits and is text, else its tail."""
    if path is None:
        return _Text()
    most = min(desk.settings.inline_output, MOST_INLINE)
    raw, size = disk.read_tail(path, most)
    text = raw.decode(errors="replace")
    left_out = disk.left_out(path) if size > LEAST_OUTPUT else 0
    whole = size <= most and not left_out and text.encode() == raw
    return _Text(text, None if whole else desk.project.relative(path), left_out)


def _result(
    desk: Desk, claim: Claim, outcome: Outcome, ended: Ended, status: Status
) -> Result:
    opened = claim.opened
    out, err = _text(desk, outcome.stdout), _text(desk, outcome.stderr)
    # The traceback is the result's own; it has it once.
    error = ended.error and msgspec.structs.replace(ended.error, traceback=None)
    last = msgspec.structs.replace(
        ended, error=error, stdout_path=out.path, stderr_path=err.path
    )
    attempts = [*map(attempt_of, claim.past), attempt_of(Past(opened, last))]
    attempt = attempts[-1]
    return Result(
        version=VERSION,
        id=claim.id,
        status=status,
        started=attempt.started,
        finished=attempt.finished,
        duration_s=round(outcome.took, 6),
        worker=opened.holder,
        host=opened.who.host,
        sha256=opened.sha256,
        attempts=attempts,
        exit_code=outcome.exit_code,
        signal=outcome.signal,
        value=outcome.value,
        text=outcome.text,
        usage=usage_of(attempts),
        asked=outcome.asked,
        stdout=out.inline,
        stderr=err.inline,
        stdout_path=out.path,
        stderr_path=err.path,
        stdout_left_out=out.left_out,
        stderr_left_out=err.left_out,
        error=outcome.error,
        token=opened.token,
    )


def _syncs(desk: Desk, result: Result) -> bool:
    durability = desk.settings.durability
    slow = result.duration_s > SYNC_AFTER or result.text is not None
    return durability == "always" or (durability == "auto" and slow)


def _commit(desk: Desk, held: Hold, result: Result, ended: Ended | None) -> Ending:
    project, ledger = desk.project, held.ledger
    file = None
    if ledger.still_ours():
        aside = project.aside_path(desk.holder.name, "result")
        sync = _syncs(desk, result)
        file = register.put(project, held.id, encode(result), aside, sync=sync)
    won = file is not None
    if won and project.network:
        ledger.append(Final(result.status))
    ledger.let_go(unlink=won and not project.network)
    with suppress(OSError):  # the task is over; this only tidies up
        if result.status is Status.CANCELLED:
            control.withdraw(project, control.cancel_name(held.id))
        if won:
            _drop_inlined_logs(desk, held.id, result)
        else:
            _keep_fenced(desk, held.id, result)
    return Ending(
        end=End.COMMITTED if won else End.FENCED,
        id=held.id,
        why=ended.why if ended else None,
        status=result.status if won else None,
        error=result.error,
        attempt=ended.attempt if ended else 0,
        duration=result.duration_s,
        finished=posix(result.finished),
        file=file or 0,
        usage=ended.usage if ended else None,
    )


def _drop_inlined_logs(desk: Desk, task_id: str, result: Result) -> None:
    if not result.attempts or not (result.stdout or result.stderr):
        return
    attempt = result.attempts[-1].attempt
    for suffix, text, kept in (
        ("out", result.stdout, result.stdout_path),
        ("err", result.stderr, result.stderr_path),
    ):
        if text and kept is None:
            disk.unlink(desk.project.log_path(task_id, attempt, suffix))


def _keep_fenced(desk: Desk, task_id: str, result: Result) -> None:
    """Somebody else's result stands: ours goes to the logs, so nothing is lost."""
    attempt = result.attempts[-1].attempt if result.attempts else 0
    aside = desk.project.aside_path(desk.holder.name, "fenced")
    kept = desk.project.log_path(task_id, attempt, f"{result.token}.fenced")
    disk.replace(kept, encode(result), aside)


def _note(claim: Claim, ended: Ended, took: float) -> Ending:
    ledger = claim.hold.ledger
    ours = ledger.still_ours()
    if ours:
        ledger.append(ended)
    ledger.let_go()
    return Ending(
        end=End.RETRY if ours else End.FENCED,
        id=claim.id,
        why=ended.why,
        error=ended.error,
        attempt=ended.attempt,
        duration=took,
        finished=ended.finished,
        until=ended.not_before,
        usage=ended.usage,
    )
