"""`work_stealing_loop`: the pattern's loop, with a processor of one's own.

    await work_stealing_loop(1, TaskStateManager("."), TaskLock("."), process)

It does what the pattern's page says, over farm's own ledgers and results. Any number of
loops, in one process or many, and farm's own workers may run at the same time: each task
is run by one of them. What a killed loop held is rescued, by the next loop or by an idle
worker. farm's own workers run `farm.work`.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from farm.backoff import AdaptiveBackoff
from farm.errors import FarmError, UsageError
from farm.locking import TaskLock
from farm.manager import TaskStateManager

Processor = Callable[[dict[str, Any]], Awaitable[object]]

_FIRST, _LONGEST = 0.01, 1.0  # seconds to wait after a lock that another had


async def work_stealing_loop(
    worker_id: int | str,
    task_manager: TaskStateManager,
    task_lock: TaskLock,
    processor: Processor,
) -> None:
    """Run ready tasks with `processor`, one after the other, until none is left.

    The processor gets a task as `TaskStateManager.get_task` describes it. What it
    returns is the result's `value`; what it raises fails the attempt, and the task runs
    again as its `retries` say: the loop waits for those that failed in it. It does not
    wait for tasks that other workers run, that a date holds back, or that need another
    task. A task's `timeout` is the processor's business.
    """
    backoff = AdaptiveBackoff(_FIRST, _LONGEST)
    while True:
        task = task_manager.get_next_pending_task()
        if task is None:
            pause = task_manager.next_retry(time.time())
            if pause is None:
                return
            await asyncio.sleep(pause)
            continue
        with task_lock.lock(task["id"], holder_id=f"worker-{worker_id}") as acquired:
            if acquired:
                await _run(task["id"], task_manager, processor)
                backoff.record_success()
                continue
        # RACE: another took it after the look. It may not be seen to run yet, so the
        # same task may come again at once.
        await backoff.wait()
        backoff.record_failure()


async def _run(task_id: str, manager: TaskStateManager, processor: Processor) -> None:
    """Run a task whose lock is ours; nothing if another was quicker."""
    task = manager.get_task(task_id)
    if task is None or task["is_started"]:
        return  # RACE: it was run, or removed, between the look and the lock
    manager.update_task(task_id, is_started=True)
    try:
        value = await processor(task)
    except Exception as error:  # noqa: BLE001 - whatever it raises is the task's failure
        _end(task_id, manager, error=str(error) or type(error).__name__)
    else:
        _end(task_id, manager, value=value)


def _end(
    task_id: str,
    manager: TaskStateManager,
    *,
    value: object = None,
    error: str | None = None,
) -> None:
    try:
        if error is None:
            manager.update_task(task_id, is_complete=True, value=value)
        else:
            manager.update_task(task_id, is_started=False, error_message=error)
    except UsageError as refused:  # JSON cannot hold the value
        manager.update_task(task_id, is_started=False, error_message=str(refused))
    except FarmError as fenced:  # its outcome is kept aside, and another has the task
        logging.getLogger("farm").warning("%s", fenced)
