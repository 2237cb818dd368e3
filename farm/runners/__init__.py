"""The kinds of task, and which function runs each.

Every runner is a function `run(job) -> Outcome`: it takes an open claim, does
what the task says, and returns when nothing of it runs any more. It raises
nothing for a task's own faults. Runners know nothing of each other, and one is
imported when its first task comes: a worker of callables never starts a command.
"""

import importlib
from collections.abc import Callable
from functools import cache
from typing import cast

from farm.job import Job
from farm.late import not_from
from farm.result import Outcome

Runner = Callable[[Job], Outcome]
RUNNERS = {"run": "shell", "call": "call", "prompt": "agent"}  #: kind -> module


def run(job: Job) -> Outcome:
    """Run a claimed task by its kind."""
    return _runner(job.claim.task.kind, job.project.root)(job)


@cache
def _runner(kind: str, project: str) -> Runner:
    with not_from(project):
        module = importlib.import_module(f"farm.runners.{RUNNERS[kind]}")
    return cast("Runner", module.run)
