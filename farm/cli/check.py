"""`farm check`: what is wrong with task files, without running them."""

import os

import click

from farm.cli.common import PROJECT_OPTION, Place, example, read_project
from farm.errors import TaskFileError, UsageError
from farm.listing import Listing
from farm.look import read_look
from farm.needs import Needs, circle_fault, circles
from farm.project import Project
from farm.words import plain


@click.command(
    epilog=example(
        "farm check",
        "farm check tasks/build.json tasks/tiles/0-0.json",
    ),
)
@PROJECT_OPTION
@click.argument("files", nargs=-1, metavar="[FILE...]")
@click.pass_obj
def command(place: Place, project: str | None, files: tuple[str, ...]) -> int:
    """Say what is wrong with task files, without running them.

    The words are those of the result that a worker would write. Without FILE,
    every task file of the project. Exit code 1 if anything is wrong.
    """
    start = os.path.dirname(os.path.abspath(files[0])) if files else os.getcwd()
    there = read_project(place.find(project, start))
    listing = Listing(there)
    listing.refresh()
    wanted = _wanted(there, files) if files else None
    faults = check(there, listing, wanted)
    for fault in faults:
        click.echo(plain(fault))
    count = len(wanted if wanted is not None else listing.tasks())
    if not faults:
        files_word = "file" if count == 1 else "files"
        click.echo(f"{count} task {files_word}, nothing wrong", err=True)
    return 1 if faults else 0


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


def check(project: Project, listing: Listing, wanted: set[str] | None) -> list[str]:
    """One sentence for each fault: in files, in names, in what needs what."""
    tasks, results = listing.tasks(), listing.results()
    found: dict[str, TaskFileError] = {}
    wanted_needs = {}
    for task_id in sorted(tasks):
        look = read_look(project, task_id)
        if look is not None and look.fault is not None:
            found[task_id] = look.fault
        elif look is not None:
            wanted_needs[task_id] = look.task.needs if look.task else ()
    needs = Needs(tasks, results, lambda _: None)
    for circle in circles(wanted_needs, needs):
        found |= dict.fromkeys(circle, circle_fault(circle))
    chosen = (
        found if wanted is None else {i: f for i, f in found.items() if i in wanted}
    )
    where = {i: project.relative(project.task_path(i)) for i in chosen}
    lines = [chosen[i].located(where[i]) for i in sorted(chosen)]
    if wanted is None:
        lines += [f"tasks/{n}: {why}" for n, why in sorted(listing.unusable().items())]
    return lines
