"""Take a task so that nobody else can.

    hold(...)  -> Hold | Refused      lock, result, dead owners, history
    take(...)  -> Claim | Exhausted | Refused    a hold on a task that may run now

`hold` is what every writer of a result needs (also of `skipped`, `invalid`,
`cancelled`); `take` goes on to read the bytes and to append `claimed`. Whoever
gets a Hold or a Claim must end it through `farm.commit` or `let_go`.

Refusals are named values, not errors: another worker was quicker, and that is
the usual case. Errors are the machine's (OSError, MountError) and leave no lock
behind.
"""

import os
import time
from contextlib import suppress
from enum import StrEnum
from typing import Self

import msgspec

from farm import disk, life, process, register
from farm.capture import CANCELLED_IN, ENDED_IN, inherit
from farm.config import Settings
from farm.control import Control
from farm.errors import TaskFileError
from farm.health import cause_of_death
from farm.journal import VERBS, Entry, note
from farm.ledger import (
    Claimed,
    Ended,
    Final,
    Ledger,
    Past,
    endings,
    history,
    open_attempt,
)
from farm.look import Look
from farm.process import Identity, Mark
from farm.project import Project, Signature, signature_of
from farm.result import CANCELLED, COUNTED, Error, Head, bounded
from farm.retry import Finish, Policy, Wait, next_step
from farm.states import Status, Why
from farm.task import Task


class Holder(msgspec.Struct, frozen=True):
    """Who claims: a worker by its life lock's name, or a verb for a moment."""

    name: str
    who: Identity

    @classmethod
    def passing(cls) -> "Holder":
        """A process without a life lock; its process id is its only veto."""
        who = process.identify()
        return cls(life.default_name(who), who)


class Reason(StrEnum):
    """Why a task cannot be had now."""

    BUSY = "busy"  #: its lock is held
    VETOED = "vetoed"  #: the lock is free, but its owner is seen alive
    ORPHANED = "orphaned"  #: processes of a dead owner do not end
    FINAL = "final"  #: it has a result
    GONE = "gone"  #: it has no file (any more)
    CHANGED = "changed"  #: other bytes than those that were looked at
    DELAYED = "delayed"  #: its next attempt has its time


class Refused(msgspec.Struct, frozen=True):
    """No claim, and why."""

    reason: Reason
    until: float = 0.0  #: of DELAYED, POSIX seconds


class Hold:
    """A task under its ledger's lock, with what its past owner left settled.

    As a context it gives the lock up if what is done in it raises; the attempt stays
    open then.
    """

    def __init__(
        self, task_id: str, ledger: Ledger, since: float, signature: Signature
    ) -> None:
        self.id = task_id
        self.ledger = ledger
        self.since = since  #: POSIX seconds: when the lock was taken
        self.tick = time.monotonic()  #: the same; no clock that is set moves it
        self.signature = signature  #: of the task's file, under the lock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _: object) -> None:
        if error is not None:
            self.ledger.abandon()

    def past(self, sha256: str | None) -> list[Past]:
        """The ended attempts at these bytes, in order; others do not count."""
        every = history(self.ledger.lines)
        return [p for p in every if p.ended and p.claimed.sha256 == sha256]


class Claim(msgspec.Struct, frozen=True):
    """A hold whose attempt is open: it must be run now."""

    hold: Hold
    task: Task
    opened: Claimed
    past: list[Past]  #: earlier attempts at the same bytes
    policy: Policy

    @property
    def id(self) -> str:
        """The task's id."""
        return self.hold.id


class Exhausted(msgspec.Struct, frozen=True):
    """The task may not run again: its history already says how it ended."""

    hold: Hold
    past: list[Past]
    status: Status
    sha256: str


def policy_of(task: Task, settings: Settings) -> Policy:
    """How often this task may fail, by its file or else by the settings."""
    given = task.retries
    if given is None:
        return Policy(
            retries=settings.retries,
            max_lost=settings.max_lost,
            max_wait=settings.max_wait,
        )
    return Policy(
        given.max,
        given.base_delay,
        given.max_delay,
        settings.max_lost,
        settings.max_wait,
    )


