"""What the verbs share: which project and tasks are meant, settings, plain text."""

import functools
import os
import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from farm import duration, trust
from farm.cli.completion import complete_ids
from farm.config import Settings, load_settings
from farm.errors import NoProjectError, UsageError
from farm.listing import Listing
from farm.project import Project, find_project, is_usable
from farm.selection import WORDS, Choice, UnknownTaskError, choose, must_be
from farm.states import FAILURES
from farm.words import plain

if TYPE_CHECKING:  # a worker surveys nothing, and starts sooner without it
    from farm.report import Survey

Function = TypeVar("Function", bound=Callable[..., Any])

PROJECT_OPTION = click.option(
    "-C",
    "project",
    metavar="PROJECT",
    help="The project's folder  [default: the nearest one upwards]",
)
TRUST_OPTION = click.option(
    "--trust",
    "trusted",
    is_flag=True,
    help="Run it although other users own or can write it.",
)
JSON_OPTION = click.option(
    "--json", "as_json", is_flag=True, help="JSON instead of text."
)
ID_ARGUMENT = click.argument("task_id", metavar="ID", shell_complete=complete_ids)


def example(*lines: str) -> str:
    """The block that ends a command's help, lines as they are typed."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


class Seconds(click.ParamType[float]):
    """A duration: seconds, or `90s`, `15m`, `1h30m`."""

    name = "duration"

    def convert(self, value: object, _parameter: object, _context: object) -> float:
        """Seconds; UsageError in the words of `farm.duration`."""
        try:
            number = float(str(value))
        except ValueError:
            number = None
        try:
            return duration.seconds(value if number is None else number)
        except ValueError as error:
            raise UsageError(f"{value} is no duration: it {error}") from None


def about_project(function: Function) -> Function:
    """Let a command take the project as an argument, or with -C."""

    @functools.wraps(function)
    def with_project(
        *args: Any, project: str | None, named: str | None, **rest: Any
    ) -> Any:
        return function(*args, project=Place(named).named_once(project), **rest)

    argument = click.argument("named", required=False, metavar="[PROJECT]")
    return PROJECT_OPTION(argument(with_project))  # type: ignore[return-value]  # it takes `project` for two


def selects(function: Function) -> Function:
    """Let a command take ids, globs, --failed and --status, as `choice`."""

    @functools.wraps(function)
    def with_choice(
        *args: Any,
        patterns: tuple[str, ...],
        failed: bool,
        statuses: tuple[str, ...],
        **rest: Any,
    ) -> Any:
        words = frozenset(statuses) | (FAILURES if failed else frozenset())
        return function(*args, choice=Choice(patterns, words), **rest)

    for decorate in (
        click.option(
            "--status",
            "statuses",
            multiple=True,
            type=click.Choice(WORDS),
            metavar="S",
            help="Only those that are, or ended, so: ready, timed_out, ...",
        ),
        click.option(
            "--failed", is_flag=True, help="Only failed, timed_out, lost or invalid."
        ),
        click.argument(
            "patterns", nargs=-1, metavar="[ID|GLOB]...", shell_complete=complete_ids
        ),
    ):
        with_choice = decorate(with_choice)
    return with_choice  # type: ignore[return-value]  # it takes `choice` for three


def chosen(survey: "Survey", choice: Choice) -> list[str]:
    """The ids that a command means, at this moment; UnknownTaskError if one is not."""
    survey.look(time.time(), time.monotonic(), 0)
    refuse_archived(survey.project, choice, survey.ids)
    return choose(choice, survey.ids, survey.word)


def refuse_archived(project: Project, choice: Choice, known: Collection[str]) -> None:
    """UnknownTaskError, with the archive, for an id that is not here but lies there."""
    for pattern in choice.patterns:
        if pattern not in known and (said := archived_sentence(project, pattern)):
            raise UnknownTaskError(said)


def archived_sentence(project: Project, task_id: str) -> str:
    """Where an archived task lies, and how it comes back; "" if it is not archived."""
    if not os.path.isdir(project.archive):
        return ""
    from farm import shelf  # noqa: PLC0415 - hardly ever needed

    place = shelf.placed(project).get(task_id)
    if place is None:
        return ""
    file = project.relative(place.archive)
    return f"{task_id} is archived in {file}: farm restore {task_id} puts it back"


def is_here(project: Project, task_id: str) -> bool:
    """Whether a task file or a result of this id lies in `tasks/`."""
    paths = (project.task_path(task_id), project.result_path(task_id))
    there = is_usable(task_id) and any(map(os.path.lexists, paths))
    return there and project.lies_inside(task_id)


def one_task(project: Project, task_id: str) -> None:
    """UnknownTaskError, with the archive or the nearest name, if it is not here."""
    if is_here(project, task_id):
        return
    if sentence := archived_sentence(project, task_id):
        raise UnknownTaskError(sentence)
    listing = Listing(project)
    listing.refresh()
    must_be(task_id, listing.tasks() | listing.results())


def insist(choice: Choice, hint: str) -> None:
    """UsageError with a hint if nothing was chosen: "all" must be said."""
    if choice.is_everything:
        raise UsageError(f"say which tasks: {hint}")


class Place:
    """The project that `-C` named before the verb, if any."""

    def __init__(self, named: str | None) -> None:
        self.named = named

    def named_once(self, named: str | None) -> str | None:
        """The project that was named here or there; UsageError if both are."""
        if self.named is not None and named is not None:
            raise UsageError(
                f"the project is named twice, {self.named} and {named}: name it once"
            )
        return named if named is not None else self.named

    def find(self, named: str | None, start: str | None = None) -> str:
        """The folder that is meant; UsageError if it is named twice or is none.

        Where none is named, it is the nearest project from `start` upwards, by
        default from the current folder.
        """
        chosen = self.named_once(named)
        if chosen is None:
            return find_project(start or os.getcwd())
        if not os.path.isdir(chosen):
            raise NoProjectError(
                f"there is no folder {chosen}: make it with farm init, or name another"
            )
        return os.path.abspath(chosen)


def read_project(root: str) -> Project:
    """A project to look at: nothing is made."""
    project = Project(root)
    if not os.path.isdir(project.tasks):
        raise NoProjectError(
            f"{root} has no tasks/ folder: name another project, or start this one"
            f" with: farm supervise {root}"
        )
    project.check_inside()
    if whose := project.whose():
        click.echo(f"note: {plain(whose)}, not to you", err=True)
    return project


def open_project(root: str) -> Project:
    """A project to work in; a new one is made, and said what to drop where."""
    is_new = not os.path.isdir(f"{root}/tasks")
    project = Project.open(root)
    if is_new:
        click.echo(_welcome(project), err=True)
    return project


def open_to_run(root: str, *, trusted: bool) -> Project:
    """A project whose tasks will run here, after a check of whose it is.

    UsageError if its tasks could be a stranger's and neither the user nor the flag
    `--trust` allows it. The flag counts for the workers of this process, too.
    """
    if trusted:
        trust.allow(root)
    for warning in Project(root).check_trust():  # before a folder is made there
        click.echo(f"warning: {plain(warning)}", err=True)
    return open_project(root)


def _welcome(project: Project) -> str:
    """What to drop where, for a project that is new."""
    example = '{"run": "echo hello"}'
    return (
        f"Made {project.tasks}. Drop task files there, for example:\n"
        f"  echo '{example}' > {project.tasks}/hello.json\n"
        f"The result appears beside it, as hello.result.json."
    )


def settings_of(project: Project, flags: Mapping[str, object]) -> Settings:
    """farm.toml, then FARM_* variables, then flags."""
    return load_settings(project.settings, os.environ, flags)
