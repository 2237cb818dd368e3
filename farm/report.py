"""Count and describe a project, for people and for programs.

`Survey(project).look(now, tick)` gives a `Report`; keep the survey to look again
cheaply. Of more open tasks than the queue reads ahead the rest is counted as ready,
and `unread` says how many these are; at a `glance` it then reads only a few. It takes
no task's lock and writes nothing, so it may be asked at any time, on a read-only mount
too. It is true for a moment: what runs may have ended when you read it.
"""

import heapq
import os
import time
from collections import Counter
from collections.abc import Mapping, Set
from typing import TYPE_CHECKING

import msgspec

from farm import disk, estimate, register
from farm.config import load_settings
from farm.crew import (
    Running,
    SupervisorView,
    WorkerView,
    alive_ones,
    crew,
    last_attempts,
)
from farm.errors import ConfigError, LedgerError
from farm.estimate import RECENT, Ended, Pace
from farm.look import gist
from farm.project import RESULT, Project
from farm.queue import Queue
from farm.result import parse_head, posix, reason, rfc3339
from farm.results import Known
from farm.standing import Doomed, Waiting
from farm.states import FAILURES, State, Status
from farm.task import Task
from farm.words import duration

if TYPE_CHECKING:
    from farm.shelf import Place
    from farm.shortage import Shortage

_SHORTAGE_FRESH = 2.0  # seconds after which keys that came are looked for


class Failure(msgspec.Struct, frozen=True):
    """A task that ended and did not succeed."""

    id: str
    status: Status
    reason: str
    finished: str
    what: str = ""  #: the first words of its command, or of its prompt


class Waits(msgspec.Struct, frozen=True):
    """A task that waits, and for what."""

    id: str
    why: str
    until: str | None = None
    comes: bool = False  #: once what it needs has ended well, and that is there


class Report(msgspec.Struct, frozen=True):
    """A project at one moment."""

    project: str
    at: str
    total: int
    counts: dict[str, int]  #: every state and every status, also those with 0
    running: list[Running]
    failures: list[Failure]  #: the most recent first; see `Survey.look`
    waiting: list[Waits]
    workers: list[WorkerView]
    supervisors: list[SupervisorView]
    unusable: dict[str, str]  #: file names that can never be tasks
    archived: int = 0  #: tasks in archive/ that do not lie here as well
    moving: bool = False  #: a farm archive or farm restore works, or was killed
    pace: Pace = Pace()
    unread: int = 0  #: of those counted as ready: nobody has looked whether they wait

    @property
    def pending(self) -> bool:
        """Whether anything runs, is ready, or becomes so by time alone."""
        open_now = self.counts[State.READY] or self.counts[State.RUNNING]
        return bool(open_now) or any(waits.until for waits in self.waiting)

    @property
    def is_over(self) -> bool:
        """Whether nothing runs or is ready."""
        return not (self.counts[State.READY] or self.counts[State.RUNNING])

    @property
    def left_s(self) -> float | None:
        """Seconds until all that can run has ended; None if nobody can know."""
        return self.left_at(self.pace)

    def left_at(self, pace: Pace) -> float | None:
        """The same if tasks end at another pace."""
        coming = sum(waits.comes or waits.until is not None for waits in self.waiting)
        runs = [estimate.Run(run.elapsed_s, run.left_s) for run in self.running]
        left = estimate.left(self.counts[State.READY] + coming, runs, pace)
        if left is None:
            return None
        at = posix(self.at)
        dues = (posix(w.until) - at for w in self.waiting if w.until is not None)
        return round(max(left, *dues, 0.0), 3)

    @property
    def stuck(self) -> list[Waits]:
        """What waits for something that nobody may ever do."""
        return [waits for waits in self.waiting if waits.until is None]

    @property
    def all_succeeded(self) -> bool:
        """Whether every task in the folder has succeeded."""
        return self.total == self.counts[Status.SUCCEEDED] and not self.unusable

    @property
    def ended(self) -> int:
        """How many tasks have a result."""
        return sum(self.counts[status] for status in Status)


