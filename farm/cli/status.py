"""`farm status`: what is going on, and what needs attention."""

import gc
import os
import time
from collections.abc import Iterator, Sequence
from itertools import islice

import click
import msgspec

from farm import journal
from farm.cli.common import (
    JSON_OPTION,
    Place,
    about_project,
    chosen,
    example,
    read_project,
)
from farm.cli.terminal import fit, styled, table, width
from farm.config import load_settings
from farm.crew import Running
from farm.errors import ConfigError
from farm.project import Project
from farm.report import OPEN_STATES, Report, Survey, age
from farm.result import posix
from farm.selection import WORDS, Choice
from farm.skipped import MOST_FOLLOWED, Cause, Causes, sentence
from farm.states import FAILURES, State, Status
from farm.words import about, counted, duration, moment, plain

MOST_ROWS = 10  # of each section; the rest is counted
MOVING = (
    "a farm archive or farm restore is under way, or was killed: the next worker, or the"
    " next of them, completes it"
)
MOST_READ = 1_000  # tasks of a longer list are not read, only listed
BAR = 10  # columns of a progress bar
Skipped = tuple[Cause, list[str]]  # a cause, and what was skipped because of it


@click.command(
    short_help="Show what needs attention, what runs and what waits.",
    epilog=example(
        "farm status",
        "farm status --failed",
        "farm status ./project --json | jq .counts",
    ),
)
@about_project
@click.option(
    "--failed", is_flag=True, help="List failed, timed_out, lost and invalid."
)
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(WORDS),
    metavar="S",
    help="List those that are, or ended, so: ready, timed_out, ...",
)
@JSON_OPTION
@click.pass_obj
def command(
    place: Place,
    project: str | None,
    statuses: tuple[str, ...],
    *,
    failed: bool,
    as_json: bool,
) -> None:
    """Show what needs attention, what runs, what waits and why, and what is done.

    With --failed or --status S a line for each such task instead. Takes no lock and
    writes nothing.
    """
    gc.disable()  # a million names are no garbage, and this process ends soon
    click.get_current_context().call_on_close(gc.enable)
    words = frozenset(statuses) | (FAILURES if failed else frozenset())
    glance = words.isdisjoint(OPEN_STATES)  # counts say what was not read, lists not
    survey = Survey(read_project(place.find(project)), glance=glance)
    if words:
        _list(survey, words, as_json=as_json)
        return
    now = time.time()
    report = survey.look(now, time.monotonic(), None if as_json else MOST_ROWS)
    if as_json:
        ever = journal.totals(survey.project)
        facts = {
            **msgspec.structs.asdict(report),
            "left_s": report.left_s,
            "ever": ever,
        }
        click.echo(msgspec.json.encode(facts))
        return
    columns = width()
    lines = describe(report, now, _skipped(survey))
    lines[2:2] = _wrong_settings(survey.project)
    for line in lines:
        shown = fit(line, columns)
        click.echo(styled(shown, bold=True) if line and line[0] != " " else shown)


def _list(survey: Survey, words: frozenset[str], *, as_json: bool) -> None:
    ids = chosen(survey, Choice((), words))
    few = len(ids) <= MOST_READ
    lines = [survey.line(task_id, what=few) for task_id in ids]
    if as_json:
        click.echo(msgspec.json.encode(lines))
        return
    now = time.time()
    rows = [
        (plain(n.id), n.words, _when(n.at, now), plain(n.detail), plain(n.what))
        for n in lines
    ]
    for row in table(rows):
        click.echo(fit(row, width()))


def _wrong_settings(project: Project) -> list[str]:
    """What is wrong with farm.toml, which nobody follows then."""
    try:
        load_settings(project.settings, os.environ, {})
    except ConfigError as error:
        said = plain(str(error))
        return [f"  {said}", "  what runs keeps the settings from before"]
    return []


def _skipped(survey: Survey) -> Sequence[Skipped]:
    """What was skipped, by what it was skipped for; of very many only some."""
    ids = (i for i, known in survey.ends.items() if known.status is Status.SKIPPED)
    some = list(islice(ids, MOST_FOLLOWED))
    return Causes(survey.project, survey.ids, survey.word).groups(some) if some else ()


def _when(at: float | None, now: float) -> str:
    return moment(at, now) if at is not None else ""


