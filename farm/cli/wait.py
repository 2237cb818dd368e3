"""`farm wait`: until tasks have ended."""

import os
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
from farm.cli.hint import PATIENCE, Hint
from farm.errors import UsageError
from farm.inside import around
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
    before. What did not succeed is printed. Inside a task that task is left out, and
    what waits for it.
    """
    there = read_project(place.find(project))
    inside = around(there, os.environ)
    if inside in choice.patterns:
        raise UsageError(f"this runs inside {inside}, so it cannot wait for its end")
    survey = Survey(there, around=inside)
    ids = chosen(survey, choice)
    _refuse_behind(survey, inside, choice)
    own = os.environ.get("FARM_WORKER") if inside else None
    patience = PATIENCE if timeout is None else min(PATIENCE, timeout / 2)
    hint = Hint(survey, own, patience)

    def left() -> list[str]:
        report = survey.look(time.time(), time.monotonic(), 0)
        open_ids = [i for i in ids if i in survey.ids and _is_open(survey, i)]
        waited = [i for i in open_ids if i not in _behind(survey, inside)]
        if waited:
            hint.tell(report, time.monotonic(), waited)
        return waited

    def ended() -> bool | None:
        if left():
            return None
        survey.recheck()  # some may have run again since they were seen to have ended
        return None if left() else True

    in_time = poll.until(ended, timeout)
    beside = _behind(survey, inside) & set(ids)
    if beside:
        left_out = counted(len(beside), "task")
        click.echo(f"not waited for: {left_out} behind {plain(inside or '')}", err=True)
    told = [i for i in ids if i not in beside]
    words = {i: str(survey.word(i)) if i in survey.ids else "gone" for i in told}
    return _report(words, in_time=bool(in_time), as_json=as_json)


def _refuse_behind(survey: Survey, inside: str | None, choice: Choice) -> None:
    """UsageError for a task that is named, and waits for the one that we run in."""
    for task_id in _behind(survey, inside).intersection(choice.patterns):
        raise UsageError(
            f"this runs inside {inside}, for which {task_id} waits: neither would end"
        )


def _behind(survey: Survey, inside: str | None) -> set[str]:
    """What waits for the task inside which we run, as of the last look."""
    return survey.behind(inside) if inside else set()


def _is_open(survey: Survey, task_id: str) -> bool:
    return survey.word(task_id) not in set(Status)


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
