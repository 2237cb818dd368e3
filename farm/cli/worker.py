"""`farm worker`: one more worker, from any shell, container or host."""

import click

from farm.cli import Order
from farm.cli.common import (
    TRUST_OPTION,
    Place,
    about_project,
    example,
    open_to_run,
)
from farm.cli.plain import work_in
from farm.life import check_name


@click.command(
    epilog=example(
        "farm worker ./project",
        "farm worker /mnt/shared/project --until-done --name night-shift-1",
    ),
)
@about_project
@click.option("--until-done", is_flag=True, help="End when nothing is left to do.")
@click.option("--name", help="Its name  [default: host, process id, 4 hex digits]")
@TRUST_OPTION
@click.option("--supervisor", type=int, hidden=True, help="Process id of its parent.")
@click.option("--secrets", type=int, hidden=True, help="Descriptor to read them from.")
@click.pass_obj
def command(
    place: Place,
    project: str | None,
    name: str | None,
    supervisor: int | None,
    secrets: int | None,
    *,
    until_done: bool,
    trusted: bool,
) -> int:
    """Run tasks in this process, until stopped.

    One more worker, on demand: it needs no supervisor and may run on another
    host or in a container that mounts the folder. Ctrl-C once finishes what
    runs, twice gives it back. Exit codes are those of supervise.
    """
    if name is not None:
        check_name(name)
    there = open_to_run(place.find(project), trusted=trusted)
    return work_in(there, Order(name, supervisor, until_done, secrets))
