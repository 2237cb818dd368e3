"""`farm unlock`: who holds a task; free it if that one is dead."""

import time

import click

from farm import unlock
from farm.claim import Holder
from farm.cli.common import (
    ID_ARGUMENT,
    PROJECT_OPTION,
    Place,
    chosen,
    example,
    open_project,
)
from farm.report import Survey
from farm.selection import Choice
from farm.words import plain


@click.command(
    epilog=example(
        "farm unlock build",
    ),
)
@PROJECT_OPTION
@ID_ARGUMENT
@click.pass_obj
def command(place: Place, project: str | None, task_id: str) -> int:
    """Say who holds a task, and free it if that one is provably dead.

    Workers and supervisors do this by themselves; this is for a project where none
    runs. A lock is never taken from somebody alive. Exit code 1 if it is still held.
    """
    there = open_project(place.find(project))
    survey = Survey(there)
    chosen(survey, Choice((task_id,)))
    done = unlock.unlock(there, Holder.passing(), task_id, time.time())
    click.echo(plain(f"{task_id}: {done.words}"))
    return 0 if done.free else 1
