"""What is ready, in which order, and what the rest waits for.

    queue.refresh(...)    look at the folder: names, then the files that are new
    queue.touch(...)      look at a few ids at once, because an event named them
    queue.next()          the best task to try: Ready, Doomed, or None
    queue.refused(...)    a claim came back: remember until when (`block`: until
                          people mend it; `forget`: look anew)
    queue.ended(...)      one of ours ended: what needed it may be ready

Everything here is decided before a ledger is opened, so tasks that wait leave no
ledger behind; `farm.claim` decides again under the lock. A queue that is a second
old costs a refused claim, never a wrong run.

At most `LOOK_AHEAD` files are read ahead; of more ready ones priority orders
only those. The names of the others are kept in order, and read on (`read_on`)
without another look at the folder.

A file that is refused is left alone until it has stood still for 2 seconds of
our own monotonic clock: somebody may be writing it.
"""

from bisect import bisect_right
from collections.abc import Iterable, Set
from typing import Any

from farm import register
from farm.control import Control, Orders, cancel_name
from farm.listing import Listing
from farm.look import Look, fault_error, read_look
from farm.needs import Broken, Needs, Unmet, circle_fault, circles
from farm.pattern import is_glob, matches
from farm.project import Project
from farm.result import Error
from farm.results import Known, Results
from farm.standing import (
    Doomed,
    Outlook,
    Ready,
    Standing,
    Stripe,
    Waiting,
    in_order,
    priority,
)
from farm.states import Status
from farm.task import Task

LOOK_AHEAD = 12_000  # files read ahead; priority orders within them
READ_ON = 2_000  # how many at least are read on at once
SETTLE = 2.0  # seconds that a refused file must stand still
BLOCKED_PAUSE = 30.0  # seconds between two tries at a task that only people can free
CLOCK_STEP = 1.0  # seconds; a clock that moved further by itself was set
LOOK_AGAIN = 1.0  # seconds; how soon a held task is tried again


