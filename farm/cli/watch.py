"""`farm watch`: one line for each change."""

import time

import click
import msgspec

from farm import poll
from farm.cli.common import (
    JSON_OPTION,
    PROJECT_OPTION,
    Place,
    chosen,
    example,
    read_project,
    selects,
)
from farm.cli.hint import Hint
from farm.cli.terminal import fit, width
from farm.pattern import literal, matches
from farm.report import Line, Survey
from farm.selection import Choice
from farm.states import State
from farm.words import plain

Mark = tuple[str, float | None]  # where a task is, and since when (POSIX seconds)


@click.command(
    short_help="Print a line for each change, until Ctrl-C.",
    epilog=example(
        "farm watch",
        "farm watch 'tiles/*' --failed",
        "farm watch --json | jq -r 'select(.word == \"failed\") | .id'",
    ),
)
@PROJECT_OPTION
@selects
@JSON_OPTION
@click.pass_obj
def command(
    place: Place, project: str | None, choice: Choice, *, as_json: bool
) -> None:
    """Print a line whenever a task is dropped, starts, waits or ends; until Ctrl-C.

    First comes what runs now. Of changes that follow within half a second only the
    last is seen. Takes no lock and writes nothing.
    """
    survey = Survey(read_project(place.find(project)))
    chosen(survey, choice)
    globs = [literal(p) if p in survey.ids else p for p in choice.patterns]
    seen: dict[str, Mark] | None = None

    hint = Hint(survey)

    def look() -> None:
        nonlocal seen
        hint.tell(survey.look(time.time(), time.monotonic(), 0), time.monotonic())
        now = {i: survey.mark(i) for i in survey.ids if _is_meant(i, globs)}
        for line in _changes(survey, seen, now):
            if not choice.words or line.word in choice.words:
                _print(line, as_json=as_json)
        seen = now

    poll.until(look)


def _is_meant(task_id: str, globs: list[str]) -> bool:
    """Also what is dropped later, if it matches."""
    return not globs or any(matches(glob, task_id) for glob in globs)


def _changes(
    survey: Survey,
    before: dict[str, Mark] | None,
    now: dict[str, Mark],
) -> list[Line]:
    """What is otherwise than before, in the order in which it became so."""
    if before is None:
        ids = [i for i, (word, _) in now.items() if word == State.RUNNING]
    else:
        ids = [i for i, mark in now.items() if before.get(i) != mark]
    lines = sorted(map(survey.line, ids), key=lambda line: line.at or 0.0)
    gone = sorted(before.keys() - now.keys()) if before else []
    return lines + [Line(i, "gone", "its task file was deleted", None) for i in gone]


def _print(line: Line, *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(line))
        return
    at = time.strftime("%H:%M:%S", time.localtime(line.at))
    row = f"{at}  {line.words:<10}  {plain(line.id)}  {plain(line.detail)}"
    row += f"  {plain(line.what)}" if line.what else ""
    click.echo(fit(row.rstrip(), width()))
