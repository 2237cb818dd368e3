"""What a runner gets: an open claim, and everything around it.

The environment of a child is built, not inherited blindly: what looks like a
secret is left out unless the task's `env_from` names it, and farm's own
variables are set afresh (`worker_variables`, `run_variables`). `Secrets.take`
moves such variables out of our own environment at start, so that callables,
which run in the worker itself, do not see them either; what a runner says is
cleaned of them (`Secrets.clean`).
"""

import os
from collections.abc import Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING

import msgspec

from farm import disk, process, shield
from farm.called import Called
from farm.capture import Capture
from farm.claim import Claim
from farm.config import PROMPTS_IDLE, Settings
from farm.errors import MACHINE, TaskFileError
from farm.guard import Limits, Quiet
from farm.keys import in_files
from farm.process import Mark
from farm.process_state import ProcessState
from farm.project import Project
from farm.result import Asked, Error, Outcome
from farm.stop import Stop

if TYPE_CHECKING:
    from farm.keyring import Keyring
    from farm.redact import Redactor

MOST_PROMPT = 10 << 20  #: bytes; agents' command lines take no more on stdin
_PATIENCE = 1.0  # seconds between two tries to end what does not end


class Scratch(msgspec.Struct, frozen=True):
    """Files of this worker that its tasks write, one task after the other."""

    needs: str  #: FARM_NEEDS: JSON, id -> path of the result
    progress: str  #: FARM_PROGRESS: last line is `0.61 message`


