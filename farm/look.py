"""A task file as it was read before anything was locked.

A look is a hint: `farm.claim` sees under the lock whether the bytes are others, and
refuses then. So a look may be as old as it likes.
"""

import msgspec

from farm.errors import TaskFileError
from farm.project import Project, Signature
from farm.result import Error
from farm.task import Task, parse_task

MOST_LETTERS = 40  #: of the first words of what a task does


class Look(msgspec.Struct, frozen=True):
    """What lay under a task's name: a task, or a fault that says why not."""

    id: str
    sha256: str | None  #: None if the bytes could not be read
    signature: Signature | None
    task: Task | None
    fault: TaskFileError | None = None
    settled: bool = False  #: as `TaskBytes` has it

    @property
    def priority(self) -> int:
        """Higher goes first."""
        return self.task.priority if self.task else 0


def read_look(project: Project, task_id: str) -> Look | None:
    """Read and check a task file; None if it is gone."""
    try:
        found = project.read_task(task_id)
    except FileNotFoundError:
        return None
    except TaskFileError as fault:
        return Look(task_id, None, project.task_signature(task_id), None, fault)
    try:
        task = parse_task(found.raw)
    except TaskFileError as fault:
        return Look(task_id, found.sha256, found.signature, None, fault)
    return Look(task_id, found.sha256, found.signature, task, settled=found.settled)


def gist(project: Project, task_id: str) -> str:
    """The first words of what a task does, for lists; "" if its file tells nothing."""
    look = read_look(project, task_id)
    return first_words(look.task) if look is not None and look.task is not None else ""


def first_words(task: Task) -> str:
    """The beginning of its command, its function or its prompt, on one line."""
    run = task.run if isinstance(task.run, str) else " ".join(task.run or ())
    text = run or task.call or task.prompt or task.prompt_file or ""
    line = " ".join(text[: 10 * MOST_LETTERS].split())
    return line if len(line) <= MOST_LETTERS else f"{line[: MOST_LETTERS - 3]}..."


def fault_error(
    fault: TaskFileError, where: str, files: dict[str, str] | None = None
) -> Error:
    """The error of an `invalid` result; `farm check` prints the same words.

    `where` is the file's path as people know it; `files` are the digests of
    other files that the verdict rests on.
    """
    return Error(
        "invalid",
        fault.located(where),
        line=fault.line or None,
        column=fault.column or None,
        files=files,
    )
