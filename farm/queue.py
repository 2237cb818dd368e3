"""What is ready, in which order, and what the rest waits for.

    queue.refresh(...)    look at the folder: names, then the files that are new
    queue.touch(...)      look at a few ids at once, because an event named them
    queue.next()          the best task to try: Ready, Doomed, or None
    queue.refused(...)    a claim came back: remember when to look again (`block`: when
                          people have done something; `forget`: read it anew)
    queue.look_again(...) those whose time has come are tried once more
    queue.ended(...)      one of ours ended: what needed it may be ready

Everything here is decided before a ledger is opened, so tasks that wait leave no
ledger behind; `farm.claim` decides again under the lock. A queue that is a second
old costs a refused claim, never a wrong run.

At most `LOOK_AHEAD` files are read ahead; of more ready ones priority orders
only those. The names of the others are kept in order, and read on (`read_on`)
without another look at the folder. Who only counts asks for a `glance`.
"""

import heapq
from bisect import bisect_right
from collections.abc import Iterable, Set

from farm.listing import Listing
from farm.look import Look, read_look
from farm.needs import Needs
from farm.pattern import Globs, is_glob
from farm.project import Project
from farm.results import Known, Results
from farm.standing import (
    FEW,
    Doomed,
    Judge,
    Outlook,
    PutOff,
    Ready,
    Standing,
    Stripe,
    Waiting,
    in_order,
    natural,
    priority,
)
from farm.states import Status
from farm.task import Task

LOOK_AHEAD = 12_000  # files read ahead; priority orders within them
READ_ON = 2_000  # how many at least are read on at once
GLANCE = 250  # files read at a glance where not all can be read ahead