class Line(msgspec.Struct, frozen=True):
    """One task in a list: where it is, or how it ended, and what there is to say."""

    id: str
    word: str  #: a `State` or a `Status`
    detail: str
    at: float | None  #: POSIX seconds: it started, it ended; None if not known
    what: str = ""  #: the first words of its command, or of its prompt

    @property
    def words(self) -> str:
        """As people read it: `timed out`."""
        return self.word.replace("_", " ")


_RAN = frozenset((Status.SUCCEEDED, Status.FAILED, Status.TIMED_OUT))
OPEN_STATES = (State.READY, State.RUNNING, State.WAITING)


class Survey:
    """Looks at one project again and again."""

    def __init__(
        self, project: Project, *, glance: bool = False, around: str | None = None
    ) -> None:
        """Without the task `around` us: it is not counted, nor among `ids`."""
        self.project = project
        self._left_out = frozenset((around,) if around else ())
        self._queue = Queue(project, self._put_off, writes=False, glance=glance)
        self._failed: dict[str, tuple[Failure | None, Known]] = {}  # as read then
        self._ends: dict[str, Known] = {}
        self._running: dict[str, Running] = {}
        self._waits: dict[str, Waits] = {}
        self._shortage: Shortage | None = None
        self._shortage_at = float("-inf")  # POSIX seconds
        self._placed: dict[str, Place] = {}
        self._archive_moved = 0  # nanoseconds: when archive/ was as it is known
        self.workers: list[WorkerView] = []  #: as of the last look

    def _put_off(self, task: Task, now: float) -> Waiting | None:
        """As workers judge whether a task can have a key, by what they have recorded."""
        if not 0.0 <= now - self._shortage_at < _SHORTAGE_FRESH:
            self._shortage, self._shortage_at = _shortage(self.project), now
        return self._shortage.put_off(task, now) if self._shortage else None

    def look(self, now: float, tick: float, most: int | None = None) -> Report:
        """The project as it is now; `now` POSIX seconds, `tick` monotonic.

        For each failure that is described its result is read, unless it was before:
        with `most` only so many of the latest, and only of `FAILURES`.
        """
        queue = self._queue
        queue.refresh(now, tick)
        tasks, results = queue.names
        open_ids = tasks - results - self._left_out
        self._ends = queue.ends()
        held, delayed = self._ledgers(open_ids, now)
        self._running = {i: run for i, run in held.items() if i in open_ids}
        self._waits = self._waiting(delayed)
        here = crew(self.project, now, held)
        self.workers = here.workers
        counts = self._counts(len(open_ids))
        pace = self._pace(now) if open_ids else Pace()
        return Report(
            project=self.project.root,
            at=rfc3339(now),
            total=len(open_ids) + len(results),
            counts=counts,
            running=sorted(self._running.values(), key=lambda r: r.started),
            failures=self._failures(most),
            waiting=list(self._waits.values()),
            workers=self.workers,
            supervisors=here.supervisors,
            unusable=queue.unusable | self._unread(results),
            archived=len(self.archived.keys() - self.ids) if self.archived else 0,
            moving=self.project.is_moving(),
            pace=pace,
            unread=min(queue.unread, counts[State.READY]),
        )

    @property
    def archived(self) -> Mapping[str, "Place"]:
        """Where each archived task lies; read again when archive/ has changed."""
        try:
            moved = os.stat(self.project.archive).st_mtime_ns
        except OSError:
            return {}  # nothing was ever archived
        if moved != self._archive_moved:
            from farm import shelf  # noqa: PLC0415 - most projects have none

            # RACE: a second archive within one tick of the clock would not show.
            settled = disk.has_settled(moved, network=self.project.network)
            self._placed = shelf.placed(self.project)
            self._archive_moved = moved if settled else 0
        return self._placed

    def recheck(self) -> None:
        """Ask every result whether it is what it was; the next look tells of it.

        For who decides something by it; a look trusts the names that stay.
        """
        self._queue.recheck()

    def _unread(self, results: Set[str]) -> dict[str, str]:
        """Results of which nobody knows what they say, and why."""
        if len(results) == len(self._ends):
            return {}  # the usual case
        told = {i: _why_unread(self.project, i) for i in results - self._ends.keys()}
        return {f"{i}{RESULT}": why for i, why in told.items() if why}

    def _pace(self, now: float) -> Pace:
        """How fast tasks end; beside that, what is left of those that run."""
        alive = sum(worker.alive for worker in self.workers)
        if not alive:
            return Pace()
        ran = ((k.at, k.duration, i) for i, k in self._ends.items() if k.status in _RAN)
        recent = [Ended(*one) for one in heapq.nlargest(RECENT, ran)]
        shapes = {estimate.shape(i) for i in self._running}
        likes = estimate.by_shape(recent, shapes) if shapes else {}
        for task_id, run in self._running.items():
            like = likes[estimate.shape(task_id)]
            still = estimate.remaining(run.elapsed_s, run.progress, like)
            self._running[task_id] = msgspec.structs.replace(run, left_s=still)
        # One worker may hold many calls.
        return Pace.of(recent, now, max(alive, len(self._running)))

    def _counts(self, open_count: int) -> dict[str, int]:
        counts: dict[str, int] = dict.fromkeys([*OPEN_STATES, *Status], 0)
        counts.update(Counter(known.status for known in self._ends.values()))
        counts[State.RUNNING] = len(self._running)
        counts[State.WAITING] = len(self._waits)
        busy = len(self._running) + len(self._waits)
        counts[State.READY] = max(0, open_count - busy)
        return counts

    @property
    def ids(self) -> set[str]:
        """Every task there was at the last look."""
        tasks, results = self._queue.names
        return (tasks | results) - self._left_out

    def word(self, task_id: str) -> State | Status:
        """Where one of `ids` was at the last look, or how it had ended."""
        if task_id in self._running:
            return State.RUNNING
        if task_id in self._waits:
            return State.WAITING
        known = self.known(task_id)
        return known.status if known else State.READY

    @property
    def ends(self) -> Mapping[str, Known]:
        """How all tasks ended that had at the last look."""
        return self._ends

    def known(self, task_id: str) -> Known | None:
        """How and when a task ended, if it had at the last look."""
        return self._ends.get(task_id)

    def mark(self, task_id: str) -> tuple[str, float | None]:
        """What changes whenever something happened to a task."""
        known, run = self.known(task_id), self._running.get(task_id)
        at = known.at if known else posix(run.started) if run else None
        return self.word(task_id), at

    def line(self, task_id: str, *, what: bool = True) -> Line:
        """One of `ids` as a list shows it; `what` it does costs a look into its file."""
        word, at = self.mark(task_id)
        said = gist(self.project, task_id) if what else ""
        return Line(task_id, word, self._detail(task_id), at, said)

    def _detail(self, task_id: str) -> str:
        known = self.known(task_id)
        if run := self._running.get(task_id):
            return f"attempt {run.attempt} on {run.worker}"
        if waits := self._waits.get(task_id):
            return waits.why
        if known is None:
            return ""
        if known.status is Status.SUCCEEDED:
            return f"in {duration(known.duration)}"
        failed = failure(self.project, task_id)
        return failed.reason if failed else ""

    def running(self, task_id: str) -> Running | None:
        """The run of a task, if it ran at the last look."""
        return self._running.get(task_id)

    def waits(self, task_id: str) -> Waits | None:
        """What a task waited for at the last look."""
        return self._waits.get(task_id)

    def behind(self, task_id: str) -> set[str]:
        """Ids that waited for this task at the last look, or for one that did."""
        return self._queue.behind(task_id)

    def doom(self, task_id: str) -> Doomed | None:
        """Why a task could only end, at the last look; None if it could run."""
        return self._queue.doom(task_id)

    def refused(self, task_id: str) -> bool:
        """Whether a task's file was wrong at the last look."""
        return self._queue.refused_file(task_id)

    def ready_ids(self) -> list[str]:
        """What a worker alone would try, best first, as of the last look."""
        return self._queue.ready_ids()

    def _ledgers(
        self, open_ids: set[str], now: float
    ) -> tuple[dict[str, Running], dict[str, float]]:
        """What somebody alive holds, and until when others of `open_ids` wait."""
        pasts = last_attempts(self.project)
        delayed = {
            past.claimed.task: past.ended.not_before
            for past in pasts
            if past.ended
            and past.ended.not_before > now
            and past.claimed.task in open_ids
            and past.claimed.sha256 == self._queue.sha256_of(past.claimed.task)
        }
        return alive_ones(self.project, pasts, now), delayed

    def _waiting(self, delayed: dict[str, float]) -> dict[str, Waits]:
        found = {
            i: Waits(i, w.why, rfc3339(w.until) if w.until else None, w.comes)
            for i, w in self._queue.waiting.items()
        }
        odd = odd_ledgers(self.project)
        for task_id in self._queue.ready_ids() if odd else ():
            path = self.project.ledger_path(task_id)
            if path in odd:
                found[task_id] = Waits(task_id, str(LedgerError(path)))
        for task_id, until in delayed.items():
            found.setdefault(
                task_id, Waits(task_id, "its next attempt has its time", rfc3339(until))
            )
        beside = self._running.keys() | self._left_out
        return {i: found[i] for i in sorted(found.keys() - beside)}

    def _failures(self, most: int | None) -> list[Failure]:
        wanted = set(Status) - {Status.SUCCEEDED} if most is None else FAILURES
        well, ends = Status.SUCCEEDED, self._ends.items()  # nearly all
        bad = [
            (k.at, i) for i, k in ends if k.status is not well and k.status in wanted
        ]
        latest = heapq.nlargest(len(bad) if most is None else most, bad)
        found = [self._failure(task_id) for _, task_id in latest]
        return [one for one in found if one]

    def _failure(self, task_id: str) -> Failure | None:
        known = self._ends[task_id]
        if self._failed.get(task_id, (None, None))[1] != known:
            self._failed[task_id] = (failure(self.project, task_id), known)
        return self._failed[task_id][0]


