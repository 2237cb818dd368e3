"""Work: one task after the other, and what is done when there is none.

`work_once` takes one task down the pipe (`farm.pipe`); `work_loop` repeats it,
and sleeps or rescues when there is nothing (`idle`). It ends when it is asked to, when
a fresh process must take this one's place, or when the machine has failed it three
times in a row. A folder that cannot keep farm's promises is a MountError and ends the
worker with a sentence.
"""

import time
from contextlib import suppress
from enum import Enum

from farm import pipe, rescue, retention
from farm.agent import Agent
from farm.claim import Claim
from farm.commit import Ending
from farm.compact import compact
from farm.errors import BusyError
from farm.late import not_from
from farm.ledger import endings, history, peek
from farm.process_state import SESSION_SLOT
from farm.retry import put_off_for
from farm.standing import Doomed, Ready
from farm.worker import Worker

SWEEP_EVERY = 30.0  # seconds; an idle worker tidies up after the dead,
SWEEP_SHARE = 100  # ... and after t seconds of that not for 100 t
LEFT_PATIENCE = 1.0  # seconds; a thread that a task left may finish meanwhile
AFRESH_AFTER = 250_000  # tasks; glibc keeps all that a variable ever was, 240 B a task


class LoopEnd(Enum):
    """Why the loop is over."""

    STOPPED = "stopped"  #: it was asked to stop
    DONE = "done"  #: nothing is left, and it was to end then
    RELOAD = "reload"  #: a fresh process takes its place; see `_successor`
    SPOILT = "spoilt"  #: a task changed what only a new process has again
    UNWELL = "unwell"  #: the machine failed it three times in a row


def work_once(worker: Worker) -> bool:
    """Take the best task to its end; False when there is none to take."""
    try:
        item = worker.next_item()
    except OSError as error:
        pipe.cannot_look(worker, error)
        return True
    if item is None:
        return False
    if len(worker.queue):  # a single task is not worth a look at the whole folder after
        worker.stop_watching()
    if not _calls_old_code(worker, item):
        _work_on(worker, item)
    return True


def _calls_old_code(worker: Worker, item: Ready | Doomed) -> bool:
    """Whether only a fresh process would call what lies on the disk now."""
    task = item.look.task if isinstance(item, Ready) else None
    if task is None or task.call is None:
        return False
    return worker.modules.changed(time.monotonic())


def _work_on(worker: Worker, item: Ready | Doomed) -> None:
    if isinstance(item, Doomed):
        pipe.try_to_end(worker, item)
        return
    agent = pipe.http_agent(worker.settings, item)
    if agent is not None:
        _hold_calls(worker, item, agent)
        return
    with pipe.mishaps(worker, item.look.id):
        ending = _work(worker, item)
        if ending is not None:
            pipe.report(worker, ending)


def _hold_calls(worker: Worker, first: Ready, agent: Agent) -> None:
    with not_from(worker.project.root):
        from farm import calls  # noqa: PLC0415 - an HTTP client, for prompts alone

        calls.hold_calls(worker, first, agent)  # the client imports some things late


def _work(worker: Worker, item: Ready) -> Ending | None:
    """A task that is ready: claim, run, end, commit."""
    taken = pipe.take(worker, item)
    if not isinstance(taken, Claim):
        return taken
    with taken.hold:
        worker.running = (taken.opened,)
        try:
            return pipe.finish(worker, taken, pipe.run(worker, taken))
        finally:
            worker.running = ()


# -- the loop --------------------------------------------------------------------


def work_loop(worker: Worker, *, until_done: bool = False) -> LoopEnd:
    """Work until asked to stop, until nothing is left, or until unwell."""
    _finish_moves(worker)
    while not worker.stop.soon:
        if successor := _successor(worker):
            return successor
        if not worker.health.is_healthy():
            return LoopEnd.UNWELL
        if work_once(worker):
            continue
        if until_done and _nothing_left(worker):
            return LoopEnd.DONE
        idle(worker)
    return LoopEnd.STOPPED


def _successor(worker: Worker) -> LoopEnd | None:
    """Why a fresh process must take its place; None while it need not."""
    if worker.displaced or worker.tasks_ended >= AFRESH_AFTER:
        return LoopEnd.RELOAD
    if worker.state.lost and _is_spoilt(worker):
        return LoopEnd.SPOILT
    if worker.state.left and _has_threads(worker):
        return LoopEnd.RELOAD
    return LoopEnd.RELOAD if worker.modules.stale else None


