"""`TaskStateManager`: the pattern's view of a project, and how its loops end attempts.

    task = manager.get_next_pending_task()
    with lock.lock(task["id"]) as acquired:                  # farm.TaskLock
        manager.update_task(task["id"], is_started=True)
        manager.update_task(task["id"], is_complete=True)    # or what went wrong

Questions are answered from the folder at every call. `update_task` ends an attempt as a
worker does, in the ledger and by a result, under the lock that its caller holds: so
loops of one's own, farm's workers and `farm status` agree, and each task runs once.
"""

import os
import threading
import time
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec

from farm import claim, commit, disk, journal, locking, register
from farm.claim import Claim, Hold
from farm.commit import Desk, End
from farm.config import load_settings
from farm.errors import FarmError, TaskFileError, UsageError
from farm.history import History, read_history
from farm.journal import VERBS
from farm.ledger import Claimed, Ended
from farm.locking import Held
from farm.look import read_look
from farm.project import Project
from farm.report import Survey
from farm.result import Error, Outcome
from farm.states import State, Why
from farm.value import judged

_one_at_a_time = threading.Lock()  # results of one holder are written under one name


class Move(Enum):
    """What `update_task` is told of a task."""

    START = "start"
    SUCCEED = "succeed"
    FAIL = "fail"  #: this attempt; its `retries` say whether there is another
    GIVE_BACK = "give back"  #: uncounted, as if it had not been started


def move_of(
    *, is_started: bool | None, is_complete: bool | None, error_message: str | None
) -> Move:
    """The move that these arguments mean; UsageError if they mean none."""
    if is_complete and error_message is None:
        return Move.SUCCEED
    if is_started and not is_complete and error_message is None:
        return Move.START
    if is_started is False and not is_complete:
        return Move.GIVE_BACK if error_message is None else Move.FAIL
    raise UsageError(
        "update_task takes is_started=True, is_complete=True, or is_started=False,"
        f" the last with error_message if the attempt failed; it got {is_started=},"
        f" {is_complete=}, {error_message=}"
    )


