"""Work: claim, run, end, commit, report; then the next.

`work_once` takes one task down the pipe; `work_stealing_loop` repeats it, and
sleeps or rescues when there is nothing (`idle`).

What can go wrong is told apart by whose fault it is. A task's failure is its
result. The machine's (no process, no room on the disk) is noted, waited out with
growing delays, and after three in a row the loop ends, so that a fresh worker
takes this one's place. A folder that cannot keep farm's promises is a MountError
and ends the worker with a sentence.
"""

import os
import time
import traceback
from contextlib import suppress
from enum import Enum

import msgspec

from farm import claim, commit, disk, rescue, retention, runners
from farm.claim import Claim, Exhausted, Reason, Refused
from farm.commit import End, Ending
from farm.errors import FULL, LedgerError
from farm.job import Job, end_everything, needs_keys
from farm.result import Error, Outcome
from farm.standing import Doomed, Ready
from farm.states import Status, Why
from farm.worker import Worker

SWEEP_EVERY = 30.0  # seconds; an idle worker tidies up after the dead
AFRESH_AFTER = 250_000  # tasks; glibc keeps all that a variable ever was, 240 B a task


class LoopEnd(Enum):
    """Why the loop is over."""

    STOPPED = "stopped"  #: it was asked to stop
    DONE = "done"  #: nothing is left, and it was to end then
    RELOAD = "reload"  #: see `_is_stale`
    UNWELL = "unwell"  #: the machine failed it three times in a row


def work_once(worker: Worker) -> bool:
    """Take the best task to its end; False when there is none to take."""
    try:
        item = worker.next_item()
    except OSError as error:
        _rest(worker, f"cannot look for tasks: {error.strerror}", type(error).__name__)
        return True
    if item is None:
        return False
    if len(worker.queue):  # a single task is not worth a look at the whole folder after
        worker.stop_watching()
    _work_on(worker, item)
    return True


def _work_on(worker: Worker, item: Ready | Doomed) -> None:
    task_id = item.look.id
    try:
        ending = (
            _conclude(worker, item) if isinstance(item, Doomed) else _work(worker, item)
        )
    except LedgerError as error:
        worker.say(str(error))
        worker.queue.block(task_id, str(error), time.monotonic())
        return
    except OSError as error:
        _rest(worker, f"{task_id}: {error.strerror}", type(error).__name__)
        worker.queue.forget(task_id)
        return
    if ending is not None:
        _learn_ending(worker, ending)
        worker.record(ending)


def _learn_ending(worker: Worker, ending: Ending) -> None:
    if ending.end is End.FENCED:  # perhaps by nobody's result: its ledger was deleted
        worker.queue.forget(ending.id)
        return
    again = ending.until if ending.end is End.RETRY else None
    worker.queue.ended(ending.id, again, time.time(), time.monotonic())


def _conclude(worker: Worker, item: Doomed) -> Ending | None:
    """A task that can only end: skipped, or invalid."""
    look = item.look
    if item.status is Status.SKIPPED and not worker.queue.still_doomed(look):
        worker.queue.forget(look.id)
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
    worker.queue.forget(look.id)
    return None


def _work(worker: Worker, item: Ready) -> Ending | None:
    """A task that is ready: claim, run, end, commit."""
    look = item.look
    if not worker.queue.still_ready(look):
        worker.queue.forget(look.id)
        return None
    taken = claim.take(
        worker.project, worker.holder, look, worker.settings, time.time()
    )
    if isinstance(taken, Refused):
        _refused(worker, look.id, taken)
        return None
    with taken.hold:
        if isinstance(taken, Exhausted):
            return commit.exhaust(worker.desk, taken)
        worker.current = taken.opened
        try:
            return _finish(worker, taken, _run(worker, taken))
        finally:
            worker.current = None


def _refused(worker: Worker, task_id: str, refused: Refused) -> None:
    if refused.reason in (Reason.FINAL, Reason.GONE, Reason.CHANGED):
        worker.queue.forget(task_id)
    elif refused.reason is Reason.DELAYED:
        worker.queue.refused(task_id, time.monotonic(), refused.until)
    else:
        worker.queue.refused(task_id, time.monotonic())


def _run(worker: Worker, taken: Claim) -> Outcome:
    """Run it; whatever goes wrong around it is an outcome, too."""
    job = None
    try:
        job = _job(worker, taken)
        outcome = runners.run(job)
    except OSError as error:
        outcome = Outcome(Why.FAULT, error=Error("machine", f"{error.strerror}"))
    except Exception as error:  # noqa: BLE001 - one odd task must not end the worker
        words = f"farm could not run this, which is a bug in farm: {error!r}"
        trace = traceback.format_exc()
        outcome = Outcome(Why.FAILED, error=Error("internal", words, traceback=trace))
    if job is not None and outcome.why is not Why.SUCCEEDED:
        end_everything(job)
    if outcome.why is Why.FAILED:
        outcome = _believed(worker, outcome)
    worker.modules.note(taken.opened.acquired_at)
    took = time.monotonic() - taken.hold.tick
    return msgspec.structs.replace(outcome, took=took)


