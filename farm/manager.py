"""`TaskStateManager`: the pattern's face of a survey."""

import os
import time
from pathlib import Path
from typing import Any

from farm import disk, register
from farm.errors import TaskFileError
from farm.project import Project
from farm.report import Survey
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
        survey = Survey(self._project)
        report = survey.look(time.time(), time.monotonic())
        running = {task.id for task in report.running}
        waiting = {waits.id for waits in report.waiting}
        for task_id in survey.ready_ids():
            if task_id not in running | waiting:
                return _described(self._project, task_id, State.READY)
        return None

    def get_task(self, task_id: str) -> dict[str, Any] | None:
        """Where a task is and how it ended; None if there is no such task."""
        report = Survey(self._project).look(time.time(), time.monotonic())
        state = State.READY
        if task_id in {task.id for task in report.running}:
            state = State.RUNNING
        elif task_id in {waits.id for waits in report.waiting}:
            state = State.WAITING
        return _described(self._project, task_id, state)


def _described(project: Project, task_id: str, state: State) -> dict[str, Any] | None:
    head = register.counts(project, task_id)
    try:
        said = disk.decode(project.read_task(task_id).raw)
    except (FileNotFoundError, ValueError, TaskFileError):
        said = None  # deleted, or refused: its state and status say so
    if (
        head is None
        and said is None
        and not os.path.lexists(project.task_path(task_id))
    ):
        return None
    state = State.FINAL if head else state
    return {
        **(said if isinstance(said, dict) else {}),
        "id": task_id,
        "state": state,
        "status": head.status if head else None,
        "is_started": state is State.RUNNING,
        "is_complete": state is State.FINAL,
    }
