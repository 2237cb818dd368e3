"""Who holds a task, and free it if that one is provably dead.

Nothing here breaks a lock: what is dead is settled as any worker would settle it
(`farm.rescue`, `farm.claim`), and whoever lives keeps what it holds. The sentences
say on what proof.
"""

import msgspec

from farm import claim, life, process, rescue
from farm.claim import Hold, Holder, Reason
from farm.ledger import Claimed, Past, history, open_attempt, peek
from farm.life import LifeLock
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
        return Unlocked(free=False, words="somebody took it in this very moment")
    if held.reason is Reason.ORPHANED:
        return Unlocked(
            free=False,
            words=f"its worker {owner.claimed.holder} is dead; {_UNKILLABLE}",
        )
    return Unlocked(free=False, words=held_by(project, owner.claimed))


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
