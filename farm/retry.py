"""Whether and when a task runs again: pure decisions on its attempts.

`next_step` is asked twice in a task's life: under the lock before a run
(somebody else's attempts lie in the ledger) and after a run (ours is the last
of them). Both times it sees the attempts at the bytes that now lie there, in
order, all ended; attempts at other bytes never count.
"""

from collections.abc import Sequence

import msgspec

from farm.backoff import Uniform, full_jitter, uniform
from farm.ledger import Ended
from farm.states import Status, Why

CLOCK_SLACK = 60.0  # seconds by which hosts' clocks may differ
MAX_ATTEMPTS = 1000  #: but for those whose bound is a time: keeps ledgers small


class Policy(msgspec.Struct, frozen=True):
    """How often a task may fail or vanish. Delays are seconds."""

    retries: int = 0  #: extra attempts after the first that count
    base_delay: float = 1.0
    max_delay: float = 60.0
    max_lost: int = 3  #: attempts that may vanish with their worker
    max_wait: float = 86_400.0  #: how long its provider may put it off


class Run(msgspec.Struct, frozen=True):
    """Run it now."""


class Wait(msgspec.Struct, frozen=True):
    """Run it at `until`, POSIX seconds."""

    until: float


class Finish(msgspec.Struct, frozen=True):
    """No further attempt: this is how the task ended."""

    status: Status


FINAL_WORDS = {
    Why.SUCCEEDED: Status.SUCCEEDED,
    Why.CANCELLED: Status.CANCELLED,
    Why.FAILED: Status.FAILED,
    Why.TIMED_OUT: Status.TIMED_OUT,
}
_DELAYED = (Why.FAILED, Why.TIMED_OUT, Why.FAULT, Why.THROTTLED)


def next_step(
    attempts: Sequence[Ended], policy: Policy, now: float
) -> Run | Wait | Finish:
    """What follows after these attempts."""
    if not attempts:
        return Run()
    status = _final(attempts, policy, now)
    if status is not None:
        return Finish(status)
    last = attempts[-1]
    # A clock that was set back cannot tell how long to wait.
    must_wait = last.finished - CLOCK_SLACK <= now < last.not_before
    return Wait(last.not_before) if must_wait else Run()


def _final(attempts: Sequence[Ended], policy: Policy, now: float) -> Status | None:
    """How the task has ended with the last of them; None if it may run again."""
    last = attempts[-1]
    if last.why in (Why.SUCCEEDED, Why.CANCELLED):
        return FINAL_WORDS[last.why]
    if last.counted and sum(a.counted for a in attempts) > policy.retries:
        return FINAL_WORDS.get(last.why, Status.FAILED)
    if put_off_for(attempts, now) > policy.max_wait:
        return Status.FAILED
    vanished = sum(a.why == Why.LOST for a in attempts)
    others = sum(a.why != Why.THROTTLED for a in attempts)
    if vanished >= policy.max_lost or others >= MAX_ATTEMPTS:
        return Status.LOST
    return None


def put_off_for(attempts: Sequence[Ended], now: float) -> float:
    """Seconds over which its provider has done nothing but put it off."""
    since = now
    for ended in reversed(attempts):
        if ended.why not in (Why.THROTTLED, Why.DRAINED, Why.LOST):
            break
        since = ended.finished if ended.why is Why.THROTTLED else since
    return max(0.0, now - since)


def retry_at(
    attempts: Sequence[Ended],
    why: Why,
    policy: Policy,
    now: float,
    uniform: Uniform = uniform,
) -> float:
    """When the attempt after one that now ended `why` may start; 0.0 at once.

    Only failures of the same kind lengthen the delay: a task that failed twice
    and then lost its worker is not made to wait for the loss.
    """
    if why not in _DELAYED:
        return 0.0
    alike = sum(a.why == why for a in attempts)
    return now + full_jitter(alike, policy.base_delay, policy.max_delay, uniform)
