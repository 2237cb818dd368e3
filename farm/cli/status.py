"""`farm status`: what is going on, and what needs attention."""

import time

import click
import msgspec

from farm.cli.common import PROJECT_ARGUMENT, Place, example, read_project
from farm.cli.screen import headline, progress_words
from farm.report import Report, age, survey
from farm.words import duration, plain

MOST_WAITING = 20  # waiting tasks listed; the rest is counted


@click.command(
    epilog=example(
        "farm status",
        "farm status ./project --json | jq .counts",
    ),
)
@PROJECT_ARGUMENT
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead.")
@click.pass_obj
def command(place: Place, project: str | None, *, as_json: bool) -> None:
    """Show what is ready, running, waiting, done and failed.

    Takes no lock and writes nothing.
    """
    report = survey(read_project(place.find(project)))
    if as_json:
        click.echo(msgspec.json.encode(report))
        return
    for line in describe(report, time.time()):
        click.echo(line)


def describe(report: Report, now: float) -> list[str]:
    """The report as lines, attention first; times relative to POSIX `now`."""
    lines = [f"{report.project}: {headline(report)}"]
    lines += _failures(report, now)
    lines += _unusable(report)
    lines += _running(report)
    lines += _waiting(report)
    lines += _workers(report)
    if not report.total:
        lines.append(f"no tasks yet: drop a task file into {report.project}/tasks")
    return lines


def _failures(report: Report, now: float) -> list[str]:
    lines = ["", "Needs attention"] if report.failures else []
    for failure in report.failures:
        ago = duration(age(failure.finished, now))
        word = failure.status.words
        lines.append(
            f"  {plain(failure.id)}  {word} {ago} ago: {plain(failure.reason)}"
        )
    return lines


def _unusable(report: Report) -> list[str]:
    lines = ["", "Cannot be tasks"] if report.unusable else []
    for name, why in sorted(report.unusable.items()):
        lines.append(f"  tasks/{plain(name)}: {plain(why)}")
    return lines


def _running(report: Report) -> list[str]:
    lines = ["", "Running"] if report.running else []
    for run in report.running:
        share = progress_words(run)
        lines.append(
            f"  {plain(run.id)}  {duration(run.elapsed_s)}, attempt {run.attempt},"
            f" on {run.worker}{share}"
        )
    return lines


def _waiting(report: Report) -> list[str]:
    lines = ["", "Waiting"] if report.waiting else []
    for waits in report.waiting[:MOST_WAITING]:
        until = f" (until {waits.until})" if waits.until else ""
        lines.append(f"  {plain(waits.id)}  {plain(waits.why)}{until}")
    more = len(report.waiting) - MOST_WAITING
    return [*lines, f"  and {more} more"] if more > 0 else lines


def _workers(report: Report) -> list[str]:
    lines = ["", "Workers"] if report.workers else []
    for worker in report.workers:
        task = f", works on {plain(worker.task)}" if worker.task else ""
        lines.append(
            f"  {worker.name}  {worker.health}, {worker.tasks_ended} tasks{task}"
        )
    if not report.workers:
        lines += ["", "No worker is running here: farm supervise, or farm worker"]
    return lines
