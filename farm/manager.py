"""`TaskStateManager`: the pattern's face of the queue."""

import time
from pathlib import Path
from typing import Any

from farm import disk, life, register
from farm.look import read_look
from farm.project import Project
from farm.queue import Queue
from farm.standing import Ready
from farm.states import State


class TaskStateManager:
    """The pattern's questions: which task is next, and where is that one.

    States are derived from the folder at every call; there is no update, because
    claiming and committing are what changes them. A task comes as a dict: what
    its file says, with `id state status is_started is_complete`.
    """

    def __init__(self, project_dir: str | Path) -> None:
        self._project = Project.open(project_dir)

    def get_next_pending_task(self) -> dict[str, Any] | None:
        """The task that a worker alone would try next, or None."""
        queue = Queue(self._project)
        queue.refresh(time.time(), time.monotonic())
        while item := queue.next():
            if isinstance(item, Ready):
                task = self.get_task(item.look.id)
                if task is not None and task["state"] is State.READY:
                    return task
        return None

    def get_task(self, task_id: str) -> dict[str, Any] | None:
        """Where a task is and how it ended; None if there is no such task."""
        head = register.counts(self._project, task_id)
        look = read_look(self._project, task_id)
        if head is None and look is None:
            return None
        said = (
            disk.decode(self._project.read_task(task_id).raw)
            if look and look.task
            else {}
        )
        state = State.FINAL if head else self._open_state(task_id)
        return {
            **(said if isinstance(said, dict) else {}),
            "id": task_id,
            "state": state,
            "status": head.status if head else None,
            "is_started": state is State.RUNNING,
            "is_complete": state is State.FINAL,
        }

    def _open_state(self, task_id: str) -> State:
        if life.running(self._project, task_id):
            return State.RUNNING
        now = time.time()
        queue = Queue(self._project)
        queue.refresh(now, time.monotonic())
        waits = task_id in queue.waiting or life.delayed(self._project, task_id, now)
        return State.WAITING if waits else State.READY
