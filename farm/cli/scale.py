"""`farm scale`: how many workers a running supervisor keeps."""

import click

from farm import control, poll, process
from farm.cli.common import PROJECT_OPTION, Place, example, read_project
from farm.control import MOST_WORKERS, Control
from farm.errors import FarmError
from farm.project import Project
from farm.singleton import supervisors
from farm.words import counted


@click.command(
    epilog=example(
        "farm scale 8",
        "farm scale 0                      # rest; the supervisor stays",
        "farm scale 4 --host build-7",
    ),
)
@PROJECT_OPTION
@click.argument("count", metavar="N", type=click.IntRange(0, MOST_WORKERS))
@click.option(
    "--host", help="Whose supervisor  [default: this host's, or the only one]"
)
@click.pass_obj
def command(place: Place, project: str | None, count: int, host: str | None) -> None:
    """Let a running supervisor keep N workers from now on.

    New ones start at once; those that are too many finish what they run first.
    Returns when the supervisor has taken the order, on this host or another.
    """
    there = Project.open(read_project(place.find(project)).root)
    chosen = _host(there, host)
    name = control.scale_name(chosen)
    control.give(there, name, f"{count}\n")

    def taken() -> bool | None:
        if chosen not in supervisors(there):
            control.withdraw(there, name)
            raise FarmError(f"the supervisor on {chosen} ended before it could obey")
        return None if chosen in Control(there).read().scale else True

    poll.until(taken)
    click.echo(f"{chosen} keeps {counted(count, 'worker')} from now on", err=True)


def _host(project: Project, named: str | None) -> str:
    """Whose supervisor is meant; it must be alive."""
    there = supervisors(project)
    here = process.identify().host
    if not there:
        raise FarmError(
            "no supervisor runs here: start one with as many workers as you want,"
            f" farm supervise {project.root} -j N"
        )
    chosen = named or (here if here in there or len(there) > 1 else next(iter(there)))
    if chosen not in there:
        raise FarmError(
            f"no supervisor runs on {chosen}: name one with --host, of"
            f" {', '.join(there)}"
        )
    return chosen
