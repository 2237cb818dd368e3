"""`farm supervise`: start workers and keep them healthy."""

import os
import sys
import time

import click

from farm.cli.common import PROJECT_ARGUMENT, Place, example, settings_of
from farm.cli.screen import make_screen, summarize
from farm.config import usable_cpus
from farm.project import Project, check_trust
from farm.supervisor import Supervisor

INTERRUPTED = 130


@click.command(
    epilog=example(
        "farm supervise ./project",
        "farm supervise ./project -j 8 --until-done",
    ),
)
@PROJECT_ARGUMENT
@click.option(
    "-j",
    "--workers",
    type=click.IntRange(min=1),
    help="How many workers  [default: usable CPUs; env: FARM_WORKERS]",
)
@click.option("--until-done", is_flag=True, help="End when nothing is left to do.")
@click.pass_obj
def command(
    place: Place, project: str | None, workers: int | None, *, until_done: bool
) -> int:
    """Start workers and keep them healthy.

    Ctrl-C once finishes what runs, twice gives it back. With --until-done, exit
    code 0 means that every task in the folder has succeeded, 1 that some did not
    or wait for what nobody dropped.
    """
    root = place.find(project)
    is_new = not os.path.isdir(os.path.join(root, "tasks"))
    there = Project.open(root)
    settings = settings_of(there, {"workers": workers})
    check_trust(there, trust=settings.trust)
    if is_new:
        click.echo(welcome(there), err=True)
    screen = make_screen(there)
    began = time.monotonic()
    supervisor = Supervisor(
        there, settings, screen, workers=settings.workers or usable_cpus()
    )
    with screen:
        report = supervisor.run(until_done=until_done)
    summarize(report, time.monotonic() - began)
    sys.stdout.flush()
    if supervisor.stop.reason.startswith("SIG"):
        return INTERRUPTED
    return 0 if report.all_succeeded or not until_done else 1


def welcome(project: Project) -> str:
    """What to drop where, for a project that is new."""
    example = '{"run": "echo hello"}'
    return (
        f"Made {project.tasks}. Drop task files there, for example:\n"
        f"  echo '{example}' > {project.tasks}/hello.json\n"
        f"The result appears beside it, as hello.result.json."
    )
