"""Run a command: a `run` task.

A string goes to `sh -c`, a list is executed as it is (`farm.command`). It has
succeeded if it ended by itself with one of the task's `ok_exit_codes`. With
`credentials` it gets one key, under its usual names; how that fares nobody learns.
"""

import os

from farm import keys, program
from farm.command import Ended, Plan, execute, last_line, not_started
from farm.errors import ConfigError, TaskFileError
from farm.job import Job, environment, working_folder
from farm.keys import Key
from farm.result import Error, Outcome
from farm.states import Why


def run(job: Job) -> Outcome:
    """Run the command of a claimed task to its end."""
    command = job.claim.task.run
    # After "--" the shell takes no text for an option, also if it begins with a dash.
    shell = ["/bin/sh", "-c", "--"]
    argv = [*shell, command] if isinstance(command, str) else command or []
    try:
        env, folder = environment(job), working_folder(job)
        secrets = job.secrets.given(job.claim.task.env_from)
        if job.claim.task.credentials is not None:
            key = _key(job, job.claim.task.credentials)
            if isinstance(key, Outcome):
                return key
            env = keys.without(env, key.provider) | keys.variables(key)
            secrets = (*secrets, key.secret)
        plan = Plan(argv, env, folder, secrets=secrets, idle=job.idle_timeout())
        ended = execute(job, plan)
    except (TaskFileError, ConfigError) as fault:
        return Outcome(Why.FAILED, error=Error("environment", str(fault)))
    except (OSError, ValueError) as error:
        return not_started(job, "sh" if isinstance(command, str) else argv[0], error)
    return _outcome(job, plan, ended)


def _key(job: Job, provider: str) -> Key | Outcome:
    """A key whose turn has come; or why there is none in this attempt."""
    from farm.scopes import Want  # noqa: PLC0415 - most commands need no key
    from farm.turns import take  # noqa: PLC0415 - as above

    turn = take(job, Want(provider, tells=False))
    return turn if isinstance(turn, Outcome) else turn.key


def _outcome(job: Job, plan: Plan, ended: Ended) -> Outcome:
    code, why, error = ended.exit.code, ended.why, ended.error
    if error is None and code not in job.claim.task.ok_exit_codes:
        said = _fault(job, plan, code) or last_line(ended.stderr)
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


def _fault(job: Job, plan: Plan, code: int | None) -> str | None:
    """What is wrong with the program that was not found; None if nothing is known."""
    if code not in program.NOT_FOUND:
        return None
    command = job.claim.task.run
    name = program.first_word(command) if isinstance(command, str) else plan.argv[0]
    return program.why_not_found(name, plan.cwd, plan.env.get("PATH", os.defpath))
