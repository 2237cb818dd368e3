"""Where a task stands before anything is locked, and which one goes first.

    judge.look(now, tick)         the orders in force, and whether the clock was set
    judge.standing(look, ...)     Ready, Doomed or Waiting, with the reason
    in_order(ready, stripe)       best first

`farm.queue` finds the files and the results; the judge keeps what else matters: orders,
refused claims, delays, files that are refused. Order: higher `priority` first; among
equals one's own stripe by name, then the others' from their ends (stealing where the
owner comes last). Few tasks (`FEW`) are one stripe: people see them start in order.
"""

import re
import zlib
from collections.abc import Callable, Collection, Iterable, Set
from typing import Any

import msgspec

from farm import register
from farm.control import Control, Orders, cancel_name
from farm.look import Look, fault_error
from farm.needs import (
    MOST_IN_CIRCLE,
    MOST_NAMED,
    Broken,
    Needs,
    Unmet,
    circle_fault,
    circles,
)
from farm.pattern import is_glob
from farm.project import Project
from farm.refused import BLOCKED_PAUSE, LOOK_AGAIN, Again, Obstacle, RefusedClaims
from farm.result import Error
from farm.states import Status
from farm.task import Task

FEW = 100  #: open tasks, which all workers take in one order
MOST_NATURAL = (
    1_000  # names that are put in natural order; of a million it takes seconds
)
_NUMBER = re.compile("([0-9]+)")
SETTLE = 2.0  # seconds that a refused file must stand still
CLOCK_STEP = 1.0  # seconds; a clock that moved further by itself was set


class Ready(msgspec.Struct, frozen=True):
    """A task that may be claimed now."""

    look: Look


class Doomed(msgspec.Struct, frozen=True):
    """A task that can only end: with this status, for this reason."""

    look: Look
    status: Status
    error: Error


class Waiting(msgspec.Struct, frozen=True):
    """A task that waits. `until` is POSIX seconds where time alone ends it."""

    why: str
    until: float | None = None
    for_key: bool = False
    watched: str = ""  #: the need without whose end nothing changes
    comes: bool = False  #: as soon as what it needs has ended well, and that is there


Standing = Ready | Doomed | Waiting
PutOff = Callable[[Task, float], Waiting | None]  #: whether a key can be had at a time


class Stripe(msgspec.Struct, frozen=True):
    """Which part of the ready tasks is this worker's own."""

    index: int = 0
    count: int = 1

    def owns(self, task_id: str) -> bool:
        """Whether a task is in it; every host computes the same."""
        return zlib.crc32(task_id.encode()) % self.count == self.index

    def split(self, ids: Collection[str]) -> tuple[list[str], list[str]]:
        """Our own and the others' among these, each in order with the first one last."""
        by_name = name_order(len(ids))
        if self.count == 1:
            return sorted(ids, key=by_name, reverse=True), []
        own: list[str] = []
        others: list[str] = []
        for task_id in ids:
            (own if self.owns(task_id) else others).append(task_id)
        return sorted(own, key=by_name, reverse=True), sorted(others, key=by_name)


def natural(task_id: str) -> tuple[list[str | int], str]:
    """A key to sort names by: their numbers count as such, so 2 comes before 10."""
    parts = _NUMBER.split(task_id)
    # Text and numbers take turns, so that like is compared with like.
    return [int(p) if n % 2 else p for n, p in enumerate(parts)], task_id


def name_order(count: int) -> Callable[[str], Any] | None:
    """The key for so many names: of very many the plain order must do."""
    return natural if count <= MOST_NATURAL else None


def in_order(ready: Collection[Look], stripe: Stripe) -> list[Look]:
    """Best first; see the module's docstring."""
    by_name = name_order(len(ready)) or str
    mine: list[Look] = []
    others: list[Look] = []
    for look in ready:
        (mine if stripe.owns(look.id) else others).append(look)
    mine.sort(key=lambda look: by_name(look.id))
    others.sort(key=lambda look: by_name(look.id), reverse=True)
    return sorted(mine + others, key=priority, reverse=True)


