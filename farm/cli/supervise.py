"""`farm supervise`: start workers and keep them healthy."""

import os
import sys
import time

import click

from farm import shield
from farm.cli import INTERRUPTED
from farm.cli.common import (
    TRUST_OPTION,
    Place,
    about_project,
    example,
    open_to_run,
    settings_of,
)
from farm.cli.screen import make_screen, summarize
from farm.supervisor import Supervisor


@click.command(
    epilog=example(
        "farm supervise ./project",
        "farm supervise ./project -j 8 --until-done",
    ),
)
@about_project
@click.option(
    "-j",
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many workers  [default: usable CPUs; env: FARM_WORKERS]",
)
@click.option("--until-done", is_flag=True, help="End when nothing is left to do.")
@TRUST_OPTION
@click.pass_obj
def command(
    place: Place,
    project: str | None,
    workers: int | None,
    *,
    until_done: bool,
    trusted: bool,
) -> int:
    """Start workers and keep them healthy.

    Ctrl-C once finishes what runs, twice gives it back. With --until-done, exit
    code 0 means that every task in the folder has succeeded, 1 that some did not
    or wait for what nobody dropped.
    """
    there = open_to_run(place.find(project), trusted=trusted)
    shield.shut(os.environ)  # workers get what is in it in another way
    flags = {"workers": workers}
    settings = settings_of(there, flags)
    screen = make_screen()
    began = time.monotonic()
    supervisor = Supervisor(there, settings, screen, until_done=until_done, flags=flags)
    with screen:
        report = supervisor.run()
    summarize(report, time.monotonic() - began)
    sys.stdout.flush()
    if supervisor.stop.asked:
        return INTERRUPTED
    return 0 if report.all_succeeded or not until_done else 1
