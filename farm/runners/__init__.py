"""The kinds of task, and which function runs each.

Every runner is a function `run(job) -> Outcome`: it takes an open claim, does
what the task says, and returns when nothing of it runs any more. It raises
nothing for a task's own faults. Runners know nothing of each other.
"""

from collections.abc import Callable

from farm.job import Job
from farm.result import Outcome
from farm.runners import agent, call, shell

RUNNERS: dict[str, Callable[[Job], Outcome]] = {
    "run": shell.run,
    "call": call.run,
    "prompt": agent.run,
}


def run(job: Job) -> Outcome:
    """Run a claimed task by its kind."""
    return RUNNERS[job.claim.task.kind](job)