def hold(project: Project, holder: Holder, task_id: str, now: float) -> Hold | Refused:
    """Lock a task that has no result, and settle what its past owner left."""
    ledger = Ledger.open(project.ledger_path(task_id))
    if ledger is None:
        return Refused(Reason.BUSY)
    held: Hold | Refused = Refused(Reason.BUSY)  # until we know better
    try:
        held = _held(project, holder, task_id, ledger, now)
    finally:
        if isinstance(held, Refused):
            final = held.reason is Reason.FINAL
            ledger.let_go(unlink=_may_unlink(project, ledger, final=final))
    return held


def _may_unlink(project: Project, ledger: Ledger, *, final: bool) -> bool:
    # An empty one is what we made ourselves a moment ago, on a stale name.
    return not project.network and (final or ledger.size == 0)


def _held(
    project: Project, holder: Holder, task_id: str, ledger: Ledger, now: float
) -> Hold | Refused:
    lies = register.look(project, task_id)  # the truth only now, under the lock
    if isinstance(lies, Head) and not register.is_outdated(project, task_id, lies):
        if project.network and ledger.lines:  # its owner died before this line
            ledger.append(Final(lies.status))
        return Refused(Reason.FINAL)
    if refused := settle_owner(project, holder, ledger, now):
        return refused
    try:
        there = os.lstat(project.task_path(task_id))
    except OSError:
        return Refused(Reason.GONE)
    if lies is not register.Lying.NOTHING:
        aside = project.aside_path(holder.name, f"bad-{os.urandom(4).hex()}")
        register.set_aside(project, task_id, aside)
        if register.counts(project, task_id) is not None:
            return Refused(Reason.FINAL)  # RACE: a result came, and was linked back
    return Hold(task_id, ledger, now, signature_of(there))


def settle_owner(
    project: Project, holder: Holder, ledger: Ledger, now: float
) -> Refused | None:
    """Under the lock: note how an open attempt ended, unless its owner lives."""
    past = open_attempt(ledger.lines)
    if past is None:
        return None
    owner = past.claimed
    if life.owner_of(project, owner.holder, owner.who, holder.name) is life.Owner.ALIVE:
        return Refused(Reason.VETOED)
    mark = mark_of(past, ledger.inode)
    if process.is_here(owner.who) and not process.end_marked(mark):
        return Refused(Reason.ORPHANED)
    ended = vanished(project, past, now)
    ledger.append(ended)
    note(project, VERBS, [_told(project, past, ended)])
    return None


def _told(project: Project, past: Past, ended: Ended) -> Entry:
    """The line about an attempt whose owner is dead; its worker cannot write it."""
    owner = past.claimed
    silent = None
    if process.is_here(owner.who) and not project.network:
        with suppress(FileNotFoundError):  # an operator removed it
            sign = os.stat(project.life_path(owner.holder)).st_mtime
            silent = round(max(0.0, ended.finished - sign), 3)
    return Entry(
        id=owner.task,
        at=ended.finished,
        worker=VERBS,
        why=ended.why,
        attempt=owner.attempt,
        duration=round(max(0.0, ended.finished - owner.acquired_at), 6),
        message=ended.error.message if ended.error else "",
        rescue=silent,
    )


def mark_of(past: Past, inode: tuple[int, int]) -> Mark:
    """What the processes of an attempt carry; `inode` is its ledger's."""
    owner, child = past.claimed, past.child
    group = (child.group, child.ticks) if child else None
    return Mark(owner.token, (*inode, owner.who.pid), group)


