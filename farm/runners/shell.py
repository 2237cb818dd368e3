"""Run a command: a `run` task.

A string goes to `sh -c`, a list is executed as it is (`farm.command`). It has
succeeded if it ended by itself with one of the task's `ok_exit_codes`.
"""

from farm.command import Ended, Plan, execute, last_line, not_started
from farm.errors import TaskFileError
from farm.job import Job, environment, working_folder
from farm.result import Error, Outcome
from farm.states import Why


def run(job: Job) -> Outcome:
    """Run the command of a claimed task to its end."""
    command = job.claim.task.run
    argv = ["/bin/sh", "-c", command] if isinstance(command, str) else command or []
    try:
        env, folder = environment(job), working_folder(job)
        secrets = job.secrets.given(job.claim.task.env_from)
        ended = execute(job, Plan(argv, env, folder, secrets=secrets))
    except TaskFileError as fault:
        return Outcome(Why.FAILED, error=Error("environment", str(fault)))
    except (OSError, ValueError) as error:
        return not_started(job, "sh" if isinstance(command, str) else argv[0], error)
    return _outcome(job, ended)


def _outcome(job: Job, ended: Ended) -> Outcome:
    code, why, error = ended.exit.code, ended.why, ended.error
    if error is None and code not in job.claim.task.ok_exit_codes:
        said = last_line(ended.stderr)
        words = f"exit code {code}: {said}" if said else f"exit code {code}"
        why, error = Why.FAILED, Error("exit", words)
    return Outcome(
        why,
        exit_code=code,
        signal=ended.exit.signal,
        error=error,
        stdout=ended.stdout,
        stderr=ended.stderr,
    )
