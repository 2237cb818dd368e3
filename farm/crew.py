"""Who works on a project, and on what.

`crew(project, now)` looks at life locks, health files and the open attempts in
ledgers. It takes no task's lock and writes nothing. What it says of workers on other
hosts rests on their locks alone: clocks of two hosts are never compared.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress

import msgspec

from farm import disk, life, process
from farm.health import Health, read_health
from farm.ledger import Past, history, peek
from farm.life import LifeLock, LifeRecord, Owner
from farm.look import gist
from farm.project import Project
from farm.result import rfc3339
from farm.singleton import supervisors
from farm.words import duration


class Running(msgspec.Struct, frozen=True):
    """A task that a living worker holds."""

    id: str
    worker: str
    attempt: int
    started: str
    elapsed_s: float
    progress: float | None = None  #: 0.0 to 1.0
    message: str = ""
    left_s: float | None = None  #: seconds; None if nobody can know
    quiet_s: float | None = None  #: seconds without a sign of work, if it is long
    last: str = ""  #: what it said then
    what: str = ""  #: the first words of its command, or of its prompt

    @property
    def silence(self) -> str:
        """`no output for 4 min 3 s, last: Reconnecting... 2/5`; nothing if it works."""
        if self.quiet_s is None:
            return ""
        last = f", last: {self.last}" if self.last else ""
        return f"no output for {duration(self.quiet_s)}{last}"


class WorkerView(msgspec.Struct, frozen=True):
    """A worker, as its files and its life lock show it."""

    name: str
    host: str
    pid: int
    started: float  #: POSIX seconds
    alive: bool
    health: str  #: "well", "dead: was killed by SIGKILL", "no heartbeat for 12 s"
    task: str | None  #: the one that began first
    tasks_ended: int
    others: int = 0  #: how many calls it holds beside that one
    what: str = ""  #: the first words of what that one does


class SupervisorView(msgspec.Struct, frozen=True):
    """A living supervisor."""

    host: str
    pid: str


def last_attempts(project: Project) -> list[Past]:
    """The last attempt in every ledger that lies there, read without locks."""
    names = project.ledger_names()
    pasts = (history(peek(f"{project.locks}/{name}")) for name in names)
    return [past[-1] for past in pasts if past]


def alive_ones(
    project: Project, pasts: Iterable[Past], now: float
) -> dict[str, Running]:
    """The open attempts among these whose owner lives, by task."""
    return {
        past.claimed.task: _running(project, past, now)
        for past in pasts
        if past.ended is None
        and life.owner_of(project, past.claimed.holder, past.claimed.who, me="")
        is Owner.ALIVE
    }


class Crew(msgspec.Struct, frozen=True):
    """Who works on a project, on all hosts."""

    workers: list[WorkerView]
    supervisors: list[SupervisorView]


def crew(
    project: Project, now: float, running: Mapping[str, Running] | None = None
) -> Crew:
    """Who works here now; quicker than a look at all tasks.

    `running` is what `alive_ones` has found; without it the ledgers are read.
    """
    if running is None:
        running = alive_ones(project, last_attempts(project), now)
    kept = supervisors(project).items()
    return Crew(
        workers(project, running, now),
        [SupervisorView(host, pid) for host, pid in kept],
    )


def _running(project: Project, past: Past, now: float) -> Running:
    opened = past.claimed
    raw = b""
    with suppress(OSError):  # a task may have made of its file what it likes
        raw, _ = disk.read_tail(project.aside_path(opened.holder, "progress"), 4096)
    share, message = parse_progress(raw.decode(errors="replace"))
    health = read_health(project, opened.holder)
    is_quiet = health is not None and health.task == opened.task and health.quiet_since
    return Running(
        id=opened.task,
        worker=opened.holder,
        attempt=opened.attempt,
        started=rfc3339(opened.acquired_at),
        elapsed_s=round(max(0.0, now - opened.acquired_at), 3),
        progress=share,
        message=message,
        quiet_s=max(0.0, now - health.quiet_since) if health and is_quiet else None,
        last=health.last_said if health and is_quiet else "",
        what=gist(project, opened.task),
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


def workers(
    project: Project, running: Mapping[str, Running], now: float
) -> list[WorkerView]:
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
        health = read_health(project, name) or Health()
        held = [r for r in running.values() if r.worker == name]
        first = min(held, key=_by_start, default=None)
        views.append(
            WorkerView(
                name=name,
                host=seen[1].who.host,
                pid=seen[1].who.pid,
                started=seen[1].started,
                alive=lock is LifeLock.HELD,
                health=_health_words(project, seen[1], lock, health, now),
                task=first.id if first else None,
                what=first.what if first else "",
                tasks_ended=health.tasks_ended,
                others=max(0, len(held) - 1),
            )
        )
    return views


def _by_start(run: Running) -> tuple[str, str]:
    return run.started, run.id


def _health_words(
    project: Project, record: LifeRecord, lock: LifeLock, health: Health, now: float
) -> str:
    if lock is not LifeLock.HELD:
        return f"dead: {health.died}" if health.died else "dead"
    if health.consecutive_failures:
        kind = health.last_error_type
        return f"{health.consecutive_failures} failures in a row ({kind})"
    silent = _silence(project, record, now)
    if silent < life.BEATS_TO_WAIT * record.heartbeat:
        return "well"
    seen = process.stat(record.who.pid)
    state = "busy, not beating" if seen and seen.state == "R" else "no heartbeat"
    return f"{state} for {silent:.0f} s"


def _silence(project: Project, record: LifeRecord, now: float) -> float:
    """Seconds since the last beat of a worker of this host; 0.0 for others.

    Only here are the clocks of writer and reader one.
    """
    if project.network or not process.is_here(record.who):
        return 0.0
    try:
        return now - os.stat(project.life_path(record.name)).st_mtime
    except FileNotFoundError:
        return 0.0  # it ended in this moment
