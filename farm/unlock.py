"""Who holds a task, and free it if that one is provably dead.

Nothing here breaks a lock: what is dead is settled as any worker would settle it
(`farm.rescue`, `farm.claim`), and whoever lives keeps what it holds. The sentences
say on what proof.
"""

import msgspec

from farm import claim, life, process, rescue
from farm.claim import Hold, Holder, Reason
from farm.ledger import Claimed, Past, history, open_attempt, peek
from farm.life import LifeLock, Owner
from farm.project import Project


class Unlocked(msgspec.Struct, frozen=True):
    """Whether nobody holds the task now, and what was found and done."""

    free: bool
    words: str


def unlock(project: Project, holder: Holder, task_id: str, now: float) -> Unlocked:
    """Free a task whose owner is dead; LedgerError if no ledger lies there."""
    before = open_attempt(peek(project.ledger_path(task_id)))
    ended = rescue.rescue(project, holder, task_id)
    held = claim.hold(project, holder, task_id, now)
    if isinstance(held, Hold):
        past = history(held.ledger.lines)
        claim.let_go(project, held)
        return Unlocked(free=True, words=_settled(before, past, ended=ended))
    if held.reason in (Reason.FINAL, Reason.GONE):
        return Unlocked(free=True, words="nobody holds it: it has ended")
    owner = open_attempt(peek(project.ledger_path(task_id)))
    if owner is None:
        strangers = locked_by(project, task_id)
        return Unlocked(free=False, words=strangers or _NOT_SEEN)
    if held.reason is Reason.ORPHANED:
        return Unlocked(
            free=False,
            words=f"its worker {owner.claimed.holder} is dead; {_UNKILLABLE}",
        )
    words = held_by(project, owner.claimed)
    if (
        life.owner_of(project, owner.claimed.holder, owner.claimed.who, "")
        is Owner.DEAD
    ):
        words = "; ".join(filter(None, [words, locked_by(project, task_id)]))
    return Unlocked(free=False, words=words)


_NOT_SEEN = (
    "its lock is held by a process that cannot be seen from here: another user's, or one"
    " on another host or in another container; or a worker takes the task at this moment"
)
_LONGEST_COMMAND = 60  # letters
_MOST_NAMED = 3  # processes
_UNKILLABLE = (
    "but its processes were killed and are not gone: they wait for a device or a"
    " network mount, and the task stays locked as long as they are there"
)


def _settled(before: Past | None, past: list[Past], *, ended: bool) -> str:
    if before is None:
        return "nobody held it"
    last = past[-1].ended if past else None
    how = last.error.message if last and last.error else "its worker is gone"
    also = "; what it had left running was ended" if ended else ""
    return f"freed: {how}{also}"


def held_by(project: Project, owner: Claimed) -> str:
    """Who holds a task, and the proof that it lives: one sentence."""
    who = owner.who
    text = f"{owner.holder} (process {who.pid} on {who.host}) holds it"
    lock = life.observe(project, owner.holder)
    if lock is LifeLock.HELD:
        return f"{text} and lives: the kernel says that its life lock is held"
    if process.is_alive(who):
        return f"{text} and lives: its process runs here since it took the task"
    if process.is_here(who):
        return (
            f"{owner.holder} is dead, but what it started holds the task's lock: a"
            " worker or farm unlock ends that"
        )
    return (
        f"{owner.holder} on {who.host} is dead, but something that it started there"
        f" holds the task's lock: a worker on {who.host}, or farm unlock there, ends it"
    )


def locked_by(project: Project, task_id: str) -> str:
    """Which process has the task's lock without being a worker of it; "" if none has.

    No lock is taken to find that out.
    """
    holders = process.lock_holders(project.ledger_path(task_id))
    if not holders:
        return ""
    workers = {
        seen[1].who.pid
        for name in life.living(project)
        if (seen := life.read(project, name)) and process.is_here(seen[1].who)
    }
    found = [pid for pid in holders if pid not in workers]
    if not found:
        return ""
    named = [f"process {pid}{_doing(pid)}" for pid in found[:_MOST_NAMED]]
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return (
        f"its lock is held by {', '.join(named)}{more}, not a worker: the task cannot"
        " start before that ends or lets the lock go"
    )


def _doing(pid: int) -> str:
    text = process.command_line(pid)
    short = text if len(text) <= _LONGEST_COMMAND else f"{text[:_LONGEST_COMMAND]}..."
    return f" ({short})" if short else ""