def _believed(worker: Worker, outcome: Outcome) -> Outcome:
    """A failure counts only if the disk had room for what the task printed."""
    if not (refusal := _disk_refuses(worker)):
        return outcome
    said = outcome.error.message if outcome.error else "it failed"
    fault = Error("machine", f"{refusal}, so this is not held against it: {said}")
    return msgspec.structs.replace(outcome, why=Why.FAULT, error=fault)


def _disk_refuses(worker: Worker) -> str:
    """Why the disk takes nothing now; "" if it does, or another thing is wrong."""
    try:
        disk.try_room(worker.project.aside_path(worker.life.name, "room"))
    except OSError as error:
        return f"{error.strerror}" if error.errno in FULL else ""
    return ""


def _job(worker: Worker, taken: Claim) -> Job:
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
        worker=worker.life.name,
        ring=worker.ring if needs_keys(taken.task) else None,
    )


def _finish(worker: Worker, taken: Claim, outcome: Outcome) -> Ending:
    """Commit, and while the disk takes nothing, wait with the lock held."""
    now = time.time()
    ending = None
    while ending is None:
        try:
            ending = commit.finish(worker.desk, taken, outcome, now)
        except OSError as error:
            if worker.stop.now:
                raise  # its attempt stays open: lost, and run again
            message = f"cannot write the result of {taken.id}: {error.strerror}"
            _rest(worker, f"{message}; trying again", type(error).__name__)
    if outcome.why is Why.FAULT:
        said = outcome.error.message if outcome.error else "no reason given"
        _rest(worker, f"{taken.id}: {said}", "machine")
    else:
        worker.health.record_success()
        worker.backoff.record_success()
    return ending


def _rest(worker: Worker, message: str, kind: str) -> None:
    """The machine failed us: say so, and give it time."""
    worker.say(message)
    with suppress(OSError):  # the disk may refuse this as well
        worker.project.restore_folders()
    if not _disk_refuses(worker):  # a fresh worker would find no more room
        worker.health.record_failure(kind)
    worker.backoff.record_failure()
    worker.stop.bell.wait(worker.backoff.get_delay())


# -- the loop --------------------------------------------------------------------


def work_stealing_loop(worker: Worker, *, until_done: bool = False) -> LoopEnd:
    """Work until asked to stop, until nothing is left, or until unwell."""
    while not worker.stop.soon:
        if _is_stale(worker):
            return LoopEnd.RELOAD
        if not worker.health.is_healthy():
            return LoopEnd.UNWELL
        if work_once(worker):
            continue
        if until_done and _nothing_left(worker):
            return LoopEnd.DONE
        idle(worker)
    return LoopEnd.STOPPED


def _is_stale(worker: Worker) -> bool:
    """Whether a process that starts afresh must take its place."""
    if worker.displaced or worker.tasks_ended >= AFRESH_AFTER:
        return True
    return worker.modules.changed(time.monotonic()) is not None


def _nothing_left(worker: Worker) -> bool:
    if not worker.queue.outlook().quiet:
        return False
    worker.refresh()  # an event may have told only a part of it
    return not len(worker.queue) and worker.queue.outlook().quiet


def idle(worker: Worker) -> None:
    """Nothing is ready: rescue, tidy, then sleep until something changes."""
    try:
        _rescue(worker)
        if not worker.watching:
            _watch(worker)
            worker.refresh()  # what came before the watch began was no event
            return  # ... and may be all that was left: look before the sleep
        rung = worker.stop.bell.wait(_patience(worker))
        _learn(worker, rung=rung)
    except OSError as error:
        _rest(worker, f"cannot look for tasks: {error.strerror}", type(error).__name__)


def _rescue(worker: Worker) -> None:
    for task_id in worker.queue.held():
        if rescue.rescue(worker.project, worker.holder, task_id):
            worker.queue.forget(task_id)  # its lock is free now: try it at once
    tick = time.monotonic()
    if tick >= worker.sweep_due:
        worker.sweep_due = tick + SWEEP_EVERY
        rescue.sweep(worker.project, worker.holder, time.time())
    if tick >= worker.trim_due:
        worker.trim_due = tick + retention.EVERY
        retention.trim(worker.project, worker.settings, time.time())


def _learn(worker: Worker, *, rung: bool) -> None:
    """Look at what events name; at the whole folder if they tell too much or nothing."""
    changes = worker.watcher.take()
    if changes.everything:  # folders came or went, say: the next watch is of what is
        worker.stop_watching()
    elif not rung:
        worker.refresh()
    elif changes.ids:
        worker.queue.touch(sorted(changes.ids), time.time(), time.monotonic())


def _watch(worker: Worker) -> None:
    worker.watching = True
    if not worker.events:
        return
    if refusal := worker.watcher.start():
        worker.events = False
        worker.say(refusal)


def _patience(worker: Worker) -> float:
    """Seconds that an idle worker may sleep if nothing wakes it."""
    longest, due = worker.longest_sleep(), worker.queue.due()
    return longest if due is None else max(0.0, min(longest, due - time.time()))