class Queue:
    """One worker's view of the tasks; see the module's docstring.

    `now` is POSIX seconds (for `not_before` and retry times), `tick` our own
    monotonic seconds (for how long a file stood still).
    """

    def __init__(self, project: Project, *, writes: bool = True) -> None:
        """Without `writes` a missing journal is not rebuilt: nothing is written."""
        self._project = project
        self._listing = Listing(project)
        self._ends = Results(project, writes=writes)
        self._looks: dict[str, Look] = {}
        self._unread: list[str] = []  # ours beyond the look-ahead, the first one last
        self._others: list[str] = []  # the same of other stripes
        self._anew: set[str] = set()  # forgotten since the last look
        self._stripe = Stripe()
        self._queued: dict[str, Look] = {}  # what counts of the next two
        self._ready: list[Look] = []  # best last; with some that no longer count
        self._doomed: list[Doomed] = []
        self._delayed: dict[str, float] = {}  # id -> POSIX seconds
        self._held: dict[str, float] = {}  # id -> tick of the refusal
        self._still: dict[str, tuple[Any, float]] = {}  # id -> signature, since tick
        self._blocked: dict[str, tuple[str, float]] = {}  # id -> sentence, since tick
        self._needed_by: dict[str, set[str]] = {}
        self._globs: set[str] = set()  # those among what is needed
        self._epoch = 0.0  # POSIX seconds at tick 0, as of the last look
        self._control = Control(project)
        self._orders = Orders()
        self._tasks: set[str] = set()
        self._named: Set[str] = frozenset()  # results by their names alone
        self._results: set[str] = set()
        self._needs = self._fresh_needs()
        self._cycles: dict[str, list[str]] = {}
        self.waiting: dict[str, Waiting] = {}

    # -- looking -------------------------------------------------------------

    def refresh(self, now: float, tick: float, stripe: Stripe = Stripe()) -> None:  # noqa: B008 - frozen
        """Look at the whole folder and put what is ready in order."""
        moved = self._listing.refresh()
        self._notice_clock(now, tick)
        self._read_orders()
        if moved:
            self._tasks, self._named = self._listing.tasks(), self._listing.results()
        self._results = self._ends.refresh(self._named)
        self._needs = self._fresh_needs() if moved else self._needs
        self._needs.ask_again()
        self._reread_waiting()
        self._find_unread(stripe, whole=moved or stripe != self._stripe)
        room = LOOK_AHEAD - sum(look.id in self._looks for look in self._ready)
        room -= len(self._read(self._unread, room))
        self._read(self._others, room)
        self._find_cycles()
        self._sort(now, tick, stripe)

    def read_on(self, now: float, tick: float) -> None:
        """Read more files if few are left, behind their equals; no look at the folder."""
        if not self._unread or len(self._queued) > LOOK_AHEAD - READ_ON:
            return
        ready = []
        # The others' may have been taken since they were listed; ours hardly.
        for look in self._read(self._unread, LOOK_AHEAD - len(self._queued)):
            standing = self._standing(look, now, tick)
            if isinstance(standing, Ready):
                ready.append(look)
            else:
                self._put(look.id, standing)
        self._queued.update((look.id, look) for look in ready)
        behind = in_order(ready, self._stripe)[::-1]
        self._ready = sorted(behind + self._ready, key=priority)

    def touch(self, ids: Iterable[str], now: float, tick: float) -> None:
        """Look at these ids, because an event named them."""
        self._notice_clock(now, tick)
        self._read_orders()
        waiters, fresh = set(), False
        for task_id in ids:
            self.forget(task_id)
            self._ends.forget(task_id)
            if self._ends.counts(task_id):
                self._results.add(task_id)
            elif (look := read_look(self._project, task_id)) is not None:
                self._results.discard(task_id)
                self._ends.doubt(task_id)  # something may lie there all the same
                fresh |= task_id not in self._tasks
                self._tasks.add(task_id)
                self._looks[task_id] = look
            waiters |= {task_id, *self._stirred(self._waiters(task_id), task_id)}
        self._needs = self._fresh_needs() if fresh else self._needs
        self._needs.ask_again()
        self._place(waiters, now, tick)

    def _notice_clock(self, now: float, tick: float) -> None:
        """When somebody sets the clock, the ledgers are asked again who must wait."""
        if abs(now - tick - self._epoch) > CLOCK_STEP:
            self._delayed = {}
        self._epoch = now - tick

    def _read_orders(self) -> None:
        """An order may also say that what was delayed need not wait any more."""
        if self._control.moved():
            self._delayed = {}
        self._orders = self._control.read()

    def _waiters(self, task_id: str) -> set[str]:
        """Tasks that wait for this one, by its id or by a glob."""
        globs = [glob for glob in self._globs if matches(glob, task_id)]
        return set().union(*(self._needed_by.get(n, ()) for n in (task_id, *globs)))

    def _reread_waiting(self) -> None:
        """A file that waits or was refused may have been edited in place."""
        for task_id in [*self.waiting, *self._still]:
            look = self._looks.get(task_id)
            if look is None:
                continue
            if self._project.task_signature(task_id) != look.signature:
                self.forget(task_id)

    def _find_unread(self, stripe: Stripe, *, whole: bool) -> None:
        """Which files are to be read; unless `whole`, only what may have changed."""
        self._stripe = stripe
        asked = (
            self._tasks if whole else self._tasks & (self._anew | self._ends.doubtful)
        )
        self._anew = set()
        open_ids = asked - self._results
        for task_id in [i for i in self._looks if i not in open_ids]:
            if whole or task_id in asked:
                self.forget(task_id)
        own, others = stripe.split(open_ids - self._looks.keys())
        self._unread = own if whole else self._unread + own
        self._others = others if whole else self._others + others

    def _read(self, names: list[str], room: int) -> list[Look]:
        """Read so many of these files, from the end; those that are still open."""
        found: list[Look] = []
        while names and len(found) < room:
            task_id = names.pop()
            if task_id in self._looks or task_id in self._results:
                continue  # an event was quicker
            look = read_look(self._project, task_id)
            if look is not None:
                self._looks[task_id] = look
                found.append(look)
        return found

    def _fresh_needs(self) -> Needs:
        """Answers to the names that are known now."""
        return Needs(self._tasks, self._results, self._ends.status)

    # -- deciding ------------------------------------------------------------

    def _sort(self, now: float, tick: float, stripe: Stripe) -> None:
        self.waiting, self._doomed, self._needed_by = {}, [], {}
        self._queued, self._globs = {}, set()
        ready = []
        for look in self._looks.values():
            standing = self._standing(look, now, tick)
            if isinstance(standing, Ready):
                ready.append(look)
            else:
                self._put(look.id, standing)
        self._queued.update((look.id, look) for look in ready)
        self._ready = in_order(ready, stripe)[::-1]

    def _put(self, task_id: str, standing: Doomed | Waiting) -> None:
        if isinstance(standing, Doomed):
            self._doomed.append(standing)
            self._queued[task_id] = standing.look
            return
        self.waiting[task_id] = standing
        task = self._looks[task_id].task
        for need in task.needs if task else ():
            self._needed_by.setdefault(need, set()).add(task_id)
            if is_glob(need):
                self._globs.add(need)

    def _place(self, ids: set[str], now: float, tick: float) -> None:
        """Give these tasks their places again, each as the first among its equals."""
        for task_id in ids:
            self._queued.pop(task_id, None)
            self.waiting.pop(task_id, None)
            look = self._looks.get(task_id)
            if look is None:
                continue
            standing = self._standing(look, now, tick)
            if isinstance(standing, Ready):
                at = bisect_right(self._ready, look.priority, key=priority)
                self._ready.insert(at, look)
                self._queued[task_id] = look
            else:
                self._put(task_id, standing)

    def _stirred(self, waiters: set[str], task_id: str) -> set[str]:
        """Those of these for which it matters that this task ended, or changed."""
        if not waiters or self._ends.status(task_id) is not Status.SUCCEEDED:
            return waiters
        watched = {i: w.watched for i in waiters if (w := self.waiting.get(i))}
        return {i for i in waiters if watched.get(i, "") in ("", task_id)}

    def _standing(self, look: Look, now: float, tick: float) -> Standing:
        if look.fault is not None or look.id in self._cycles:
            return self._refused_file(look, now, tick)
        self._still.pop(look.id, None)
        if self._orders.cancels_ready(look.id):
            order = cancel_name(look.id)
            error = Error("cancelled", f"cancelled by .farm/control/{order}")
            return Doomed(look, Status.CANCELLED, error)
        by_people, by_time = self._by_people(look, tick), self._by_time(look, now, tick)
        return by_people or by_time or self._by_needs(look)

    def _by_people(self, look: Look, tick: float) -> Waiting | None:
        if file := self._orders.holds(look.id):
            return Waiting(f"paused by .farm/control/{file}")
        sentence, since = self._blocked.get(look.id, ("", 0.0))
        return Waiting(sentence) if sentence and tick - since < BLOCKED_PAUSE else None

    def _by_time(self, look: Look, now: float, tick: float) -> Waiting | None:
        not_before = look.task.not_before if look.task else None
        if not_before is not None and not_before > now:
            return Waiting("not before its time", not_before)
        if self._delayed.get(look.id, 0.0) > now:
            return Waiting("its next attempt has its time", self._delayed[look.id])
        held = self._held.get(look.id)
        if held is not None and tick - held < LOOK_AGAIN:
            return Waiting("somebody holds it", now + LOOK_AGAIN - (tick - held))
        return None

    def _by_needs(self, look: Look) -> Standing:
        if look.task is None or not look.task.needs:
            return Ready(look)
        verdict = self._needs.verdict(look.id, look.task.needs)
        if isinstance(verdict, Broken):
            message = f"it needs {verdict.need}, which ended {verdict.status}"
            return Doomed(look, Status.SKIPPED, Error("needs", message))
        if isinstance(verdict, Unmet):
            one = verdict.watched
            return Waiting(verdict.sentence(), watched="" if is_glob(one) else one)
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

    def _find_cycles(self) -> None:
        self._cycles = {}
        wanted = {i: k.task.needs for i, k in self._looks.items() if k.task}
        for circle in circles({i: n for i, n in wanted.items() if n}, self._needs):
            self._cycles |= dict.fromkeys(circle, circle)

    # -- asking --------------------------------------------------------------

    def next(self) -> Ready | Doomed | None:
        """The best task to try, each only once until the next refresh."""
        while self._doomed or self._ready:
            item = self._doomed.pop() if self._doomed else Ready(self._ready.pop())
            if not self._counts(item.look):
                continue
            del self._queued[item.look.id]
            if not self._was_done(item.look.id):
                return item
        return None

    def _was_done(self, task_id: str) -> bool:
        """Whether another worker was quicker with what is its own part of the tasks.

        Only a hint that saves a claim: when our part is done, most of theirs is, too.
        """
        if self._stripe.owns(task_id) or not self._ends.counts(task_id):
            return False
        self.forget(task_id)
        return True

    def _counts(self, look: Look) -> bool:
        """Whether this is not given yet, and nothing newer is known of the task."""
        return self._queued.get(look.id) is look

    @property
    def unread(self) -> int:
        """How many files are beyond the look-ahead."""
        return len(self._unread) + len(self._others)

    def __len__(self) -> int:
        """How many tasks `next` would still give."""
        return len(self._queued)

    @property
    def names(self) -> tuple[set[str], set[str]]:
        """Ids with a task file, and ids with a result that counts."""
        return self._tasks, self._results

    def known(self, task_id: str) -> Known | None:
        """How a task with a result ended, and when."""
        return self._ends.known(task_id)

    @property
    def unusable(self) -> dict[str, str]:
        """File names that can never be tasks, each with the reason."""
        return self._listing.unusable()

    def ready_ids(self) -> list[str]:
        """What `next` would give, best first."""
        looks = [item.look for item in self._doomed] + self._ready[::-1]
        # One that was placed again may be in there twice, the better place first.
        return list(dict.fromkeys(look.id for look in looks if self._counts(look)))

    def doom(self, task_id: str) -> Doomed | None:
        """Why a task can only end, as of the last look; None if it can run."""
        found = (d for d in self._doomed if d.look.id == task_id)
        return next((d for d in found if self._counts(d.look)), None)

    def refused_file(self, task_id: str) -> bool:
        """Whether its file is refused, as of the last look."""
        return task_id in self._still

    def expand(self, task_id: str, task: Task) -> list[str]:
        """The ids that a task's needs mean now, in order."""
        return sorted(
            {i for n in task.needs for i in self._needs.expand(n)} - {task_id}
        )

    def still_ready(self, look: Look) -> bool:
        """Whether its needs hold at this moment, by reading their results again."""
        return isinstance(self._by_needs_now(look), Ready)

    def still_doomed(self, look: Look) -> bool:
        """Whether a need is broken at this moment, by reading its result again."""
        return isinstance(self._by_needs_now(look), Doomed)

    def _by_needs_now(self, look: Look) -> Standing:
        if look.task is not None and look.task.needs:
            for need in self.expand(look.id, look.task):
                self._ends.forget(need)
            self._needs.ask_again()
        return self._by_needs(look)

    def orders_changed(self) -> bool:
        """Whether somebody gave or took back an order since the last look."""
        return self._control.changed()

    @property
    def drains(self) -> bool:
        """Whether everybody is to stop, as of the last refresh."""
        return self._orders.drain

    def sha256_of(self, task_id: str) -> str | None:
        """The digest of an unfinished task's bytes, as of the last look."""
        look = self._looks.get(task_id)
        return look.sha256 if look else None

    def outlook(self) -> Outlook:
        """What is to come; meaningful when `next` gives None."""
        timed = [i for i, w in self.waiting.items() if w.until is not None]
        held = [i for i in timed if i in self._held]
        stuck = {i: w for i, w in self.waiting.items() if w.until is None}
        return Outlook(len(timed) > len(held), bool(held), stuck)

    def due(self) -> float | None:
        """POSIX seconds at which something becomes ready by time alone."""
        return min((w.until for w in self.waiting.values() if w.until), default=None)

    def held(self) -> list[str]:
        """Ids whose lock was refused at the last try."""
        return list(self._held)

    # -- learning ------------------------------------------------------------

    def refused(self, task_id: str, tick: float, until: float = 0.0) -> None:
        """A claim was refused: held by somebody, or delayed until POSIX `until`."""
        if until:
            self._delayed[task_id] = until
        else:
            self._held[task_id] = tick

    def block(self, task_id: str, sentence: str, tick: float) -> None:
        """It cannot be claimed until somebody mends what the sentence says."""
        self._blocked[task_id] = (sentence, tick)

    def ended(self, task_id: str, until: float | None, now: float, tick: float) -> None:
        """One of ours ended; with a time it runs again then, else it is final."""
        self.forget(task_id)
        if until is not None:
            self._delayed[task_id] = until
            return
        self._results.add(task_id)
        self._ends.forget(task_id)
        # Those who wait by a glob are looked at when nothing else is ready: a
        # glob over 10,000 tasks is not to be asked 10,000 times.
        waiters = self._needed_by.pop(task_id, set())
        if waiters:
            self._needs.ask_again()
            self._place(self._stirred(waiters, task_id), now, tick)

    def forget(self, task_id: str) -> None:
        """Its file or its result is not what we thought: look anew."""
        self._anew.add(task_id)
        self._looks.pop(task_id, None)
        self._held.pop(task_id, None)
        self._still.pop(task_id, None)
        self._delayed.pop(task_id, None)  # other bytes do not wait for these
        self.waiting.pop(task_id, None)