class Queue:
    """One worker's view of the tasks; see the module's docstring.

    `now` is POSIX seconds (for `not_before` and retry times), `tick` our own
    monotonic seconds (for how long a file stood still).
    """

    def __init__(
        self,
        project: Project,
        put_off: PutOff | None = None,
        *,
        writes: bool = True,
        glance: bool = False,
    ) -> None:
        """Without `writes` a missing journal is not rebuilt: nothing is written.

        `put_off` says whether a task that needs an API key must wait for one. With
        `glance` only a few files are read ahead where it cannot be all.
        """
        self._project = project
        self._glance = glance
        self._listing = Listing(project)
        trusted = None if writes else self._listing
        self._ends = Results(project, writes=writes, listing=trusted)
        self._looks: dict[str, Look] = {}
        self._unread: list[str] = []  # ours beyond the look-ahead, the first one last
        self._others: list[str] = []  # the same of other stripes
        self._anew: set[str] = set()  # forgotten since the last look
        self._stripe = self._given = Stripe()  # ours; and as it was given to us
        self._queued: dict[str, Look] = {}  # what counts of the next two
        self._ready: list[Look] = []  # best last; with some that no longer count
        self._doomed: list[Doomed] = []
        self._needed_by: dict[str, set[str]] = {}
        self._globs = Globs()  # those among what is needed
        self._moved = True  # folders were listed again since all of this was known
        self._tasks: set[str] = set()
        self._named: Set[str] = frozenset()  # results by their names alone
        self._results: set[str] = set()
        self._judge = Judge(project, self._fresh_needs(), put_off)
        self.waiting: dict[str, Waiting] = {}

    # -- looking -------------------------------------------------------------

    def refresh(self, now: float, tick: float, stripe: Stripe = Stripe()) -> bool:  # noqa: B008 - frozen
        """Look at the whole folder and put what is ready in order.

        Whether a folder had to be listed again; else it was a matter of a few `stat`.
        """
        self._moved |= self._listing.refresh()
        moved = self._moved
        self._judge.look(now, tick)
        self._judge.refused.take_due(tick)  # all get their places below
        if moved:
            self._tasks, self._named = self._listing.tasks(), self._listing.results()
        self._results = self._ends.refresh(self._named)
        if moved:
            self._judge.needs = self._fresh_needs()
        self._judge.needs.ask_again()
        self._reread_waiting()
        self._find_unread(stripe, whole=moved or stripe != self._given)
        room = LOOK_AHEAD - sum(look.id in self._looks for look in self._ready)
        if self._glance and self.unread > room:
            room = min(room, GLANCE)
        room -= len(self._read(self._unread, room))
        self._read(self._others, room)
        self._judge.find_cycles(self._looks.values())
        self._sort(now, tick)
        self._moved = False  # only now: the next look makes up for one that failed
        return moved

    def read_on(self, now: float, tick: float) -> None:
        """Read more files if few are left, behind their equals; no look at the folder."""
        if not self._unread or len(self._queued) > LOOK_AHEAD - READ_ON:
            return
        # The others' may have been taken since they were listed; ours hardly.
        read = self._read(self._unread, LOOK_AHEAD - len(self._queued))
        behind = in_order(self._ready_among(read, now, tick), self._stripe)[::-1]
        self._ready = sorted(behind + self._ready, key=priority)

    def touch(self, ids: Iterable[str], now: float, tick: float) -> None:
        """Look at these ids, because an event named them."""
        self._judge.look(now, tick)
        waiters, fresh = set(), False
        for task_id in ids:
            self._forget(task_id)
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
        if fresh:
            self._judge.needs = self._fresh_needs()
        self._judge.needs.ask_again()
        self._place(waiters, now, tick)

    def _waiters(self, task_id: str) -> set[str]:
        """Tasks that wait for this one, by its id or by a glob."""
        globs = self._globs.that_mean(task_id)
        return set().union(*(self._needed_by.get(n, ()) for n in (task_id, *globs)))

    def _reread_waiting(self) -> None:
        """A file that waits or was refused may have been edited in place."""
        for task_id in [*self.waiting, *self._judge.refused_files]:
            look = self._looks.get(task_id)
            if look is None:
                continue
            if self._project.task_signature(task_id) != look.signature:
                self._forget(task_id)
            # A look over a network never settles: there its claim reads the bytes again.
            elif look.task and not (look.settled or self._project.network):
                self._reread(look)

    def _reread(self, look: Look) -> None:
        """Read a file again that may have changed unseen just after it was read."""
        again = read_look(self._project, look.id)
        if again is None or again.sha256 != look.sha256:
            self._forget(look.id)
        else:
            self._looks[look.id] = again

    def _find_unread(self, stripe: Stripe, *, whole: bool) -> None:
        """Which files are to be read; unless `whole`, only what may have changed."""
        self._given = stripe
        asked = (
            self._tasks if whole else self._tasks & (self._anew | self._ends.doubtful)
        )
        self._anew = set()
        open_ids = asked - self._results
        for task_id in [i for i in self._looks if i not in open_ids]:
            if whole or task_id in asked:
                self._forget(task_id)
        if whole:
            self._stripe = stripe if len(open_ids) > FEW else Stripe()
        own, others = self._split(open_ids - self._looks.keys(), self._stripe)
        self._unread = own if whole else self._unread + own
        self._others = others if whole else self._others + others

    def _split(self, ids: set[str], stripe: Stripe) -> tuple[list[str], list[str]]:
        """As `Stripe.split`; at a glance only what will be read is put in order."""
        if not self._glance or len(ids) <= LOOK_AHEAD:
            return stripe.split(ids)
        first = heapq.nsmallest(GLANCE, ids)
        return [*ids.difference(first), *reversed(first)], []

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

    def _sort(self, now: float, tick: float) -> None:
        self.waiting, self._doomed, self._needed_by = {}, [], {}
        self._queued, self._globs = {}, Globs()
        ready = self._ready_among(self._looks.values(), now, tick)
        self._ready = in_order(ready, self._stripe)[::-1]

    def _ready_among(
        self, looks: Iterable[Look], now: float, tick: float
    ) -> list[Look]:
        """Those that may be claimed; the others get their places."""
        ready = []
        for look in looks:
            standing = self._judge.standing(look, now, tick)
            if isinstance(standing, Ready):
                ready.append(look)
            else:
                self._put(look.id, standing)
        self._queued.update((look.id, look) for look in ready)
        return ready

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
        """Give these tasks their places again, all as the first among their equals."""
        for task_id in _last_first(ids):
            self._queued.pop(task_id, None)
            self.waiting.pop(task_id, None)
            look = self._looks.get(task_id)
            if look is None:
                continue
            standing = self._judge.standing(look, now, tick)
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

        Only a hint that saves a claim: when our part is done, most of theirs is, too. Few
        tasks are everybody's part.
        """
        shared = self._stripe.count < self._given.count
        if not shared and self._stripe.owns(task_id):
            return False
        if not self._ends.counts(task_id):
            return False
        self._forget(task_id)
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

    def ends(self) -> dict[str, Known]:
        """How every task whose result counts has ended, as of the last look.

        The very same object while nothing changed.
        """
        return self._ends.ends()

    @property
    def unusable(self) -> dict[str, str]:
        """File names that can never be tasks, each with the reason."""
        return self._listing.unusable()

    def ready_ids(self) -> list[str]:
        """What `next` would give, best first."""
        looks = [item.look for item in self._doomed] + self._ready[::-1]
        # One that was placed again may be in there twice, the better place first.
        return list(dict.fromkeys(look.id for look in looks if self._counts(look)))

    def behind(self, task_id: str) -> set[str]:
        """Ids that wait for this task, or for one that does, as of the last look."""
        found: set[str] = set()
        todo = {task_id}
        while todo:
            waiters = {i for i in self._waiters(todo.pop()) if i in self.waiting}
            todo |= waiters - found
            found |= waiters
        return found - {task_id}

    def doom(self, task_id: str) -> Doomed | None:
        """Why a task can only end, as of the last look; None if it can run."""
        found = (d for d in self._doomed if d.look.id == task_id)
        return next((d for d in found if self._counts(d.look)), None)

    def refused_file(self, task_id: str) -> bool:
        """Whether its file is refused, as of the last look."""
        return task_id in self._judge.refused_files

    def expand(self, task_id: str, task: Task) -> list[str]:
        """The ids that a task's needs mean now, in order."""
        return sorted(
            {i for n in task.needs for i in self._judge.needs.expand(n)} - {task_id}
        )

    def still_ready(self, look: Look) -> bool:
        """Whether its needs hold at this moment, by reading their results again."""
        return isinstance(self._by_needs_now(look), Ready)

    def without_key(self) -> list[str]:
        """Ids that wait for somebody's API key, as of the last look."""
        return [task_id for task_id, w in self.waiting.items() if w.for_key]

    def give_up(self, task_id: str, now: float, tick: float) -> None:
        """It was put off for too long: it is taken once more, to its end."""
        self._judge.give_up(task_id)
        self._place({task_id}, now, tick)

    def waits_for_key(self, look: Look, now: float) -> bool:
        """Whether no key can be had for it at this moment; it has its place then."""
        waiting = self._judge.by_keys(look, now)
        if waiting is not None:
            self._put(look.id, waiting)
        return waiting is not None

    def still_doomed(self, look: Look) -> bool:
        """Whether a need is broken at this moment, by reading its result again."""
        return isinstance(self._by_needs_now(look), Doomed)

    def _by_needs_now(self, look: Look) -> Standing:
        if look.task is not None and look.task.needs:
            for need in self.expand(look.id, look.task):
                self._ends.forget(need)
            self._judge.needs.ask_again()
        return self._judge.by_needs(look)

    def orders_changed(self) -> bool:
        """Whether somebody gave or took back an order since the last look."""
        return self._judge.orders_changed()

    @property
    def drains(self) -> bool:
        """Whether everybody is to stop, as of the last refresh."""
        return self._judge.drains

    def sha256_of(self, task_id: str) -> str | None:
        """The digest of an unfinished task's bytes, as of the last look."""
        look = self._looks.get(task_id)
        return look.sha256 if look else None

    def outlook(self, around: str | None = None) -> Outlook:
        """What is to come, without the task around us; when `next` gives None."""
        timed = [i for i, w in self.waiting.items() if w.until and i != around]
        held = self._judge.refused.held & set(timed)
        stuck = {i: w for i, w in self.waiting.items() if w.until is None}
        return Outlook(len(timed) > len(held), bool(held), stuck)

    def due(self) -> float | None:
        """POSIX seconds at which something becomes ready by time alone.

        A lock may be refused again: of that `next_look` tells.
        """
        held = self._judge.refused.held
        untils = [w.until for i, w in self.waiting.items() if w.until and i not in held]
        return min(untils, default=None)

    @property
    def next_look(self) -> float | None:
        """Monotonic seconds at which a task whose claim was refused is looked at."""
        return self._judge.refused.next_look

    def held(self) -> list[str]:
        """Ids whose lock was refused at the last try."""
        return list(self._judge.refused.held)

    # -- learning ------------------------------------------------------------

    def refused(
        self, task_id: str, now: float, tick: float, until: float = 0.0
    ) -> None:
        """A claim was refused: another process holds it, or it waits until `until`."""
        if until:
            self._judge.delay(task_id, self.sha256_of(task_id), until, now, tick)
        else:
            self._judge.hold(task_id, tick)
        self._place({task_id}, now, tick)

    def block(self, task_id: str, sentence: str, now: float, tick: float) -> None:
        """It cannot be claimed until people do what the sentence says."""
        self._judge.block(task_id, sentence, tick)
        self._place({task_id}, now, tick)

    def forget(self, task_id: str, tick: float) -> None:
        """Its file or its result is not what we thought: it is read again soon."""
        self._forget(task_id)
        self._judge.doubt(task_id, tick)

    def freed(self, task_id: str, now: float, tick: float) -> None:
        """Its lock is free now: it is tried at once."""
        self._judge.refused.forget(task_id)
        self._take_up({task_id}, now, tick)

    def look_again(self, now: float, tick: float) -> None:
        """Give those whose claim was refused their places again, when it is time."""
        self._take_up(self._judge.refused.take_due(tick), now, tick)

    def _take_up(self, ids: set[str], now: float, tick: float) -> None:
        known = ids & self._looks.keys()
        self._place(known, now, tick)
        if ids - known:
            self.touch(sorted(ids - known), now, tick)

    def recheck(self) -> None:
        """Ask every result whether it is what it was; the next look tells of it."""
        self._ends.recheck()

    def ended(self, task_id: str, until: float | None, now: float, tick: float) -> None:
        """One of ours ended; with a time it runs again then, else it is final."""
        ran = self.sha256_of(task_id)
        self._forget(task_id)
        if until is not None:
            self._judge.delay(task_id, ran, until, now, tick)
            return
        self._results.add(task_id)
        self._ends.forget(task_id)
        # Those who wait by a glob are looked at when nothing else is ready: a
        # glob over 10,000 tasks is not to be asked 10,000 times.
        waiters = self._needed_by.pop(task_id, set())
        if waiters:
            self._judge.needs.ask_again()
            self._place(self._stirred(waiters, task_id), now, tick)

    def _forget(self, task_id: str) -> None:
        """Read it anew at the next look."""
        self._anew.add(task_id)
        self._looks.pop(task_id, None)
        self._judge.forget(task_id)
        self.waiting.pop(task_id, None)


def _last_first(ids: set[str]) -> Iterable[str]:
    """Those that are placed before others, in the order of names, come last here."""
    return sorted(ids, key=natural, reverse=True) if 1 < len(ids) <= FEW else ids
