"""What a supervisor shows: a live block on a terminal, plain lines elsewhere.

Both take the same three calls (`farm.supervisor.Screen`). Lines about events go
above the live block and stay; the block itself has the counts, at most 8 running
rows, the rate and the time left. Without a terminal there are no escape codes at all,
with NO_COLOR no colours.
"""

import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import Self

import click

from farm.cli.terminal import fit, padded
from farm.crew import Running
from farm.estimate import ENOUGH, WINDOW, Pace
from farm.journal import Entry
from farm.report import Report
from farm.states import State, Status
from farm.words import about, duration, frequency, plain

MOST_ROWS = 8  # running tasks shown; more only push the counts off the screen
MOST_LINES = 20  # endings said one by one in one tick; more are counted


class Counts:
    """The rate of the last half minute, from counts and our own clock."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, tick: float, ended: int) -> None:
        """So many tasks had ended at `tick` (monotonic seconds)."""
        self._seen.append((tick, ended))
        while tick - self._seen[0][0] > WINDOW and len(self._seen) > 1:
            self._seen.popleft()

    def pace(self, told: Pace) -> Pace:
        """What was told at the last look, unless we have counted enough since."""
        (then, before), (now, after) = self._seen[0], self._seen[-1]
        if after - before < ENOUGH or now <= then:
            return told
        return Pace((after - before) / (now - then), told.took)


def sentence(report: Report, pace: Pace) -> str:
    """`31/s, ~12 s left`, or as much of it as is known."""
    left = report.left_at(pace)
    parts = [frequency(pace.rate)] if pace.rate and not report.is_over else []
    return ", ".join([*parts, f"{about(left)} left"] if left is not None else parts)


def headline(report: Report) -> str:
    """`12 of 62 done, 2 running, 47 ready, 1 failed`."""
    parts = [f"{report.counts[Status.SUCCEEDED]} of {report.total} done"]
    shown = (State.RUNNING, State.READY, State.WAITING, *Status)
    for word in shown:
        count = report.counts[word]
        if count and word is not Status.SUCCEEDED:
            parts.append(f"{count} {word.words if isinstance(word, Status) else word}")
        if word is State.READY and report.unread:
            parts[-1] += f" ({report.unread} not looked into)"
    return ", ".join(parts)


def ended_lines(entries: Sequence[Entry]) -> list[str]:
    """One line for each ending; when there are many, only what did not succeed."""
    others = [e for e in entries if e.status is not Status.SUCCEEDED]
    good = len(entries) - len(others)
    if good > MOST_LINES:
        return [f"{good} tasks succeeded", *map(_line, others)]
    return list(map(_line, entries))


def _line(entry: Entry) -> str:
    name, said = plain(entry.id), plain(entry.message)
    if entry.status is Status.SUCCEEDED:
        return f"{name} succeeded in {duration(entry.duration)}"
    if entry.status is not None:
        return f"{name} {entry.status.words}: {said}"
    return f"{name} will run again after attempt {entry.attempt}: {said}"


class PlainScreen:
    """One line an event on stderr."""

    pause = 5.0  # seconds between two lines of counts
    is_live = False

    def __init__(self) -> None:
        self._counts = Counts()
        self._said = ""
        self._due = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        """Nothing to put back."""

    def event(self, text: str) -> None:
        """Say it with the time of day."""
        click.echo(f"{time.strftime('%H:%M:%S')}  {plain(text)}", err=True)

    def ended(self, entries: Sequence[Entry]) -> None:
        """Say each, or how many."""
        for line in ended_lines(entries):
            self.event(line)

    def show(self, report: Report) -> None:
        """Say the counts, if they changed, every few seconds."""
        now = time.monotonic()
        self._counts.add(now, report.ended)
        line = headline(report)
        if now < self._due or line == self._said:
            return
        self._said, self._due = line, now + self.pause
        pace = sentence(report, self._counts.pace(report.pace))
        self.event(f"{line}{f' ({pace})' if pace else ''}")


class LiveScreen:
    """A block at the bottom of the terminal; events scroll above it."""

    pause = 0.5  # seconds; the clocks of what runs go on
    is_live = True

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - only on a terminal
        from rich.live import Live  # noqa: PLC0415 - the same

        self._console = Console(stderr=True, highlight=False)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
        )
        self._counts = Counts()

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._live.stop()

    def event(self, text: str) -> None:
        """A line above the block."""
        self._print(text, "yellow")

    def ended(self, entries: Sequence[Entry]) -> None:
        """Failures at once; successes are seen in the counts."""
        for line in ended_lines(
            [e for e in entries if e.status is not Status.SUCCEEDED]
        ):
            self._print(line, "red")

    def _print(self, text: str, style: str) -> None:
        from rich.text import Text  # noqa: PLC0415 - only on a terminal

        line = f"{time.strftime('%H:%M:%S')}  {plain(text)}"
        self._console.print(Text(line, style=style))

    def show(self, report: Report) -> None:
        """Draw the block anew."""
        self._counts.add(time.monotonic(), report.ended)
        pace = sentence(report, self._counts.pace(report.pace))
        lines = block(report, pace, self._console.width)
        from rich.text import Text  # noqa: PLC0415 - only on a terminal

        self._live.update(
            Text("\n".join(lines), no_wrap=True, overflow="ellipsis"), refresh=True
        )


def block(report: Report, pace: str, width: int) -> list[str]:
    """The lines of the live block, none wider than `width` columns."""
    share = report.ended / report.total if report.total else 1.0
    lines = ["", f"{bar(share, max(10, width - 8))} {share:4.0%}", headline(report)]
    if pace:
        lines.append(pace)
    rows = report.running[:MOST_ROWS]
    lines += [_row(running, width) for running in rows]
    if len(report.running) > len(rows):
        lines.append(f"  and {len(report.running) - len(rows)} more running")
    if not report.total:
        lines.append(f"waiting for task files in {report.project}/tasks")
    return [fit(line, width) for line in lines]


def _row(running: Running, width: int) -> str:
    name = plain(running.id)
    clock = duration(running.elapsed_s)
    room = max(8, width - len(clock) - 4)
    again = f"  attempt {running.attempt}" if running.attempt > 1 else ""
    what = f"  {plain(running.what)}" if running.what else ""
    text = fit(f"{name}{again}{progress_words(running)}{what}", room)
    return f"  {padded(text, min(room, 60))}  {clock}"


def progress_words(running: Running) -> str:
    """What a task last wrote to FARM_PROGRESS."""
    share = "" if running.progress is None else f"  {running.progress:.0%}"
    return f"{share}  {plain(running.message)}" if running.message else share


def bar(share: float, width: int) -> str:
    """A bar of `width` columns."""
    full = round(share * width)
    return "━" * full + "╌" * (width - full)


def make_screen() -> PlainScreen | LiveScreen:
    """What fits where stderr goes."""
    plain_wanted = os.environ.get("TERM") == "dumb" or not sys.stderr.isatty()
    return PlainScreen() if plain_wanted else LiveScreen()


def summarize(report: Report, seconds: float) -> None:
    """What came of it, on stdout: the counts, then each failure with its reason."""
    click.echo(f"{headline(report)} in {duration(seconds)}")
    for failure in report.failures:
        words = failure.status.words
        click.echo(f"  {plain(failure.id)} {words}: {plain(failure.reason)}")
    for waits in report.stuck:
        click.echo(f"  {plain(waits.id)} waits: {plain(waits.why)}")
    for name, why in sorted(report.unusable.items()):
        click.echo(f"  tasks/{plain(name)} cannot be a task: {plain(why)}")
