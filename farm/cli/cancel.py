"""`farm cancel`: take tasks back, those that run too."""

import time
from collections.abc import Iterable

import click

from farm import cancel, disk, poll
from farm.cancel import Step
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
    settings_of,
)
from farm.commit import Desk
from farm.errors import LedgerError
from farm.report import Survey
from farm.selection import Choice
from farm.states import State, Status
from farm.words import counted, plain


@click.command(
    epilog=example(
        "farm cancel build",
        "farm cancel 'tiles/*' --status ready",
        "farm cancel '**'                  # everything that has not ended",
    ),
)
@PROJECT_OPTION
@selects
@JSON_OPTION
@click.pass_obj
def command(place: Place, project: str | None, choice: Choice, *, as_json: bool) -> int:
    """Take tasks back: those that wait, and those that run.

    What runs gets TERM and, after the setting `grace`, KILL, with all of its process
    group. Returns when each has a result; prints the ids of the cancelled ones. Exit
    code 1 if one had ended already, or ended otherwise before it could be cancelled.
    """
    insist(choice, "an id, a glob, '**' for all, or --status S")
    there = open_project(place.find(project))
    desk = Desk(there, Holder.passing(), settings_of(there, {}))
    survey = Survey(there)
    ids = chosen(survey, choice)
    named = set(choice.patterns)
    work = _Work(desk, as_json=as_json)
    meant = [i for i in ids if i in named or survey.word(i) not in set(Status)]
    # RACE: when one that runs has ended so, workers skip whatever needs it.
    work.try_all(sorted(meant, key=lambda i: survey.word(i) == State.RUNNING))
    if work.pending:
        click.echo(
            f"{counted(len(work.pending), 'task')} still running: ended at the next"
            " heartbeat of whoever runs that (Ctrl-C does not take it back)",
            err=True,
        )
        poll.until(work.look)
    return work.report()


class _Work:
    """The tasks that are to be cancelled, and what became of each."""

    def __init__(self, desk: Desk, *, as_json: bool) -> None:
        self.pending: list[str] = []
        self._desk = desk
        self._as_json = as_json
        self._cancelled: list[str] = []
        self._missed: dict[str, str] = {}  # id -> how it ended, or that it is gone

    def try_all(self, ids: Iterable[str]) -> None:
        """One step for each; what only its worker can end stays `pending`."""
        self.pending = [task_id for task_id in list(ids) if not self._is_over(task_id)]

    def look(self) -> bool | None:
        """One more step for each that is left; True when none is."""
        self.try_all(self.pending)
        return None if self.pending else True

    def _is_over(self, task_id: str) -> bool:
        try:
            now = cancel.cancel(self._desk, task_id, time.time())
        except LedgerError as error:  # one odd file must not keep the others
            self._missed[task_id] = str(error)
            return True
        if now.step is Step.ORDERED:
            return False
        cancel.forget(self._desk, task_id)
        if now.step is Step.CANCELLED:
            self._cancelled.append(task_id)
            if not self._as_json:
                click.echo(plain(task_id))
        else:
            self._missed[task_id] = now.status or now.step.value
        return True

    def report(self) -> int:
        """Say what could not be cancelled; the exit code."""
        if self._as_json:
            facts = {"cancelled": self._cancelled, "missed": self._missed}
            click.echo(disk.encode(facts), nl=False)
        for task_id, how in self._missed.items():
            said = "its task file is gone" if how == Step.GONE.value else how
            click.echo(f"{plain(task_id)} is not cancelled: {plain(said)}", err=True)
        if not self._cancelled and not self._missed:
            click.echo("nothing to cancel: all of these have ended", err=True)
        return 1 if self._missed else 0
