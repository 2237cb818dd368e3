"""Count and describe a project, for people and for programs.

`Survey(project).look(now, tick)` gives a `Report`; keep the survey to look again
cheaply. It takes no task's lock and writes nothing, so it may be asked at any
time, on a read-only mount too. It is true for a moment: what runs may have ended
when you read it.
"""

import os
import time
from collections import Counter

import msgspec

from farm import disk, life, process, register
from farm.health import read_health
from farm.journal import Finals
from farm.ledger import Past, history, peek
from farm.life import LifeLock, Owner
from farm.project import Project
from farm.queue import Queue
from farm.result import parse_head, posix, reason, rfc3339
from farm.standing import Outlook
from farm.states import State, Status


class Running(msgspec.Struct, frozen=True):
    """A task that a living worker holds."""

    id: str
    worker: str
    attempt: int
    started: str
    elapsed_s: float
    progress: float | None = None  #: 0.0 to 1.0
    message: str = ""


class Failure(msgspec.Struct, frozen=True):
    """A task that ended and did not succeed."""

    id: str
    status: Status
    reason: str
    finished: str


class Waits(msgspec.Struct, frozen=True):
    """A task that waits, and for what."""

    id: str
    why: str
    until: str | None = None


class WorkerView(msgspec.Struct, frozen=True):
    """A worker, as its files and its life lock show it."""

    name: str
    host: str
    pid: int
    alive: bool
    health: str  #: "well", "dead", "no heartbeat for 12 s", "3 failures in a row ..."
    task: str | None
    tasks_ended: int


class Report(msgspec.Struct, frozen=True):
    """A project at one moment."""

    project: str
    at: str
    total: int
    counts: dict[str, int]  #: every state and every status, also those with 0
    running: list[Running]
    failures: list[Failure]  #: the most recent first
    waiting: list[Waits]
    workers: list[WorkerView]
    unusable: dict[str, str]  #: file names that can never be tasks
    outlook: Outlook

    @property
    def pending(self) -> bool:
        """Whether anything runs, is ready, or becomes so by time alone."""
        open_now = self.counts[State.READY] or self.counts[State.RUNNING]
        return bool(open_now) or self.outlook.timed

    @property
    def all_succeeded(self) -> bool:
        """Whether every task in the folder has succeeded."""
        return self.total == self.counts[Status.SUCCEEDED] and not self.unusable

    @property
    def ended(self) -> int:
        """How many tasks have a result."""
        return sum(self.counts[status] for status in Status)


OPEN_STATES = (State.READY, State.RUNNING, State.WAITING)


