"""The task inside which this process runs, if it is one of the same project.

A task may add others and wait for them, or start a worker for them. Whoever then waits
until nothing is left must leave that very task out: it ends only after the wait.
"""

import os
from collections.abc import Mapping

from farm.ledger import open_attempt, peek
from farm.project import Project


def around(project: Project, environ: Mapping[str, str]) -> str | None:
    """The id of the task of this project whose attempt has started us; else None.

    The variables of a task that has ended may live on, in a terminal that it has
    opened, say: so the attempt must be open.
    """
    task_id, root = environ.get("FARM_TASK_ID"), environ.get("FARM_PROJECT")
    if not task_id or not root:
        return None
    if os.path.realpath(root) != os.path.realpath(project.root):
        return None
    last = open_attempt(peek(project.ledger_path(task_id)))
    is_ours = last is not None and last.claimed.token == environ.get("FARM_TOKEN")
    return task_id if is_ours else None
