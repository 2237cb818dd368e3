"""`farm wait`: until tasks have ended."""

import time

import click

from farm import disk, poll
from farm.cli.common import (
    JSON_OPTION,
    PROJECT_OPTION,
    Place,
    Seconds,
    chosen,
    example,
    read_project,
    selects,
)
from farm.report import Survey
from farm.selection import Choice
from farm.states import Status
from farm.words import counted, plain

TIME_IS_UP = 124  # as timeout(1) says it


@click.command(
    short_help="Wait until tasks have ended.",
    epilog=example(
        "farm wait build test && ./deploy",
        "farm wait --timeout 1h            # all tasks there are",
    ),
)
@PROJECT_OPTION
@selects
@click.option(
    "--timeout", type=Seconds(), metavar="T", help="Give up after T, as 90s or 2h."
)
@JSON_OPTION
@click.pass_obj
def command(
    place: Place,
    project: str | None,
    choice: Choice,
    timeout: float | None,
    *,
    as_json: bool,
) -> int:
    """Wait until tasks have ended: those that are named, or all there are now.

    Exit code 0 if all have succeeded, 1 if some did not, 124 if the time was up
    before. What did not succeed is printed.
    """
    survey = Survey(read_project(place.find(project)))
    ids = chosen(survey, choice)

    def ended() -> bool | None:
        if _left(survey, ids):
            return None
        survey.recheck()  # some may have run again since they were seen to have ended
        return None if _left(survey, ids) else True

    in_time = poll.until(ended, timeout)
    words = {i: str(survey.word(i)) if i in survey.ids else "gone" for i in ids}
    return _report(words, in_time=bool(in_time), as_json=as_json)


def _left(survey: Survey, ids: list[str]) -> list[str]:
    """Those of these tasks that have not ended, at this moment."""
    survey.look(time.time(), time.monotonic(), 0)
    return [i for i in ids if i in survey.ids and survey.word(i) not in set(Status)]


def _report(words: dict[str, str], *, in_time: bool, as_json: bool) -> int:
    bad = {i: word for i, word in words.items() if word != Status.SUCCEEDED}
    if as_json:
        click.echo(disk.encode({"in_time": in_time, "tasks": words}), nl=False)
    else:
        for task_id, word in bad.items():
            click.echo(f"{plain(task_id)} {word.replace('_', ' ')}")
    good = len(words) - len(bad)
    click.echo(f"{good} of {counted(len(words), 'task')} succeeded", err=True)
    if not in_time:
        return TIME_IS_UP
    return 1 if bad else 0
