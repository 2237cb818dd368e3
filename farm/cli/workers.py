"""`farm workers`: who works here."""

import time

import click
import msgspec

from farm.cli.common import (
    JSON_OPTION,
    PROJECT_OPTION,
    Place,
    example,
    read_project,
)
from farm.cli.terminal import fit, table, width
from farm.crew import SupervisorView, WorkerView, crew
from farm.words import duration, plain


@click.command(
    short_help="Show who works here, on what, and how well.",
    epilog=example(
        "farm workers",
        "farm workers --json | jq -r '.workers[].host'",
    ),
)
@PROJECT_OPTION
@JSON_OPTION
@click.pass_obj
def command(place: Place, project: str | None, *, as_json: bool) -> None:
    """Show who works on this project, on what, and how well: all hosts.

    Takes no lock and writes nothing.
    """
    now = time.time()
    here = crew(read_project(place.find(project)), now)
    if as_json:
        click.echo(msgspec.json.encode(here))
        return
    for line in describe(here.workers, here.supervisors, now):
        click.echo(fit(line, width()))
    if not here.workers:
        click.echo(
            "no worker: start some with farm supervise, or farm worker", err=True
        )


def describe(
    workers: list[WorkerView], supervisors: list[SupervisorView], now: float
) -> list[str]:
    """One line for each, with a heading; nothing if there is nobody."""
    rows = [("NAME", "HOST", "PID", "UP", "ENDED", "HEALTH", "TASK")] if workers else []
    for worker in workers:
        task = plain(worker.task) if worker.task else "idle" if worker.alive else ""
        task += f" and {worker.others} more" if worker.others else ""
        task += f"  {plain(worker.what)}" if worker.what else ""
        rows.append(
            (
                plain(worker.name),
                plain(worker.host),
                str(worker.pid),
                duration(max(0.0, now - worker.started)),
                str(worker.tasks_ended),
                plain(worker.health),
                task,
            )
        )
    kept = [plain(f"supervisor on {s.host}, process {s.pid}") for s in supervisors]
    return table(rows) + kept if rows else kept