class TaskStateManager:
    """Which task is next, where is that one, and what became of it.

    A task comes as a dict: what its file says, with `id state status is_started
    is_complete attempts error_message`. `attempts` counts those that failed.
    """

    def __init__(self, project_dir: str | Path) -> None:
        """The tasks of the project in this folder; it is made if it is new."""
        self._project = Project.open(project_dir)
        self._survey = Survey(self._project)
        self._delayed: dict[str, float] = {}  # POSIX seconds: when a retry may start
        self.project_dir = Path(project_dir)

    def get_next_pending_task(self) -> dict[str, Any] | None:
        """The task that a worker alone would try next, or None."""
        report = self._survey.look(time.time(), time.monotonic())
        running = {task.id for task in report.running}
        waiting = {waits.id for waits in report.waiting}
        for task_id in self._survey.ready_ids():
            if task_id in running | waiting or locking.held(self._project, task_id):
                continue
            if (task := self._described(task_id, State.READY)) is not None:
                return task
        return None

    def get_task(self, task_id: str | int) -> dict[str, Any] | None:
        """Where a task is and how it ended; None if there is no such task."""
        name, state = str(task_id), State.READY
        if mine := locking.held(self._project, name):
            state = State.RUNNING if mine.claim else State.READY
            return self._described(name, state)
        report = self._survey.look(time.time(), time.monotonic())
        if name in {task.id for task in report.running}:
            state = State.RUNNING
        elif name in {waits.id for waits in report.waiting}:
            state = State.WAITING
        return self._described(name, state)

    def _described(self, task_id: str, state: State) -> dict[str, Any] | None:
        head = register.counts(self._project, task_id)
        try:
            told = disk.decode(self._project.read_task(task_id).raw)
        except (FileNotFoundError, ValueError, TaskFileError):
            told = None  # deleted, or refused: its state and status say so
        is_there = os.path.lexists(self._project.task_path(task_id))
        if head is None and told is None and not is_there:
            return None
        state = State.FINAL if head else state
        past = read_history(self._project, task_id)
        return {
            **(told if isinstance(told, dict) else {}),
            "id": task_id,
            "state": state,
            "status": head.status if head else None,
            "is_started": state in (State.RUNNING, State.FINAL),
            "is_complete": state is State.FINAL,
            "attempts": sum(attempt.counted for attempt in past.ended),
            "error_message": _last_error(past),
        }

    # -- moves -------------------------------------------------------------------

    def update_task(  # noqa: PLR0913 - the pattern's call, and a value
        self,
        task_id: str | int,
        *,
        is_started: bool | None = None,
        is_complete: bool | None = None,
        error_message: str | None = None,
        attempts: int | None = None,
        value: object = None,
    ) -> None:
        """Start a task, or end its attempt, under the lock that the caller holds.

            is_started=True                       its attempt is running from now on
            is_complete=True, value=...           it succeeded: the result is written
            is_started=False, error_message=...   this attempt failed, and counts; the
                                                  task runs again as `retries` allows
            is_started=False                      given back, uncounted

        All but the first let the lock go. `attempts` is accepted as the pattern passes
        it; farm counts attempts itself. `value` is what JSON can hold.

        UsageError without the lock, for a task that has ended or is gone, and for a
        value that JSON cannot hold. FarmError if the lock was lost meanwhile (on a
        network file system): the outcome is kept in `.farm/logs` then. OSError if the
        disk takes nothing: the lock is still held, and the call may be repeated.
        """
        del attempts  # ours are counted in the ledger
        move = move_of(
            is_started=is_started, is_complete=is_complete, error_message=error_message
        )
        name = str(task_id)
        mine = locking.held(self._project, name)
        if mine is None:
            raise UsageError(
                f"{name}: update_task changes a task only under its lock: take it first"
                f" in this process, with TaskLock({self._project.root!r}).lock({name!r})"
            )
        started = mine.claim or self._start(mine, name)
        if move is Move.START:
            return
        if value is not None and move is not Move.SUCCEED:
            raise UsageError(f"{name}: a value belongs to is_complete=True")
        outcome = _outcome(move, error_message, value)
        if move is Move.SUCCEED and outcome.error is not None:
            raise UsageError(f"{name}: {outcome.error.message}")
        self._end(mine, started, outcome)

    def next_retry(self, now: float) -> float | None:
        """Seconds until a task that failed here may run again; None if none may.

        Each is told until its time has come; what becomes of it then is in the folder.
        """
        self._delayed = {i: at for i, at in self._delayed.items() if at > now}
        return min((at - now for at in self._delayed.values()), default=None)

    def _start(self, mine: Held, task_id: str) -> Claim:
        if register.counts(self._project, task_id) is not None:
            raise UsageError(
                f"{task_id} has a result already: retry it to run it again"
            )
        look = read_look(self._project, task_id)
        if look is None:
            raise UsageError(f"{task_id} has no task file any more, so it never runs")
        if look.task is None or look.signature is None:
            why = look.fault.located(f"tasks/{task_id}.json") if look.fault else ""
            raise UsageError(f"{task_id} cannot run: {why}")
        now = time.time()
        if mine.opened.sha256 != look.sha256:
            mine.opened = _opened_anew(mine, task_id, look.sha256, now)
        hold = Hold(task_id, mine.ledger, mine.opened.acquired_at, look.signature)
        settings = load_settings(self._project.settings, os.environ, {})
        rules = claim.policy_of(look.task, settings)
        past = hold.past(look.sha256)
        mine.claim = Claim(hold, look.task, mine.opened, past, rules)
        return mine.claim

    def _end(self, mine: Held, started: Claim, outcome: Outcome) -> None:
        settings = load_settings(self._project.settings, os.environ, {})
        desk = Desk(self._project, mine.holder, settings)
        took = time.monotonic() - mine.since
        outcome = msgspec.structs.replace(outcome, took=took)
        with _one_at_a_time:
            ending = commit.finish(desk, started, outcome, time.time())
        mine.is_over = True
        if ending.end is End.FENCED:
            raise FarmError(
                f"{started.id} was not ours any more: its lock was lost, and what came"
                " of it is kept in .farm/logs"
            )
        if ending.end is End.RETRY:
            self._delayed[started.id] = ending.until
        journal.note(self._project, VERBS, [ending.entry(mine.holder.name)])


def _opened_anew(mine: Held, task_id: str, sha256: str | None, now: float) -> Claimed:
    """Open an attempt at the bytes that lie there now, in place of the first one."""
    mine.ledger.append(
        Ended(
            token=mine.opened.token,
            attempt=mine.opened.attempt,
            why=Why.RELEASED,
            counted=False,
            finished=now,
        )
    )
    opened = claim.next_claimed(mine.ledger, mine.holder, task_id, now, timeout=None)
    opened = msgspec.structs.replace(opened, sha256=sha256)
    mine.ledger.append(opened)
    return opened


def _outcome(move: Move, error_message: str | None, value: object) -> Outcome:
    if move is Move.SUCCEED:
        return judged(value)
    if move is Move.FAIL:
        return Outcome(Why.FAILED, error=Error("exception", error_message or ""))
    return Outcome(Why.RELEASED)


def _last_error(past: History) -> str | None:
    """Why the last attempt, or the task without one, did not succeed."""
    if past.result is not None and past.result.error is not None:
        return past.result.error.message
    error = past.ended[-1].error if past.ended else None
    return error.message if error else None
