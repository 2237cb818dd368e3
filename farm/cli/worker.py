"""`farm worker`: one more worker, from any shell, container or host."""

import os
import sys
import time

import click

from farm.cli.common import (
    INTERRUPTED,
    Place,
    about_project,
    example,
    open_project,
    settings_of,
)
from farm.control import DRAIN
from farm.life import check_name
from farm.project import Project
from farm.words import plain
from farm.work import LoopEnd, work_stealing_loop
from farm.worker import Worker

UNWELL = 75  # the machine failed it three times in a row; see farm.supervisor


@click.command(
    epilog=example(
        "farm worker ./project",
        "farm worker /mnt/shared/project --until-done --name night-shift-1",
    ),
)
@about_project
@click.option("--until-done", is_flag=True, help="End when nothing is left to do.")
@click.option("--name", help="Its name  [default: host, process id, 4 hex digits]")
@click.option("--supervisor", type=int, hidden=True, help="Process id of its parent.")
@click.pass_obj
def command(
    place: Place,
    project: str | None,
    name: str | None,
    supervisor: int | None,
    *,
    until_done: bool,
) -> int:
    """Run tasks in this process, until stopped.

    One more worker, on demand: it needs no supervisor and may run on another
    host or in a container that mounts the folder. Ctrl-C once finishes what
    runs, twice gives it back. Exit codes are those of supervise.
    """
    if name is not None:
        check_name(name)
    there = open_project(place.find(project))
    settings = settings_of(there, {})
    warnings = there.check_trust()
    for warning in warnings if supervisor is None else ():
        click.echo(f"warning: {plain(warning)}", err=True)
    sys.dont_write_bytecode = True  # a .pyc cannot tell two edits in one second apart
    sys.path.insert(0, there.root)
    began = time.monotonic()
    with Worker.begin(there, settings, name=name, supervisor=supervisor) as worker:
        worker.say(f"worker {worker.life.name} works on {there.root}")
        end = work_stealing_loop(worker, until_done=until_done)
        worker.say(f"worker {worker.life.name} ends: {_reason(worker, end)}")
        environ = worker.secrets.back_into(os.environ)
    if end is LoopEnd.RELOAD and not worker.stop.soon:  # asked while hooks finished
        _start_afresh(there, environ, supervisor, until_done=until_done)
    if end is LoopEnd.UNWELL:
        return UNWELL
    if supervisor is not None:
        return 0  # anything else is a death to the supervisor
    if worker.stop.asked:
        return INTERRUPTED
    return _judged(there, time.monotonic() - began) if until_done else 0


def _reason(worker: Worker, end: LoopEnd) -> str:
    if end is LoopEnd.STOPPED and worker.stop.reason == DRAIN:
        return f"drained; remove .farm/control/{DRAIN} to let workers start again"
    return worker.stop.reason or end.value


def _judged(project: Project, seconds: float) -> int:
    """Say what came of it; the exit code."""
    from farm.cli.screen import summarize  # noqa: PLC0415 - only at the very end
    from farm.report import survey  # noqa: PLC0415 - the same

    report = survey(project)
    summarize(report, seconds)
    return 0 if report.all_succeeded else 1


def _start_afresh(
    project: Project,
    environ: dict[str, str],
    supervisor: int | None,
    *,
    until_done: bool,
) -> None:
    """Become a new worker in the same process; a given name was used up."""
    arguments = [sys.executable, "-P", "-m", "farm", "worker", project.root]
    if until_done:
        arguments.append("--until-done")
    if supervisor is not None:
        arguments += ["--supervisor", str(supervisor)]
    os.execve(sys.executable, arguments, environ)  # noqa: S606 - no shell is wanted