def vanished(project: Project, past: Past, now: float) -> Ended:
    """How an attempt ended whose owner is dead.

    An order to cancel it still holds: its worker may have ended to obey, and left
    the stacks of all threads under the attempt's token. Stacks without a token are
    those of a callable that was stuck past its deadline, when the worker's own
    watchdog ended it: that is a time-out, and counts. Any other disappearance is
    `lost` and does not.
    """
    owner = past.claimed
    stacks = _left_stacks(project.aside_path(owner.holder, "stacks"))
    by_heart = stacks.startswith((CANCELLED_IN, ENDED_IN))
    ours = stacks.startswith(f"{CANCELLED_IN}{owner.token}\n")
    if ours or Control(project).read().cancels_run(owner.task, owner.token):
        why = Why.CANCELLED
        error = msgspec.structs.replace(CANCELLED, traceback=stacks or None)
    elif stacks.startswith(f"{ENDED_IN}{owner.token} "):
        why, error = _left_verdict(stacks)
    elif stacks and not by_heart and owner.timeout is not None:
        why, message = Why.TIMED_OUT, f"timed out after {owner.timeout:g} s, stuck in C"
        error = Error("timeout", message, traceback=stacks)
    else:
        death = cause_of_death(project, owner.holder)
        why, message = Why.LOST, f"its worker {owner.holder} {death}"
        error = Error("lost", message)
    printed = inherit(project, owner.holder, owner.task, owner.attempt)
    relative = {fd: project.relative(path) for fd, path in printed.items()}
    return Ended(
        token=owner.token,
        attempt=owner.attempt,
        why=why,
        counted=why in COUNTED,
        finished=now,
        error=bounded(error),
        stdout_path=relative.get(1),
        stderr_path=relative.get(2),
    )


def _left_verdict(stacks: str) -> tuple[Why, Error]:
    """Why a worker ended a callable that was stuck, and itself with it."""
    _token, why, message = stacks.partition("\n")[0][len(ENDED_IN) :].split(" ", 2)
    if why == Why.TIMED_OUT:
        return Why.TIMED_OUT, Error("idle", message, traceback=stacks)
    return Why.FAILED, Error("output", message, traceback=stacks)


def _left_stacks(path: str) -> str:
    try:
        return disk.read_file(path, disk.SMALL).decode(errors="replace")
    except OSError:
        return ""  # none were left: the usual case


def take(
    project: Project, holder: Holder, look: Look, settings: Settings, now: float
) -> Claim | Exhausted | Refused:
    """Claim a task that was looked at and found ready."""
    held = hold(project, holder, look.id, now)
    if isinstance(held, Refused):
        return held
    taken: Claim | Exhausted | Refused = Refused(Reason.BUSY)  # until we know better
    try:
        taken = _take_held(project, holder, held, look, settings)
    finally:
        if isinstance(taken, Refused):
            let_go(project, held)
    return taken


def _take_held(
    project: Project, holder: Holder, held: Hold, look: Look, settings: Settings
) -> Claim | Exhausted | Refused:
    if look.task is None or look.sha256 is None or not lies_there(project, held, look):
        return Refused(Reason.CHANGED)
    rules = policy_of(look.task, settings)
    past = held.past(look.sha256)
    step = next_step(endings(past), rules, held.since)
    if isinstance(step, Wait):
        return Refused(Reason.DELAYED, step.until)
    if isinstance(step, Finish):
        return Exhausted(held, past, step.status, look.sha256)
    timeout = look.task.timeout
    opened = next_claimed(
        held.ledger,
        holder,
        look.id,
        held.since,
        timeout=settings.timeout if timeout is None else timeout,
    )
    opened = msgspec.structs.replace(opened, sha256=look.sha256)
    held.ledger.append(opened)
    # A task that crashes its host must not do so for ever. On a network file system
    # the line stays with us until then, and nobody else sees that the task runs.
    if project.network or (past and settings.durability != "never"):
        held.ledger.sync()
    return Claim(held, look.task, opened, past, rules)


def next_claimed(
    ledger: Ledger,
    holder: Holder,
    task_id: str,
    now: float,
    *,
    timeout: float | None,
) -> Claimed:
    """The line that opens the next attempt, with a token of its own."""
    numbers = [line.attempt for line in ledger.lines if isinstance(line, Claimed)]
    return Claimed(
        task=task_id,
        attempt=max(numbers, default=0) + 1,
        token=os.urandom(8).hex(),
        holder=holder.name,
        who=holder.who,
        acquired_at=now,
        timeout=timeout,
    )


def lies_there(project: Project, held: Hold, look: Look) -> bool:
    """Whether the bytes that were looked at still lie there, under the lock."""
    if look.settled and look.signature == held.signature:
        return True
    try:
        return project.read_task(look.id).sha256 == look.sha256
    except FileNotFoundError:
        return False
    except TaskFileError:
        return look.sha256 is None


def let_go(project: Project, held: Hold) -> None:
    """Free a task without a word; its ledger stays if it has a history."""
    held.ledger.let_go(unlink=_may_unlink(project, held.ledger, final=False))