def _is_spoilt(worker: Worker) -> bool:
    """Whether a supervisor may replace it; else it goes on with what a task has left."""
    lost, worker.state.lost = worker.state.lost, ""
    said = f"a task has changed {lost}, which only a new process can have back"
    replaced = worker.is_supervised and SESSION_SLOT not in worker.environ
    worker.say(
        f"{said}: {'another' if replaced else 'start another: this'} one goes on"
    )
    return replaced


def _has_threads(worker: Worker) -> bool:
    """Whether threads that a task has left are still at work after a while."""
    if not (left := worker.state.wait_for_threads(LEFT_PATIENCE)):
        return False
    names = ", ".join(thread.name for thread in left[:3])
    worker.say(f"a task has left threads at work ({names}): a fresh process goes on")
    return True


def _nothing_left(worker: Worker) -> bool:
    if not worker.queue.outlook(worker.around).quiet:
        return False
    worker.refresh()  # an event may have told only a part of it
    return not len(worker.queue) and worker.queue.outlook(worker.around).quiet


def idle(worker: Worker) -> None:
    """Nothing is ready: rescue, tidy, then sleep until something changes."""
    try:
        _rescue(worker)
        if not worker.watching:
            _watch(worker)
            worker.refresh()  # what came before the watch began was no event
            return  # ... and may be all that was left: look before the sleep
        if len(worker.queue):
            return  # what was rescued just now
        rung = worker.stop.bell.wait(_patience(worker))
        _learn(worker, rung=rung)
    except OSError as error:
        pipe.cannot_look(worker, error)


def _rescue(worker: Worker) -> None:
    for task_id in worker.queue.held():
        if rescue.rescue(worker.project, worker.holder, task_id):
            worker.queue.freed(task_id, time.time(), time.monotonic())
    _give_up(worker)
    tick = time.monotonic()
    if tick >= worker.sweep_due:
        worker.sweep_due = tick + SWEEP_EVERY  # also after one that fails
        rescue.sweep(worker.project, worker.holder, time.time())
        _finish_moves(worker)
        worker.queue.recheck()
        worker.journal.seal()
        compact(worker.project, at_rest=True)
        took = time.monotonic() - tick
        worker.sweep_due = tick + max(SWEEP_EVERY, SWEEP_SHARE * took)
    if tick >= worker.trim_due:
        worker.trim_due = tick + retention.EVERY
        retention.trim(worker.project, worker.settings, time.time())


def _finish_moves(worker: Worker) -> None:
    """Complete what a killed `farm archive` or `farm restore` left half done."""
    if not worker.project.is_moving():
        return
    with not_from(worker.project.root):
        from farm import archive, pair, restore  # noqa: PLC0415 - hardly ever needed
    try:
        with suppress(BusyError), pair.alone(worker.project):
            _, faults = archive.finish(worker.project, worker.holder)
            faults += restore.finish(worker.project, worker.holder)
            worker.say_once(faults)
    except OSError as error:
        pipe.cannot_look(worker, error)


def _give_up(worker: Worker) -> None:
    """End what was put off for too long, although no key is free; see `farm.retry`."""
    now, tick = time.time(), time.monotonic()
    for task_id in worker.queue.without_key():
        # None that nobody has asked for has a ledger.
        past = history(peek(worker.project.ledger_path(task_id)))
        if put_off_for(endings(past), now) > worker.settings.max_wait:
            worker.queue.give_up(task_id, now, tick)


def _learn(worker: Worker, *, rung: bool) -> None:
    """Look at what events name; at the whole folder if they tell too much or nothing."""
    worker.follow_settings()  # who changes them and then drops a task means both
    changes = worker.watcher.take()
    if changes.everything:  # folders came or went, say: the next watch is of what is
        worker.stop_watching()
    elif not rung and worker.sleep_is_over():
        worker.refresh()
    elif changes.ids:
        worker.queue.touch(sorted(changes.ids), time.time(), time.monotonic())
    worker.queue.look_again(time.time(), time.monotonic())


def _watch(worker: Worker) -> None:
    worker.watching = True
    if not worker.events:
        return
    if refusal := worker.watcher.start():
        worker.events = False
        worker.say(refusal)


def _patience(worker: Worker) -> float:
    """Seconds that an idle worker may sleep if nothing wakes it."""
    due, next_look = worker.queue.due(), worker.queue.next_look
    patience = worker.longest_sleep()
    if due is not None:
        patience = min(patience, due - time.time())
    if next_look is not None:
        patience = min(patience, next_look - time.monotonic())
    return max(0.0, patience)
