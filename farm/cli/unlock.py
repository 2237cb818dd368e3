"""`farm unlock`: who holds a task; free it if that one is dead."""

import time

import click
import msgspec

from farm import disk, unlock
from farm.claim import Holder
from farm.cli.common import (
    ID_ARGUMENT,
    JSON_OPTION,
    PROJECT_OPTION,
    Place,
    example,
    one_task,
    open_project,
)
from farm.words import plain


@click.command(
    short_help="Say who holds a task; free it if that one is dead.",
    epilog=example(
        "farm unlock build",
    ),
)
@PROJECT_OPTION
@ID_ARGUMENT
@JSON_OPTION
@click.pass_obj
def command(place: Place, project: str | None, task_id: str, *, as_json: bool) -> int:
    """Say who holds a task, and free it if that one is provably dead.

    Workers and supervisors do this by themselves; this is for a project where none
    runs. A lock is never taken from somebody alive. Exit code 1 if it is still held.
    """
    there = open_project(place.find(project))
    one_task(there, task_id)
    done = unlock.unlock(there, Holder.passing(), task_id, time.time())
    if as_json:
        facts = {"id": task_id, **msgspec.structs.asdict(done)}
        click.echo(disk.encode(facts), nl=False)
    else:
        click.echo(plain(f"{task_id}: {done.words}"))
    return 0 if done.free else 1
