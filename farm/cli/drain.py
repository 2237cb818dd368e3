"""`farm drain`: let all workers finish what they run, and end."""

import click

from farm import control, life, poll
from farm.cli.common import PROJECT_OPTION, Place, example, open_project
from farm.control import DRAIN, Control
from farm.project import Project
from farm.singleton import supervisors
from farm.words import plain

MOST_NAMED = 5  # of those that are waited for


@click.command(
    epilog=example(
        "farm drain && sudo reboot",
    ),
)
@PROJECT_OPTION
@click.pass_obj
def command(place: Place, project: str | None) -> None:
    """Let every worker of the project finish what it runs, and end.

    On all hosts, supervisors too. Returns when the last one has ended. Workers that
    are started afterwards work as usual.
    """
    there = open_project(place.find(project))
    control.give(there, DRAIN)
    left = _alive(there)
    if left:
        who = ", ".join(left[:MOST_NAMED]) + (", ..." if left[MOST_NAMED:] else "")
        said = f"waiting for {plain(who)} (Ctrl-C: they end all the same)"
        click.echo(said, err=True)
    poll.until(lambda: _drained(there))
    control.withdraw(there, DRAIN)
    click.echo("drained: nobody works here any more", err=True)


def _drained(project: Project) -> bool | None:
    if not _alive(project):
        return True
    if not Control(project).read().drain:
        # RACE: a supervisor, or another who drains, took it away before all had seen.
        control.give(project, DRAIN)
    return None


def _alive(project: Project) -> list[str]:
    """Living workers and supervisors."""
    return life.living(project) + [f"supervisor on {h}" for h in supervisors(project)]
