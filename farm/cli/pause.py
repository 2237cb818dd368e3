"""`farm pause`: start nothing new."""

import click

from farm import control
from farm.cli.common import PROJECT_OPTION, Place, chosen, example, open_project
from farm.cli.completion import complete_ids
from farm.pattern import literal
from farm.report import Survey
from farm.selection import Choice
from farm.states import State, Status
from farm.words import counted, plain


@click.command(
    epilog=example(
        "farm pause                        # everything",
        "farm pause 'tiles/*' nightly",
        "farm resume",
    ),
)
@PROJECT_OPTION
@click.argument("globs", nargs=-1, metavar="[ID|GLOB]...", shell_complete=complete_ids)
@click.pass_obj
def command(place: Place, project: str | None, globs: tuple[str, ...]) -> None:
    """Start nothing new, or nothing that matches; what runs goes on.

    It lasts until `farm resume`, also over the end of all workers. Tasks that are
    dropped later wait as well.
    """
    there = open_project(place.find(project))
    survey = Survey(there)
    ids = chosen(survey, Choice(globs))
    exactly = [literal(glob) if glob in survey.ids else glob for glob in globs]
    for name in [control.pause_name(glob) for glob in exactly or (None,)]:
        control.give(there, name)
    words = [survey.word(task_id) for task_id in ids]
    running = words.count(State.RUNNING)
    held = sum(word not in set(Status) for word in words) - running
    what = ", ".join(map(plain, globs)) or "everything"
    click.echo(
        f"paused {what}: {counted(held, 'task')} held back,"
        f" {running} that run go on; farm resume starts them again",
        err=True,
    )
