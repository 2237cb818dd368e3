"""A key for one attempt: take its turn, and pass on what was learned.

    found = take(job, want)                    -> Turn | Outcome
    refused(job, want, turn, trouble)          -> Outcome

A turn that comes within a minute, and within the task's time, is waited for; for a
later one the task is given back. While it waits, the attempt hears that it is cancelled
or that its worker is to stop: nothing of it has begun. No attempt that its provider put
off counts against the task's `retries`.
"""

import math
import time

from farm.job import Job
from farm.keyring import MOST_INLINE, Later, without_key
from farm.result import CANCELLED, Error, Outcome
from farm.scopes import Turn, Want
from farm.states import Why
from farm.trouble import ERROR_KINDS, Kind, Trouble

_OF_KEY = (Kind.DEAD, Kind.FORBIDDEN, Kind.NO_MODEL)


def take(job: Job, wanted: Want) -> Turn | Outcome:
    """A key whose time has come; or why there is none in this attempt.

    ConfigError if a key cannot be read.
    """
    timeout = job.claim.opened.timeout
    until = time.time() + min(MOST_INLINE, math.inf if timeout is None else timeout)
    while True:
        found = job.keys.ask(wanted, time.time())
        at = found.at if isinstance(found, Turn) else found.until
        if at is None or at > until:
            why = found.why if isinstance(found, Later) else "its turn comes too late"
            return _put_off(at, Error("rate_limited", why))
        if stopped := _wait(job, at):
            return stopped
        if isinstance(found, Turn):
            return found


def _put_off(until: float | None, error: Error) -> Outcome:
    return Outcome(Why.THROTTLED, error=error, not_before=until or 0.0)


def _wait(job: Job, at: float) -> Outcome | None:
    """Until a time; or what became of the attempt meanwhile."""
    while (left := at - time.time()) > 0:
        if job.cancelled:
            return Outcome(Why.CANCELLED, error=CANCELLED)
        if job.stop.soon:
            words = f"its worker was told to stop ({job.stop.reason})"
            return Outcome(Why.DRAINED, error=Error("drained", words))
        job.stop.bell.wait(left)
    return None


def refused(job: Job, wanted: Want, turn: Turn, trouble: Trouble) -> Outcome:
    """Tell everybody; the attempt is put off until a key is free, which may be now."""
    now = time.time()
    trouble = without_key(trouble, turn.key)
    error = Error(ERROR_KINDS[trouble.kind], trouble.message)
    if trouble.kind in _OF_KEY and not turn.key.secret:
        return Outcome(Why.FAILED, error=error)  # a login is mended where it was made
    trouble = job.keys.blame(turn, trouble)
    job.keys.refused(turn, trouble, now)
    if trouble.kind is Kind.BAD:
        return Outcome(Why.FAILED, error=error)
    later = job.keys.later(wanted, now)
    return _put_off(later.until if later else None, error)
