"""One task down the pipe: claim, run, end, commit, report.

    taken = take(worker, item)               -> Claim, an Ending without a run, or None
    outcome = run(worker, taken)
    ending = finish(worker, taken, outcome)
    report(worker, ending)

`conclude` is for tasks that can only end. What can go wrong is told apart by whose
fault it is. A task's failure is its result. The machine's (no process, no room on the
disk) is noted and waited out with growing delays (`rest`); three in a row make the
worker unwell. OSError from `take` and `conclude` is the machine's, too, and leaves no
lock behind.
"""

import os
import time
import traceback
from contextlib import suppress

import msgspec

from farm import claim, commit, disk, runners
from farm.agent import Agent
from farm.claim import Claim, Exhausted, Reason, Refused
from farm.commit import End, Ending
from farm.config import Settings
from farm.errors import FULL, ConfigError, LedgerError
from farm.guard import OUTPUT, drained, filled
from farm.job import Job, end_everything
from farm.result import Error, Outcome, reason
from farm.standing import Doomed, Ready
from farm.states import Status, Why
from farm.worker import Worker


def report(worker: Worker, ending: Ending) -> None:
    """An attempt is over: the queue, the journal and people learn of it."""
    _learn(worker, ending)
    worker.record(ending)


def _learn(worker: Worker, ending: Ending) -> None:
    if ending.end is End.FENCED:  # perhaps by nobody's result: its ledger was deleted
        worker.queue.forget(ending.id, time.monotonic())
        return
    again = ending.until if ending.end is End.RETRY else None
    worker.queue.ended(ending.id, again, time.time(), time.monotonic())


class mishaps:  # noqa: N801 - used as a function; a generator takes four times as long
    """What goes wrong around a task in here is said, and the task tried again later."""

    __slots__ = ("_task_id", "_worker")

    def __init__(self, worker: Worker, task_id: str) -> None:
        self._worker = worker
        self._task_id = task_id

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: BaseException | None, _at: object) -> bool:
        worker, task_id = self._worker, self._task_id
        if isinstance(error, LedgerError):
            worker.say(str(error))
            worker.queue.block(task_id, str(error), time.time(), time.monotonic())
        elif isinstance(error, OSError):
            rest(worker, f"{task_id}: {error.strerror}", type(error).__name__)
            worker.queue.forget(task_id, time.monotonic())
        else:
            return False
        return True


def try_to_end(worker: Worker, item: Doomed) -> None:
    """Conclude a task that can only end."""
    with mishaps(worker, item.look.id):
        ending = conclude(worker, item)
        if ending is not None:
            report(worker, ending)


def http_agent(settings: Settings, item: Ready) -> Agent | None:
    """Who is asked over HTTP; None for all other tasks, also those nobody answers."""
    task = item.look.task
    if task is None or task.kind != "prompt":
        return None
    try:
        agent = settings.agent(task.agent)
    except ConfigError:
        return None  # its runner says so
    return agent if agent.is_http else None


def conclude(worker: Worker, item: Doomed) -> Ending | None:
    """A task that can only end: skipped, or invalid."""
    look = item.look
    if item.status is Status.SKIPPED and not worker.queue.still_doomed(look):
        worker.queue.forget(look.id, time.monotonic())
        return None
    held = claim.hold(worker.project, worker.holder, look.id, time.time())
    if isinstance(held, Refused):
        _refused(worker, look.id, held)
        return None
    with held:
        if claim.lies_there(worker.project, held, look):
            return commit.conclude(
                worker.desk, held, item.status, item.error, look.sha256
            )
        claim.let_go(worker.project, held)
    worker.queue.forget(look.id, time.monotonic())
    return None


def take(worker: Worker, item: Ready) -> Claim | Ending | None:
    """Claim a task that is ready; its end if its past says it, None if it is refused."""
    look = item.look
    if not worker.queue.still_ready(look):
        worker.queue.forget(look.id, time.monotonic())
        return None
    now = time.time()
    if worker.queue.waits_for_key(look, now):
        return None
    taken = claim.take(worker.project, worker.holder, look, worker.settings, now)
    if isinstance(taken, Refused):
        _refused(worker, look.id, taken)
        return None
    if isinstance(taken, Exhausted):
        with taken.hold:
            return commit.exhaust(worker.desk, taken)
    return taken


def _refused(worker: Worker, task_id: str, refused: Refused) -> None:
    now, tick = time.time(), time.monotonic()
    if refused.reason in (Reason.FINAL, Reason.GONE, Reason.CHANGED):
        worker.queue.forget(task_id, tick)
    else:
        worker.queue.refused(task_id, now, tick, refused.until)


def run(worker: Worker, taken: Claim) -> Outcome:
    """Run it; whatever goes wrong around it is an outcome, too."""
    job = None
    try:
        job = job_of(worker, taken)
        outcome = runners.run(job)
    except Exception as error:  # noqa: BLE001 - one odd task must not end the worker
        outcome = unexpected(error)
    if job is not None and outcome.why is not Why.SUCCEEDED:
        end_everything(job)
    return judged(worker, taken, outcome)


