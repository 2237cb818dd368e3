"""`farm why`: exactly why a task does not run, or how it ended."""

import time

import click
import msgspec

from farm.cli.common import (
    ID_ARGUMENT,
    JSON_OPTION,
    PROJECT_OPTION,
    Place,
    example,
    one_task,
    read_project,
)
from farm.cli.terminal import styled
from farm.explain import explain
from farm.report import Survey
from farm.words import plain


@click.command(
    short_help="Say why a task does not run, or how it ended.",
    epilog=example(
        "farm why deploy",
    ),
)
@PROJECT_OPTION
@ID_ARGUMENT
@JSON_OPTION
@click.pass_obj
def command(place: Place, project: str | None, task_id: str, *, as_json: bool) -> None:
    """Say why a task does not run, who runs it and the proof, or how it ended.

    The first line answers; below it are the proof, whatever else is in the way, and
    what happens next. Takes no lock and writes nothing.
    """
    survey = Survey(read_project(place.find(project)))
    one_task(survey.project, task_id)
    survey.look(time.time(), time.monotonic())
    found = explain(survey, task_id, time.time())
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    word = found.status.words if found.status else found.state
    answer, *proof = map(plain, found.why)
    click.echo(f"{styled(plain(task_id), bold=True)} ({word}): {answer}")
    for sentence in proof:
        click.echo(f"  {sentence}")
    click.echo(f"  next: {plain(found.next)}")