def priority(look: Look) -> int:
    """Higher goes first."""
    return look.priority


class Outlook(msgspec.Struct, frozen=True):
    """What is still to come, once nothing is ready."""

    timed: bool  #: something becomes ready by time alone
    held: bool  #: others run something
    stuck: dict[str, Waiting]  #: waits for what nobody may ever do

    @property
    def quiet(self) -> bool:
        """Whether nothing will change unless somebody drops or changes a file."""
        return not (self.timed or self.held)


class Judge:
    """Says where each task stands: by what people ordered, by time, by its needs.

    `now` is POSIX seconds, `tick` our own monotonic seconds. A file that is refused
    is left alone until it has stood still for `SETTLE` seconds of the latter: somebody
    may be writing it.
    """

    def __init__(
        self, project: Project, needs: Needs, put_off: PutOff | None = None
    ) -> None:
        self.needs = needs  #: answers to the names that are known now
        self._put_off = put_off
        self._given_up: set[str] = set()  # put off for too long
        self._project = project
        self._control = Control(project)
        self._orders = Orders()
        self._cycles: dict[str, list[str]] = {}
        self.refused = RefusedClaims()  #: and when each is looked at again
        self._still: dict[str, tuple[Any, float]] = {}  # id -> signature, since tick
        self._epoch = 0.0  # POSIX seconds at tick 0, as of the last look

    # -- learning ------------------------------------------------------------

    def look(self, now: float, tick: float) -> None:
        """Read the orders, and notice a clock that was set.

        In both cases the ledgers are asked again who must wait: an order may say
        that what was delayed need not wait any more.
        """
        was_set = abs(now - tick - self._epoch) > CLOCK_STEP
        if was_set or self._control.moved():
            self.refused.forget_delays()
        self._epoch = now - tick
        self._orders = self._control.read()

    def find_cycles(self, looks: Iterable[Look]) -> None:
        """Which of these tasks need each other in a circle."""
        self._cycles = {}
        wanted = {look.id: look.task.needs for look in looks if look.task}
        for circle in circles({i: n for i, n in wanted.items() if n}, self.needs):
            self._cycles |= dict.fromkeys(circle, circle)

    def delay(
        self, task_id: str, sha256: str | None, until: float, now: float, tick: float
    ) -> None:
        """These bytes of it may not run again before POSIX `until`."""
        at = tick + until - now
        self.refused.add(task_id, Again(Obstacle.DELAYED, at, sha256, until))

    def hold(self, task_id: str, tick: float) -> None:
        """Another process had its lock at this moment."""
        self.refused.add(task_id, Again(Obstacle.HELD, tick + LOOK_AGAIN))

    def block(self, task_id: str, sentence: str, tick: float) -> None:
        """It cannot be claimed until people do what the sentence says."""
        at = tick + BLOCKED_PAUSE
        self.refused.add(task_id, Again(Obstacle.BLOCKED, at, sentence=sentence))

    def doubt(self, task_id: str, tick: float) -> None:
        """What was read of it is not true any more: it is read again soon."""
        self.refused.add(task_id, Again(Obstacle.CHANGED, tick + LOOK_AGAIN))

    def give_up(self, task_id: str) -> None:
        """It waits for no key any more: it was put off for too long."""
        self._given_up.add(task_id)

    def forget(self, task_id: str) -> None:
        """Its file or its result is not what we thought."""
        self._given_up.discard(task_id)
        self._still.pop(task_id, None)
        self.refused.forget(task_id)

    # -- asking --------------------------------------------------------------

    def orders_changed(self) -> bool:
        """Whether somebody gave or took back an order since the last look."""
        return self._control.changed()

    @property
    def drains(self) -> bool:
        """Whether everybody is to stop, as of the last look."""
        return self._orders.drain

    @property
    def refused_files(self) -> Set[str]:
        """Ids whose file is refused, as of the last look."""
        return self._still.keys()

    # -- deciding ------------------------------------------------------------

    def standing(self, look: Look, now: float, tick: float) -> Standing:
        """Where it stands now; `now` and `tick` are as in `look`."""
        again = self.refused.of(look.id, tick)
        if again is not None and (waiting := _kept_away(again, now, tick)):
            return waiting
        cycle = self._cycles.get(look.id, [])
        if len(cycle) > MOST_IN_CIRCLE:
            # A verdict rests on the files of all members, and each has one: all of them
            # would take the square of their number, in bytes and in time.
            return Waiting(str(circle_fault(cycle)))
        if look.fault is not None or cycle:
            return self._refused_file(look, now, tick)
        self._still.pop(look.id, None)
        if self._orders.cancels_ready(look.id):
            order = cancel_name(look.id)
            error = Error("cancelled", f"cancelled by .farm/control/{order}")
            return Doomed(look, Status.CANCELLED, error)
        by_people, by_time = self._by_people(look), self._by_time(look, again, now)
        standing = by_people or by_time or self.by_needs(look)
        if isinstance(standing, Ready):
            return self.by_keys(look, now) or standing
        return standing

    def by_keys(self, look: Look, now: float) -> Waiting | None:
        """Until when it must wait for somebody's API key."""
        if self._put_off is None or look.task is None or not look.task.needs_key:
            return None
        if look.id in self._given_up:
            return None  # its claim says how it ends
        return self._put_off(look.task, now)

    def _by_people(self, look: Look) -> Waiting | None:
        file = self._orders.holds(look.id)
        return Waiting(f"paused by .farm/control/{file}") if file else None

    @staticmethod
    def _by_time(look: Look, again: Again | None, now: float) -> Waiting | None:
        not_before = look.task.not_before if look.task else None
        if not_before is not None and not_before > now:
            return Waiting("not before its time", not_before)
        if again is not None and again.sha256 == look.sha256 and again.until > now:
            return Waiting("its next attempt has its time", again.until)
        return None

    def by_needs(self, look: Look) -> Standing:
        """Where it would stand if there were nothing but what it needs."""
        if look.task is None or not look.task.needs:
            return Ready(look)
        verdict = self.needs.verdict(look.id, look.task.needs)
        if isinstance(verdict, Broken):
            message = f"it needs {verdict.need}, which ended {verdict.status}"
            return Doomed(look, Status.SKIPPED, Error("needs", message))
        if isinstance(verdict, Unmet):
            one = verdict.watched
            # A thousand tasks may need the same thousand: of many some are enough.
            comes = not any(missing.note for missing in verdict.missing[:MOST_NAMED])
            watched = "" if is_glob(one) else one
            return Waiting(verdict.sentence(), watched=watched, comes=comes)
        return Ready(look)

    def _refused_file(self, look: Look, now: float, tick: float) -> Standing:
        signature, since = self._still.get(look.id, (None, tick))
        if signature != look.signature:
            since = tick
        self._still[look.id] = (look.signature, since)
        error = self._fault_error(look)
        if tick - since >= SETTLE:
            return Doomed(look, Status.INVALID, error)
        why = (
            f"{error.message} (believed when the file has stood still for {SETTLE:g} s)"
        )
        return Waiting(why, now + SETTLE - (tick - since))

    def _fault_error(self, look: Look) -> Error:
        where = self._project.relative(self._project.task_path(look.id))
        if look.fault is not None:
            return fault_error(look.fault, where)
        cycle = self._cycles[look.id]
        files = {i: register.sha256(self._project, i) or "" for i in cycle}
        return fault_error(circle_fault(cycle), where, files)


def _kept_away(again: Again, now: float, tick: float) -> Waiting | None:
    """A refusal that goes before all else: whatever is to be done needs the lock."""
    if again.obstacle is Obstacle.HELD:
        return Waiting("another worker is running it", now + again.at - tick)
    if again.obstacle is Obstacle.BLOCKED:
        return Waiting(again.sentence)
    return None