class Secrets:
    """The secret-looking variables of our own environment; has no repr of them.

    A variable that ends in `_FILE` holds a path, which is no secret; an API key that is
    `in_files` is one, by the name of that variable.
    """

    def __init__(
        self, taken: Mapping[str, str], keys: Mapping[str, str] | None = None
    ) -> None:
        self._taken = dict(taken)
        self._secret = {n: v for n, v in taken.items() if not n.endswith("_FILE")}
        self._secret |= keys or {}
        #: takes all of them out of what is written; None if there are none
        self.redactor = _redactor(self._secret.values()) if self._secret else None

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> "Secrets":
        """Move what looks like a secret out of `environ`.

        ConfigError if a file that must hold a key cannot be used.
        """
        names = shield.secret_names(environ)
        keys = in_files(environ)
        return cls({name: environ.pop(name) for name in names}, keys)

    def back_into(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The environment as it was, for a worker that starts afresh."""
        return {**environ, **self._taken}

    @property
    def all(self) -> dict[str, str]:
        """Name and value of all, for a worker that starts afresh."""
        return self._taken.copy()

    def withheld(self, names: Iterable[str]) -> tuple[str, ...]:
        """Names of those that a task does not get which takes over these, in order."""
        return tuple(sorted(self._taken.keys() - set(names)))

    def given(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those that variables with these names hold, or lead to."""
        return tuple(self._secret[name] for name in names if name in self._secret)

    def clean_text(self, text: str) -> str:
        """A text without any of them."""
        return self.redactor.clean_text(text) if self.redactor else text

    def clean(self, outcome: Outcome) -> Outcome:
        """What a runner says, without any of them."""
        if self.redactor is None:
            return outcome
        value, text, error = outcome.value, outcome.text, outcome.error
        return msgspec.structs.replace(
            outcome,
            value=value and msgspec.Raw(self.redactor.clean_json(bytes(value))),
            text=text and self.clean_text(text),
            error=error and self._clean_error(error),
            asked=outcome.asked and self._clean_asked(outcome.asked),
        )

    def _clean_asked(self, asked: Asked) -> Asked:
        said = msgspec.structs.asdict(asked).items()
        return Asked(**{name: text and self.clean_text(text) for name, text in said})

    def _clean_error(self, error: Error) -> Error:
        return msgspec.structs.replace(
            error,
            message=self.clean_text(error.message),
            type=error.type and self.clean_text(error.type),
            traceback=error.traceback and self.clean_text(error.traceback),
        )

    def get(self, name: str, environ: Mapping[str, str]) -> str | None:
        """A variable as it was when we started."""
        return self._taken.get(name, environ.get(name))


def _redactor(secrets: Iterable[str]) -> "Redactor | None":
    from farm.redact import Redactor  # noqa: PLC0415 - most workers have no secrets

    return Redactor(secrets) or None


class Job(msgspec.Struct, frozen=True):
    """One run: the claim, where, by which settings, and how it may be stopped."""

    claim: Claim
    project: Project
    settings: Settings
    environ: Mapping[str, str]  #: of the worker and of its callables, without secrets
    secrets: Secrets
    scratch: Scratch
    stop: Stop
    capture: Capture
    state: ProcessState
    worker: str
    quiet: Quiet  #: whether it shows signs of work, for people
    ring: "Keyring | None" = None  #: of a task that may need a key

    @property
    def keys(self) -> "Keyring":
        """The ring of a task that may need a key."""
        assert self.ring is not None, "who may need one has it"  # noqa: S101 - for mypy
        return self.ring

    @property
    def most_output(self) -> int:
        """How many bytes this attempt may print."""
        return self.settings.most_output(self.claim.task.max_output)

    def idle_timeout(self, of_agent: float | None = None) -> float | None:
        """For how long it may show no sign of work; None for as long as it likes."""
        usual = PROMPTS_IDLE if self.claim.task.kind == "prompt" else None
        task, settings = self.claim.task.idle_timeout, self.settings.idle_timeout
        said = (one for one in (task, of_agent, settings, usual) if one is not None)
        return next(said, None) or None

    def limits(self, of_agent: float | None = None) -> Limits:
        """What this attempt may do while it runs."""
        idle = self.idle_timeout(of_agent)
        return Limits(self.most_output, idle, self.settings.heartbeat)

    def as_called(self) -> Called:
        """What the heart must know of a callable."""
        token = self.claim.opened.token
        return Called(token, self.limits(), self.scratch.progress)

    @property
    def cancelled(self) -> bool:
        """Whether this very attempt is to end."""
        return self.claim.opened.token in self.stop.cancelled

    def log(self, suffix: str) -> str:
        """The path of this attempt's log: suffix is out or err."""
        return self.project.log_path(self.claim.id, self.claim.opened.attempt, suffix)


def drained(job: Job) -> Error:
    """What an attempt says that its worker ended to stop at once."""
    message = f"ended because its worker was told to stop ({job.stop.reason})"
    return Error("drained", message)


def end_everything(job: Job) -> None:
    """End all that is left of an attempt, and wait until nothing is.

    Commands carry its token; what a callable forked has no environment of its own
    but inherited our lock. Something that cannot be killed (an uninterruptible
    wait) is waited for, with the lock held: nobody may take the task over.
    """
    opened, ledger = job.claim.opened, job.claim.hold.ledger
    mark = Mark(opened.token, (*ledger.inode, os.getpid()))
    while not process.end_marked(mark):
        job.stop.bell.wait(_PATIENCE)


def worker_variables(project: Project, worker: str, scratch: Scratch) -> dict[str, str]:
    """Farm's own variables that are the same for every run of a worker."""
    return {
        "FARM_WORKER": worker,
        "FARM_PROJECT": project.root,
        "FARM_NEEDS": scratch.needs,
        "FARM_PROGRESS": scratch.progress,
    }


def environ_for(project: Project, worker: str, scratch: Scratch) -> dict[str, str]:
    """Our own environment, as every callable of this worker is to find it from now on."""
    os.environ.update(worker_variables(project, worker, scratch))
    return os.environ.copy()


def run_variables(job: Job) -> dict[str, str]:
    """Farm's own variables of one run, beside those of its worker."""
    task_id, opened = job.claim.id, job.claim.opened
    return {
        "FARM_TASK_ID": task_id,
        "FARM_TASK_FILE": job.project.task_path(task_id),
        "FARM_ATTEMPT": str(opened.attempt),
        "FARM_TOKEN": opened.token,
    }


def task_variables(job: Job) -> dict[str, str]:
    """What the task adds: `env`, and `env_from` as it was when farm started."""
    task = job.claim.task
    values = dict(task.env)
    for name in task.env_from:
        value = job.secrets.get(name, job.environ)
        if value is None:
            raise TaskFileError(
                f"`env_from` names {name}, which is not set where this worker was"
                " started: set it there, or take it out of the task"
            )
        values[name] = value
    return values


def environment(job: Job) -> dict[str, str]:
    """The whole environment of a command."""
    ours = {n: v for n, v in job.environ.items() if not n.startswith("FARM_")}
    of_worker = worker_variables(job.project, job.worker, job.scratch)
    return ours | task_variables(job) | of_worker | run_variables(job)


def working_folder(job: Job) -> str:
    """Where the task runs: the project, or `cwd` below it, links followed."""
    cwd = job.claim.task.cwd
    if cwd is None:
        return job.project.root
    path = _inside(job, "cwd", cwd)
    if not os.path.isdir(path):
        raise TaskFileError(f"`cwd` {cwd} is no folder: make it, or correct the task")
    return path


def prompt_of(job: Job) -> str:
    """What an agent is asked: `prompt`, or what `prompt_file` holds now."""
    task = job.claim.task
    if task.prompt_file is None:
        return task.prompt or ""
    try:
        raw = _read_prompt(_inside(job, "prompt_file", task.prompt_file))
        text = raw.decode()
    except OSError as error:
        if error.errno in MACHINE:
            raise
        fault = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        fault = "is not UTF-8: save it as such"
    else:
        if text.strip() and len(raw) <= MOST_PROMPT:
            return text
        too_long = f"has more than {MOST_PROMPT >> 20} MiB: shorten it"
        fault = too_long if text.strip() else "is empty: fill it"
    raise TaskFileError(f"`prompt_file` {task.prompt_file} {fault}")


def _read_prompt(path: str) -> bytes:
    """All of a regular file, or as much as is already too much."""
    with disk.open_file(path) as file:
        return file.read(MOST_PROMPT + 1)


def _inside(job: Job, key: str, name: str) -> str:
    """A path below the project, links followed."""
    real = os.path.realpath(job.project.root)
    path = os.path.realpath(f"{job.project.root}/{name}")
    if path != real and not path.startswith(f"{real}/"):
        raise TaskFileError(f"`{key}` {name} leads out of the project, to {path}")
    return path
