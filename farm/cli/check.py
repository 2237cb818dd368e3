"""`farm check`: what is wrong with task files, without running them."""

import os

import click
import msgspec

from farm.cli.common import JSON_OPTION, PROJECT_OPTION, Place, example, read_project
from farm.config import Settings, load_settings
from farm.errors import ConfigError, TaskFileError, UsageError
from farm.listing import Listing
from farm.locate import value_place
from farm.look import read_look
from farm.needs import Needs, circle_fault, circles
from farm.project import Project
from farm.task import Task
from farm.words import plain


@click.command(
    epilog=example(
        "farm check",
        "farm check tasks/build.json tasks/tiles/0-0.json",
    ),
)
@PROJECT_OPTION
@click.argument("files", nargs=-1, metavar="[FILE...]")
@JSON_OPTION
@click.pass_obj
def command(
    place: Place, project: str | None, files: tuple[str, ...], *, as_json: bool
) -> int:
    """Say what is wrong with task files, without running them.

    The words are those of the result that a worker would write; prompts that nobody
    answers are said, too. Without FILE, every task file of the project. Exit code 1 if
    anything is wrong.
    """
    start = os.path.dirname(os.path.abspath(files[0])) if files else os.getcwd()
    there = read_project(place.find(project, start))
    refused = _refused(there)
    listing = Listing(there)
    listing.refresh()
    wanted = _wanted(there, files) if files else None
    faults = check(there, listing, wanted)
    if as_json:
        click.echo(msgspec.json.encode(faults))
    for fault in () if as_json else faults:
        click.echo(plain(fault.sentence))
    count = len(wanted if wanted is not None else listing.tasks())
    if not faults and not refused:
        files_word = "file" if count == 1 else "files"
        click.echo(f"{count} task {files_word}, nothing wrong", err=True)
    return 1 if faults or refused else 0


def _refused(project: Project) -> bool:
    """Say who else could make the project run a program; whether a worker refuses it."""
    try:
        warnings = project.check_trust()
    except UsageError as refusal:
        click.echo(f"no worker runs this project: {plain(str(refusal))}", err=True)
        return True
    for warning in warnings:
        click.echo(f"warning: {plain(warning)}", err=True)
    return False


def _wanted(project: Project, files: tuple[str, ...]) -> set[str]:
    wanted = set()
    for file in files:
        task_id = project.task_id(file)
        if task_id is None:
            raise UsageError(
                f"{file} is no task file of {project.root}: task files lie in"
                f" {project.tasks} and end in .json"
            )
        if not os.path.lexists(file):
            raise UsageError(f"there is no file {file}")
        wanted.add(task_id)
    return wanted


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with one file; line and column count from 1, 0 for no place."""

    file: str  #: relative to the project
    line: int
    column: int
    message: str
    sentence: str  #: all of it, as a result says it


def _fault(where: str, error: TaskFileError) -> Fault:
    said = error.located(where)
    return Fault(where, error.line, error.column, error.message, said)


def _without_agent(
    project: Project, settings: Settings, task_id: str, task: Task
) -> TaskFileError | None:
    """What is wrong with a prompt that nobody answers."""
    if task.kind != "prompt":
        return None
    try:
        settings.agent(task.agent)
    except ConfigError as error:
        text = project.read_task(task_id).raw.decode()
        return TaskFileError(str(error), *value_place(text, ("agent",)))
    return None


def check(project: Project, listing: Listing, wanted: set[str] | None) -> list[Fault]:
    """Every fault: in files, in names, in what needs what."""
    tasks, results = listing.tasks(), listing.results()
    settings = load_settings(project.settings, os.environ, {})
    found: dict[str, TaskFileError] = {}
    wanted_needs = {}
    for task_id in sorted(tasks):
        look = read_look(project, task_id)
        if look is not None and look.fault is not None:
            found[task_id] = look.fault
        elif look is not None and look.task is not None:
            wanted_needs[task_id] = look.task.needs
            if (
                fault := _without_agent(project, settings, task_id, look.task)
            ) is not None:
                found[task_id] = fault
    needs = Needs(tasks, results, lambda _: None)
    for circle in circles(wanted_needs, needs):
        found |= dict.fromkeys(circle, circle_fault(circle))
    chosen = (
        found if wanted is None else {i: f for i, f in found.items() if i in wanted}
    )
    where = {i: project.relative(project.task_path(i)) for i in chosen}
    faults = [_fault(where[i], chosen[i]) for i in sorted(chosen)]
    if wanted is None:
        names = sorted(listing.unusable().items())
        faults += [_fault(f"tasks/{n}", TaskFileError(why)) for n, why in names]
    return faults