class Survey:
    """Looks at one project again and again."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._queue = Queue(project, writes=False)
        self._finals = Finals(project)
        self._known: dict[str, Status] = {}  # results that no journal knows

    def look(self, now: float, tick: float) -> Report:
        """The project as it is now; `now` POSIX seconds, `tick` monotonic."""
        queue = self._queue
        queue.refresh(now, tick)
        tasks, results = queue.names
        self._finals.poll()
        statuses = {i: self._status(i) for i in results}
        running, delayed = self._ledgers(tasks - results, now)
        waiting = self._waiting(running, delayed)
        counts: dict[str, int] = dict.fromkeys([*OPEN_STATES, *Status], 0)
        counts.update(Counter(s for s in statuses.values() if s))
        counts[State.RUNNING] = len(running)
        counts[State.WAITING] = len(waiting)
        open_ids = len(tasks - results)
        counts[State.READY] = max(0, open_ids - len(running) - len(waiting))
        timed = any(w.until for w in waiting)
        stuck = {i: w for i, w in queue.outlook().stuck.items() if i not in running}
        return Report(
            project=self._project.root,
            at=rfc3339(now),
            total=open_ids + len(results),
            counts=counts,
            running=sorted(running.values(), key=lambda r: r.started),
            failures=self._failures(statuses),
            waiting=waiting,
            workers=workers(self._project, now),
            unusable=queue.unusable,
            outlook=Outlook(timed, bool(running), stuck),
        )

    def _status(self, task_id: str) -> Status | None:
        entry = self._finals.last.get(task_id)
        if entry is not None and entry.status is not None:
            return entry.status
        if task_id not in self._known:
            try:
                head = register.look(self._project, task_id)
            except OSError:
                return None  # another user's: nothing is known of it
            if isinstance(head, register.Lying):
                return None
            self._known[task_id] = head.status
        return self._known[task_id]

    def _ledgers(
        self, open_ids: set[str], now: float
    ) -> tuple[dict[str, Running], dict[str, float]]:
        running: dict[str, Running] = {}
        delayed: dict[str, float] = {}
        for past in open_pasts(self._project):
            task_id = past.claimed.task
            if task_id not in open_ids:
                continue
            if past.ended is not None:
                same = past.claimed.sha256 == self._queue.sha256_of(task_id)
                if same and past.ended.not_before > now:
                    delayed[task_id] = past.ended.not_before
                continue
            owner = past.claimed
            alive = life.owner_of(self._project, owner.holder, owner.who, me="")
            if alive is Owner.ALIVE:
                running[task_id] = _running(self._project, past, now)
        return running, delayed

    def _waiting(
        self, running: dict[str, Running], delayed: dict[str, float]
    ) -> list[Waits]:
        found = {
            i: Waits(i, w.why, rfc3339(w.until) if w.until else None)
            for i, w in self._queue.waiting.items()
        }
        for task_id, until in delayed.items():
            found.setdefault(
                task_id, Waits(task_id, "its next attempt has its time", rfc3339(until))
            )
        return [found[i] for i in sorted(found) if i not in running]

    def _failures(self, statuses: dict[str, Status | None]) -> list[Failure]:
        failed = [i for i, s in statuses.items() if s and s is not Status.SUCCEEDED]
        found = [f for i in failed if (f := failure(self._project, i))]
        return sorted(found, key=lambda f: f.finished, reverse=True)


def survey(project: Project) -> Report:
    """One look, now."""
    return Survey(project).look(time.time(), time.monotonic())


def failure(project: Project, task_id: str) -> Failure | None:
    """How a task failed, from its result; None if that is gone."""
    try:
        head = parse_head(disk.read_file(project.result_path(task_id)))
    except OSError:
        return None
    if head is None:
        return None
    why = reason(head.error, head.exit_code, head.signal)
    return Failure(task_id, head.status, why, head.finished)


def open_pasts(project: Project) -> list[Past]:
    """The last attempt in every ledger that lies there, read without locks."""
    try:
        names = os.listdir(project.locks)
    except FileNotFoundError:
        return []
    pasts = (
        history(peek(f"{project.locks}/{n}")) for n in names if n.endswith(".lock")
    )
    return [past[-1] for past in pasts if past]


def _running(project: Project, past: Past, now: float) -> Running:
    opened = past.claimed
    raw, _ = disk.read_tail(project.aside_path(opened.holder, "progress"), 4096)
    share, message = parse_progress(raw.decode(errors="replace"))
    return Running(
        id=opened.task,
        worker=opened.holder,
        attempt=opened.attempt,
        started=rfc3339(opened.acquired_at),
        elapsed_s=round(max(0.0, now - opened.acquired_at), 3),
        progress=share,
        message=message,
    )


def parse_progress(text: str) -> tuple[float | None, str]:
    """The last line that a task wrote to FARM_PROGRESS: `0.61 message`."""
    lines = text.strip().splitlines()
    first, _, message = lines[-1].partition(" ") if lines else ("", "", "")
    try:
        share = float(first)
    except ValueError:
        return None, lines[-1] if lines else ""
    return (share if 0.0 <= share <= 1.0 else None), message


def workers(project: Project, now: float) -> list[WorkerView]:
    """Every worker that lives, or that died and was not tidied up yet."""
    try:
        names = project.worker_names()
    except FileNotFoundError:
        return []
    views = []
    for name in names:
        seen = life.read(project, name)
        if seen is None:
            continue
        lock = life.observe(project, name)
        written = read_health(project, name)
        views.append(
            WorkerView(
                name=name,
                host=seen[1].who.host,
                pid=seen[1].who.pid,
                alive=lock is LifeLock.HELD,
                health=_health(project, name, lock, seen[1].heartbeat, now),
                task=written.task if written else None,
                tasks_ended=written.tasks_ended if written else 0,
            )
        )
    return views


def _health(
    project: Project, name: str, lock: LifeLock, heartbeat: float, now: float
) -> str:
    written = read_health(project, name)
    if lock is not LifeLock.HELD:
        return f"dead: {written.died}" if written and written.died else "dead"
    if written and written.consecutive_failures:
        return f"{written.consecutive_failures} failures in a row ({written.last_error_type})"
    try:
        silent = now - os.stat(project.life_path(name)).st_mtime
    except FileNotFoundError:
        return "gone"
    if silent < life.BEATS_TO_WAIT * heartbeat:
        return "well"
    who = life.read(project, name)
    state = (
        process.stat(who[1].who.pid) if who and process.is_here(who[1].who) else None
    )
    busy = "busy, not beating" if state else "no heartbeat"
    return f"{busy} for {silent:.0f} s"


def time_left(report: Report, ended_before: int, seconds: float) -> float | None:
    """Seconds until all is done, at the rate of the last `seconds`; None if unknown."""
    gained = report.ended - ended_before
    left = report.counts[State.READY] + report.counts[State.RUNNING]
    if gained <= 0 or seconds <= 0:
        return None
    return left * seconds / gained


def age(text: str, now: float) -> float:
    """Seconds since an RFC 3339 time."""
    return max(0.0, now - posix(text))