def _shortage(project: Project) -> "Shortage | None":
    """None where the settings are wrong: workers do not start then either."""
    from farm.keyring import Keyring  # noqa: PLC0415 - most projects have no prompts
    from farm.scopes import Scopes  # noqa: PLC0415 - as above
    from farm.shortage import Shortage  # noqa: PLC0415 - as above

    try:
        settings = load_settings(project.settings, os.environ, {})
    except ConfigError:
        return None
    return Shortage(settings, Keyring(Scopes.as_recorded(project)))


def survey(project: Project, around: str | None = None) -> Report:
    """One look, now; without the task `around` us."""
    return Survey(project, around=around).look(time.time(), time.monotonic())


def failure(project: Project, task_id: str) -> Failure | None:
    """How a task failed, from its result; None if that is gone."""
    try:
        head = parse_head(disk.read_file(project.result_path(task_id)))
    except OSError:
        return None
    if head is None:
        return None
    why = reason(head.error, head.exit_code, head.signal)
    return Failure(task_id, head.status, why, head.finished, gist(project, task_id))


def _why_unread(project: Project, task_id: str) -> str | None:
    try:
        register.look(project, task_id)
    except OSError as error:
        return f"it cannot be read: {error.strerror}: move it away, and the task runs"
    return None  # RACE: it was written just now


def odd_ledgers(project: Project) -> set[str]:
    """Paths in `.farm/locks` where something lies that is not a regular file."""
    try:
        with os.scandir(project.locks) as entries:
            return {e.path for e in entries if not e.is_file(follow_symlinks=False)}
    except FileNotFoundError:
        return set()


def age(text: str, now: float) -> float:
    """Seconds since an RFC 3339 time."""
    return max(0.0, now - posix(text))


def advanced(report: Report, ended: dict[str, Status]) -> Report:
    """The report when these tasks, which were open in it, have ended, too.

    Who runs instead, and what else is new, is told by the next look.
    """
    running = [run for run in report.running if run.id not in ended]
    waiting = [waits for waits in report.waiting if waits.id not in ended]
    counts = Counter(report.counts)
    counts.update(ended.values())
    over = sum(counts[status] for status in Status)
    total = max(report.total, over)  # some were dropped and ended since
    counts[State.RUNNING], counts[State.WAITING] = len(running), len(waiting)
    counts[State.READY] = max(0, total - over - len(running) - len(waiting))
    return msgspec.structs.replace(
        report,
        total=total,
        counts=dict(counts),
        running=running,
        waiting=waiting,
        unread=min(report.unread, counts[State.READY]),
    )