def unexpected(error: Exception) -> Outcome:
    """What a runner must not raise, as an outcome: the machine's fault, or ours."""
    if isinstance(error, OSError):
        return Outcome(Why.FAULT, error=Error("machine", f"{error.strerror}"))
    words = f"farm could not run this, which is a bug in farm: {error!r}"
    trace = "".join(traceback.format_exception(error))
    return Outcome(Why.FAILED, error=Error("internal", words, traceback=trace))


def judged(worker: Worker, taken: Claim, outcome: Outcome) -> Outcome:
    """An outcome as it is written down, when nothing of the task runs: without a secret."""
    if outcome.why in (Why.FAILED, Why.FAULT):
        outcome = _believed(worker, taken, outcome)
    if outcome.why is Why.FAILED:
        outcome = _without(worker, taken, outcome)
    outcome = worker.secrets.clean(outcome)
    worker.modules.note(taken.opened.acquired_at)
    took = time.monotonic() - taken.hold.tick
    return msgspec.structs.replace(outcome, took=took)


def _believed(worker: Worker, taken: Claim, outcome: Outcome) -> Outcome:
    """A failure counts only if the disk had room for what the task printed.

    But for a task that filled the disk with that: it would fill it again. The middle of
    what it printed is freed, so that others go on.
    """
    refusal = _disk_refuses(worker)
    by_itself = outcome.error is not None and outcome.error.kind == OUTPUT
    if not refusal and not by_itself:
        return outcome
    most = worker.settings.most_output(taken.task.max_output)
    printed = [path for path in (outcome.stdout, outcome.stderr) if path]
    if size := drained(printed, most):
        return msgspec.structs.replace(outcome, why=Why.FAILED, error=filled(size))
    if by_itself or outcome.why is Why.FAULT:
        return outcome
    said = outcome.error.message if outcome.error else "it failed"
    fault = Error("machine", f"{refusal}, so this is not held against it: {said}")
    return msgspec.structs.replace(outcome, why=Why.FAULT, error=fault)


_MOST_WITHHELD = 50  # names that a result tells; an environment may hold thousands


def _without(worker: Worker, taken: Claim, outcome: Outcome) -> Outcome:
    """A failure says which variables were withheld: one may be what it lacked."""
    names = worker.secrets.withheld(taken.task.env_from)
    if outcome.error is None or taken.task.kind == "prompt" or not names:
        return outcome
    error = msgspec.structs.replace(outcome.error, withheld=names[:_MOST_WITHHELD])
    return msgspec.structs.replace(outcome, error=error)


def _disk_refuses(worker: Worker) -> str:
    """Why the disk takes nothing now; "" if it does, or another thing is wrong."""
    try:
        disk.try_room(worker.project.aside_path(worker.life.name, "room"))
    except OSError as error:
        return f"{error.strerror}" if error.errno in FULL else ""
    return ""


def job_of(worker: Worker, taken: Claim) -> Job:
    """What its runner gets."""
    needed = {
        task_id: worker.project.result_path(task_id)
        for task_id in worker.queue.expand(taken.id, taken.task)
    }
    if needed != worker.needs_written:
        aside = worker.project.aside_path(worker.life.name, "needs.new")
        disk.replace(worker.scratch.needs, disk.encode(needed), aside)
        worker.needs_written = needed
    if os.access(worker.scratch.progress, os.F_OK):  # the usual no costs no exception
        disk.clear(worker.scratch.progress)  # a task may have made a folder of it
    return Job(
        claim=taken,
        project=worker.project,
        settings=worker.settings,
        environ=worker.environ,
        secrets=worker.secrets,
        scratch=worker.scratch,
        stop=worker.stop,
        capture=worker.capture,
        state=worker.state,
        worker=worker.life.name,
        quiet=worker.call_guard.quiet,
        ring=worker.ring if taken.task.needs_key else None,
    )


def finish(worker: Worker, taken: Claim, outcome: Outcome) -> Ending:
    """Commit, and while the disk takes nothing, wait with the lock held."""
    now, ending = time.time(), None
    while ending is None:
        ending = finish_once(worker, taken, outcome, now)
    return ending


def finish_once(
    worker: Worker, taken: Claim, outcome: Outcome, now: float
) -> Ending | None:
    """Commit; None if the disk takes nothing, and the lock is still held."""
    try:
        ending = commit.finish(worker.desk, taken, outcome, now)
    except OSError as error:
        if worker.stop.now or worker.state.lost:
            raise  # its attempt stays open: lost, and run again
        message = f"cannot write the result of {taken.id}: {error.strerror}"
        rest(worker, f"{message}; trying again", type(error).__name__)
        return None
    if outcome.why is Why.FAULT:
        said = reason(outcome.error, None, None)
        rest(worker, f"{taken.id}: {said}", "machine")
    else:
        worker.health.record_success()
        worker.backoff.record_success()
    return ending


def cannot_look(worker: Worker, error: OSError) -> None:
    """The machine did not let us look for tasks."""
    rest(worker, f"cannot look for tasks: {error.strerror}", type(error).__name__)


def rest(worker: Worker, message: str, kind: str) -> None:
    """The machine failed us: say so, and give it time."""
    worker.say(message)
    with suppress(OSError):  # the disk may refuse this as well
        worker.project.restore_folders()
    if not _disk_refuses(worker):  # a fresh worker would find no more room
        worker.health.record_failure(kind)
    worker.backoff.record_failure()
    worker.rest_for(worker.backoff.get_delay())
