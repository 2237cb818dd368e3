"""`farm retry`: let tasks run again, with what was skipped because of them."""

import os
import time

import click

from farm import disk, poll, register, revive
from farm.claim import Holder
from farm.cli.common import (
    JSON_OPTION,
    PROJECT_OPTION,
    Place,
    chosen,
    example,
    insist,
    open_project,
    selects,
)
from farm.control import nudge
from farm.errors import LedgerError
from farm.look import read_look
from farm.needs import Needs
from farm.project import Project
from farm.report import Survey
from farm.result import Head
from farm.revive import Revival
from farm.selection import Choice
from farm.states import State, Status
from farm.words import counted, plain

PATIENCE = 2.0  # seconds; a passer-by who sweeps holds a lock for a moment

_DONE = (Revival.REVIVED, Revival.HURRIED)
_NOT_DONE = {
    Revival.BUSY: "somebody holds it; farm why {id} says who",
    Revival.CHANGED: "somebody else let it run again just now",
    Revival.GONE: "its task file is gone, so there is nothing to run",
}


@click.command(
    short_help="Run again what did not succeed.",
    epilog=example(
        "farm retry --failed",
        "farm retry build                  # by name also one that has succeeded",
        "farm retry 'tiles/*' --status timed_out",
    ),
)
@PROJECT_OPTION
@selects
@JSON_OPTION
@click.pass_obj
def command(place: Place, project: str | None, choice: Choice, *, as_json: bool) -> int:
    """Run tasks again that did not succeed, and what was skipped because of them.

    Their results move to .farm/logs/; earlier attempts no longer count. A task that
    waits for its next attempt need not wait any longer. What they need and lies in an
    archive is restored first. Returns when all are ready; prints their ids. Exit code 1 if one cannot run again.
    """
    insist(choice, "farm retry --failed, an id, or a glob")
    there = open_project(place.find(project))
    survey = Survey(there)
    wanted = [i for i in chosen(survey, choice) if _is_meant(i, choice, survey)]
    ids = _with_skipped(there, survey, wanted)
    holder = Holder.passing()
    _bring_needs(there, holder, ids, survey)
    seen = {task_id: register.counts(there, task_id) for task_id in ids}
    became = {}
    for task_id in ids:
        became[task_id] = _revive(there, holder, task_id, seen[task_id])
        if became[task_id] in _DONE and not as_json:
            click.echo(plain(task_id))
    if Revival.HURRIED in became.values():
        nudge(there)
    return _report(became, as_json=as_json)


def _is_meant(task_id: str, choice: Choice, survey: Survey) -> bool:
    """A glob means what did not succeed; a name or --status what it says."""
    if task_id in choice.patterns or choice.words:
        return True
    return survey.word(task_id) not in (Status.SUCCEEDED, State.READY, State.RUNNING)


def _with_skipped(project: Project, survey: Survey, wanted: list[str]) -> list[str]:
    skipped = {}
    for task_id in survey.ids:
        if survey.word(task_id) is Status.SKIPPED:
            look = read_look(project, task_id)
            skipped[task_id] = look.task.needs if look and look.task else ()
    needs = Needs(survey.ids, set(), lambda _: None)
    return revive.with_skipped(wanted, skipped, needs.expand)


def _bring_needs(
    project: Project, holder: Holder, ids: list[str], survey: Survey
) -> None:
    """Restore what these tasks need; BusyError or ArchiveError if that cannot be."""
    looks = [read_look(project, task_id) for task_id in ids]
    needs = {n for look in looks if look and look.task for n in look.task.needs}
    if not needs or not os.path.isdir(project.archive):
        return
    from farm import archive, pair, restore  # noqa: PLC0415 - hardly ever needed

    with pair.alone(project):
        archive.finish(project, holder)
        restore.finish(project, holder)
        now = time.time()
        back = restore.bring_needs(project, holder, needs, survey.ids, now)
    if back:
        tasks = counted(len(back), "task")
        click.echo(f"restored {tasks} from archive/ that these need", err=True)


def _revive(
    project: Project, holder: Holder, task_id: str, seen: Head | None
) -> Revival | str:
    """Let one task run again; whoever only passes by is waited for."""

    def attempt() -> Revival | None:
        now = revive.revive(project, holder, task_id, time.time(), seen)
        return None if now is Revival.BUSY else now

    try:
        return poll.until(attempt, PATIENCE) or Revival.BUSY
    except LedgerError as error:  # one odd file must not keep the others
        return str(error)


def _report(became: dict[str, Revival | str], *, as_json: bool) -> int:
    refused = {
        i: how if isinstance(how, str) else _NOT_DONE[how].format(id=i)
        for i, how in became.items()
        if isinstance(how, str) or how in _NOT_DONE
    }
    if as_json:
        again = [i for i, how in became.items() if how in _DONE]
        click.echo(disk.encode({"retried": again, "refused": refused}), nl=False)
    for task_id, why in refused.items():
        click.echo(f"{plain(task_id)} does not run again: {plain(why)}", err=True)
    if set(became.values()) <= {Revival.READY}:
        said = "nothing to retry: none of these has ended, or all have succeeded"
        click.echo(said, err=True)
    return 1 if refused else 0