def describe(report: Report, now: float, skipped: Sequence[Skipped] = ()) -> list[str]:
    """The report as lines, attention first; headings do not begin with a space."""
    lines = [plain(report.project), f"  {headline(report)}"]
    if not report.total:
        folder = plain(f"{report.project}/tasks")
        lines.append(f"  no tasks yet: drop a task file into {folder}")
    if not any(worker.alive for worker in report.workers):
        lines.append("  no worker is running here: farm supervise, or farm worker")
    if report.moving:
        lines.append(f"  {MOVING}")
    lines += _failures(report, now)
    rows = [(sentence(cause, ids),) for cause, ids in skipped[:MOST_ROWS]]
    lines += _section("Skipped", rows, len(skipped) - len(rows))
    lines += _unusable(report)
    lines += _running(report)
    lines += _waiting(report, now)
    return [*lines, *_unwell(report)]


def headline(report: Report) -> str:
    """`1 of 3 workers busy, 42 queued (6 waiting), 118 done, 2 failed, 14 min left`."""
    counts = report.counts
    alive = [worker for worker in report.workers if worker.alive]
    busy = sum(worker.task is not None for worker in alive)
    queued = counts[State.READY] + counts[State.WAITING]
    parts = [f"{busy} of {counted(len(alive), 'worker')} busy"] if alive else []
    parts.append(f"{queued} queued")
    told = (counts[State.WAITING], "waiting"), (report.unread, "not looked into")
    if said := ", ".join(f"{count} {words}" for count, words in told if count):
        parts[-1] += f" ({said})"
    parts.append(f"{counts[Status.SUCCEEDED]} done")
    others = (status for status in Status if status is not Status.SUCCEEDED)
    parts += [f"{counts[status]} {status.words}" for status in others if counts[status]]
    if report.archived:
        parts.append(f"{report.archived} archived")
    if report.left_s is not None:
        parts.append(f"{about(report.left_s)} left")
    return ", ".join(parts)


def _section(title: str, rows: Sequence[Sequence[str]], more: int) -> Iterator[str]:
    """Rows under a title, and how many more there are."""
    if not rows:
        return
    yield ""
    yield title
    yield from (f"  {line}" for line in table(rows))
    if more > 0:
        yield f"  and {more} more"


def _failures(report: Report, now: float) -> Iterator[str]:
    failed = [failure for failure in report.failures if failure.status in FAILURES]
    rows = [
        (
            plain(failure.id),
            failure.status.words,
            _ago(failure.finished, now),
            plain(failure.reason),
            plain(failure.what),
        )
        for failure in failed[:MOST_ROWS]
    ]
    total = sum(report.counts[status] for status in FAILURES)
    yield from _section("Needs attention", rows, total - len(rows))


def _ago(finished: str, now: float) -> str:
    """`5 s ago`; nothing if nobody wrote down when."""
    return f"{duration(age(finished, now))} ago" if posix(finished) else ""


def _unusable(report: Report) -> Iterator[str]:
    every = sorted(report.unusable.items())
    rows = [(f"tasks/{plain(name)}", plain(why)) for name, why in every[:MOST_ROWS]]
    return _section("Cannot be tasks", rows, len(every) - len(rows))


def _running(report: Report) -> Iterator[str]:
    rows = [
        (
            plain(run.id),
            duration(run.elapsed_s),
            plain(run.worker),
            f"attempt {run.attempt}" if run.attempt > 1 else "",
            progress(run),
            plain(run.what),
        )
        for run in report.running[:MOST_ROWS]
    ]
    return _section("Running", rows, len(report.running) - len(rows))


def progress(run: Running) -> str:
    """`######----  61%  turn 23`, as far as the task says so."""
    share = ""
    if run.progress is not None:
        full = round(run.progress * BAR)
        share = f"{'#' * full}{'-' * (BAR - full)}  {run.progress:.0%}  "
    said = "; ".join(text for text in (run.message, run.silence) if text)
    return f"{share}{plain(said)}".rstrip()


def _waiting(report: Report, now: float) -> Iterator[str]:
    """One row for all that wait for the very same thing."""
    alike: dict[str, list[str]] = {}
    for waits in report.waiting:
        until = moment(posix(waits.until), now) if waits.until else ""
        told = "" if until in waits.why else f" (until {until})"
        alike.setdefault(f"{plain(waits.why)}{told}", []).append(plain(waits.id))
    rows, shown = [], 0
    for why, ids in list(alike.items())[:MOST_ROWS]:
        more = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
        rows.append((f"{ids[0]}{more}", why))
        shown += len(ids)
    return _section("Waiting", rows, len(report.waiting) - shown)


def _unwell(report: Report) -> Iterator[str]:
    """Only workers that are not well; `farm workers` has all."""
    rows = [
        (plain(w.name), plain(w.health)) for w in report.workers if w.health != "well"
    ]
    return _section("Workers", rows[:MOST_ROWS], len(rows) - MOST_ROWS)
