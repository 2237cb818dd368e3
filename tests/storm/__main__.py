"""`scripts/torture`: a storm over a real farm, and what the record of it proves."""

import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import click

from tests.storm.storm import Options, Storm
from tests.storm.verdict import percentile, rescues, violations

FAULTS = (
    *("both", "delete", "edit", "pause", "retry", "cancel"),
    *("archive", "scale", "drain", "wait"),
)
SINGLY = ("kill", "stop")  # what `both` stands for
MOST_SHOWN = 20  # violations


@click.command()
@click.option("--seconds", type=float, default=30.0, help="How long it rages.")
@click.option("--seed", type=int, help="Of every choice  [default: a random one]")
@click.option("--tasks", type=int, default=600, help="How many are dropped.")
@click.option("--workers", type=int, default=8, help="How many work on them.")
@click.option(
    "--faults",
    default=",".join(FAULTS),
    show_default=True,
    help="What is done to them (both: kill and stop); none is a farm in peace.",
)
@click.option(
    "--pace", type=float, default=10.0, show_default=True, help="How many a second."
)
@click.option(
    "--patience", type=float, default=120.0, help="Seconds that nothing may end."
)
@click.option("--fs", type=click.Path(), help="The folder to make the project in.")
@click.option(
    "--plug",
    type=click.Path(resolve_path=True),
    help="A folder that breaks farm on purpose.",
)
@click.option("--keep", is_flag=True, help="Leave the project there.")
def main(
    *,
    seconds: float,
    seed: int | None,
    tasks: int,
    workers: int,
    faults: str,
    pace: float,
    patience: float,
    fs: str | None,
    plug: str | None,
    keep: bool,
) -> None:
    """Farm a temporary project, torment it, and judge what came of it.

    Exit code 0 if every promise was kept, 1 if one was broken.
    """
    chosen = frozenset(name for name in faults.split(",") if name and name != "none")
    if unknown := chosen - {*FAULTS, *SINGLY}:
        raise click.UsageError(f"there is no fault {', '.join(sorted(unknown))}")
    seed = random.randrange(1 << 31) if seed is None else seed
    root = Path(tempfile.mkdtemp(prefix="torture-", dir=fs)) / "project"
    click.echo(f"seed {seed}, {tasks} tasks, {workers} workers, {root}")
    storm = Storm(root, Options(seed, tasks, workers, chosen, pace, patience, plug))
    try:
        storm.begin()
        storm.rage(time.monotonic() + seconds)
        began = time.monotonic()
        storm.calm()
        found = report(storm, time.monotonic() - began)
    finally:
        storm.end()
        if not keep:
            shutil.rmtree(root.parent)
    sys.exit(1 if found else 0)


def report(storm: Storm, calming: float) -> list[str]:
    """Print what was done, what came of it, and the verdict; the violations."""
    record = storm.record()
    runs = sum(
        note.word == "begin" for notes in record.notes.values() for note in notes
    )
    done = ", ".join(f"{n} {what}" for what, n in sorted(storm.counts.items()))
    click.echo(f"done to it: {done or 'nothing'}")
    click.echo(f"{runs} runs; at rest {calming:.1f} s after the last blow")
    waits = rescues(record.notes, storm.kills)
    half, most = percentile(waits, 0.5), percentile(waits, 0.99)
    click.echo(
        f"{len(waits)} tasks rescued from killed workers:"
        f" p50 {half:.2f} s, p99 {most:.2f} s, longest {max(waits, default=0.0):.2f} s"
    )
    found = violations(record)
    for sentence in found[:MOST_SHOWN]:
        click.echo(f"  VIOLATION {sentence}")
    click.echo(f"{len(found)} violations" if found else "every promise was kept")
    return found


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    main()
