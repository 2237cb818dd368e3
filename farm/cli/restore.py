"""`farm restore`: put archived tasks and their results back."""

import time

import click

from farm import archive, disk, pair, restore, shelf
from farm.claim import Holder
from farm.cli.common import (
    JSON_OPTION,
    PROJECT_OPTION,
    Place,
    example,
    insist,
    open_project,
)
from farm.pair import Moved
from farm.selection import Choice, choose
from farm.words import counted, plain


@click.command(
    short_help="Put archived tasks and their results back.",
    epilog=example(
        "farm restore build",
        "farm restore '**'                 # everything in archive/",
    ),
)
@PROJECT_OPTION
@click.argument("patterns", nargs=-1, metavar="[ID|GLOB]...")
@JSON_OPTION
@click.pass_obj
def command(
    place: Place, project: str | None, patterns: tuple[str, ...], *, as_json: bool
) -> int:
    """Put archived tasks and their results back into tasks/, byte by byte.

    They have ended, so nothing runs again. Of an id that was archived more than once
    the newest copy comes back. Prints the ids that were moved. Exit code 1 if one
    could not be, as tasks/ has that id already, or if an archive cannot be read.
    """
    choice = Choice(patterns)
    insist(choice, "an id, a glob, or farm restore '**' for all that is archived")
    there, holder = open_project(place.find(project)), Holder.passing()
    with pair.alone(there):
        _, unfinished = archive.finish(there, holder)
        unfinished += restore.finish(there, holder)
        copies, damaged = restore.catalogue(there)
        faults = unfinished + damaged
        for fault in faults:  # first of all: they tell why an id is unknown
            click.echo(plain(fault), err=True)
        ids = choose(choice, copies, lambda _: "")
        wanted = {task_id: copies[task_id] for task_id in ids}
        moved = restore.restore(there, holder, wanted, time.time())
        shelf.placed(there, writes=True)
        shelf.forget_removed(there)
    _report(moved, as_json=as_json)
    return 1 if faults or moved.left else 0


def _report(moved: Moved, *, as_json: bool) -> None:
    if as_json:
        facts = {"restored": moved.ids, "left": moved.left}
        click.echo(disk.encode(facts), nl=False)
    for task_id in moved.ids if not as_json else ():
        click.echo(plain(task_id))
    for task_id, why in moved.left.items():
        click.echo(plain(f"{task_id} stays in archive/: {why}"), err=True)
    click.echo(f"restored {counted(len(moved.ids), 'task')}", err=True)
