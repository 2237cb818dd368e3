"""Answer a prompt: not in this version, and saying so is a result, too."""

from farm.job import Job
from farm.result import Error, Outcome
from farm.states import Why


def run(job: Job) -> Outcome:
    """Fail with a sentence: there is no agent to ask."""
    asked = job.claim.task.agent
    named = f" named {asked}" if isinstance(asked, str) else ""
    message = (
        f"no agent{named} is set up: this version of farm runs `run` and `call` tasks;"
        " give the prompt to an agent's command line in a `run` task"
    )
    return Outcome(Why.FAILED, error=Error("agent", message))
