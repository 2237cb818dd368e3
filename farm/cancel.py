"""Take a task back: at once if nobody runs it, else by an order to whoever does.

    step = cancel(desk, task_id, now)     again and again, until it is no `ORDERED`

A task that nobody runs is ended here, under its ledger's lock, by a result. One that
runs is ended by its own worker, which finds the order at its next heartbeat; the order
names the attempt's token, so it cannot hit the next run. Were the attempt to end
before that, one of the two wins, and the next step says which.
"""

from enum import Enum

import msgspec

from farm import claim, commit, control, register, rescue
from farm.claim import Reason, Refused
from farm.commit import Desk, End
from farm.journal import VERBS, note
from farm.ledger import open_attempt, peek
from farm.result import Error
from farm.states import Status


class Step(Enum):
    """What one step found or did."""

    CANCELLED = "cancelled"  #: it has ended so, by us or by its worker
    ENDED = "ended"  #: it had ended before, otherwise
    GONE = "gone"  #: its file is gone, so it never runs
    ORDERED = "ordered"  #: somebody runs it, and was told to end it


class Cancelling(msgspec.Struct, frozen=True):
    """What became of a task so far; `status` if it has a result."""

    step: Step
    status: Status | None = None


def cancel(desk: Desk, task_id: str, now: float) -> Cancelling:
    """One step towards the end of a task; OSError if the disk takes nothing."""
    held = claim.hold(desk.project, desk.holder, task_id, now)
    if isinstance(held, Refused):
        return _refused(desk, task_id, held.reason)
    with held:
        sha256 = register.sha256(desk.project, task_id)
        error = Error("cancelled", f"cancelled by a person on {desk.holder.who.host}")
        ending = commit.conclude(desk, held, Status.CANCELLED, error, sha256)
    if ending.end is End.COMMITTED:
        note(desk.project, VERBS, [ending.entry(VERBS)])
        return Cancelling(Step.CANCELLED, Status.CANCELLED)
    return Cancelling(Step.ORDERED)  # fenced: the next step sees by what


def _refused(desk: Desk, task_id: str, reason: Reason) -> Cancelling:
    if reason is Reason.GONE:
        return Cancelling(Step.GONE)
    if reason is Reason.FINAL:
        head = register.counts(desk.project, task_id)
        if head is None:
            return Cancelling(Step.ORDERED)  # deleted in this moment: look again
        cancelled = head.status is Status.CANCELLED
        return Cancelling(Step.CANCELLED if cancelled else Step.ENDED, head.status)
    rescue.rescue(desk.project, desk.holder, task_id)  # its worker may be dead
    past = open_attempt(peek(desk.project.ledger_path(task_id)))
    if past is not None:
        token = past.claimed.token
        control.give(desk.project, control.cancel_name(task_id), token)
    return Cancelling(Step.ORDERED)


def forget(desk: Desk, task_id: str) -> None:
    """The task has ended: an order that came too late must not lie about."""
    control.withdraw(desk.project, control.cancel_name(task_id))
