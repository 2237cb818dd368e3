"""`scripts/bench`: farm against its peers, its targets and the physical limit.

    scripts/bench                        every row, under 20 minutes
    scripts/bench --quick                smaller, fewer rounds, under 2 minutes
    scripts/bench --only run --only disk
    scripts/bench agents                 prompts, keys and their limits, under 2 minutes
    scripts/bench rescue                 how soon a killed worker's task runs again
    scripts/bench --profile              where a task's time goes, instead

Everything is measured side by side in this run. A row is measured as its function
says (`contests`, `flat`, `costs`); what is compared is measured round by round, A B A
B, and a ratio is the median of the ratios of the rounds. Folders are fresh; on a disk
they are deleted at the very end. No figure has the start of a process in it, unless
it is one of a start: farm counts from its first result to its last (`farms`), and how
each peer is timed is told in `peers`.
"""

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click

from tests.bench import (
    agents,
    contests,
    costs,
    flat,
    limits,
    machine,
    plot,
    profile,
    rescues,
)
from tests.bench.bench import FULL, QUICK, Bench, Sizes
from tests.bench.farms import CALL, RUN, GaveUpError
from tests.bench.peers import Peers
from tests.bench.table import Row, as_json, print_row, print_targets

ROWS = {
    "call": contests.calls,
    "disk": contests.calls_on_disk,
    "run": contests.commands,
    "scaling": contests.scaling,
    "worker": costs.worker,
    "cost": costs.cost,
    "idle": flat.idle,
    "backlog": flat.backlog,
    "status": flat.status,
    "limits": limits.limits,
}
ASIDE = {
    "agents": agents.agents,
    "rescue": rescues.rescue,
}  # measured only if it is named
WITH_PEERS = {"call", "run"}
MEMORY = Path("/dev/shm")  # tmpfs, where Linux has it


class Options(NamedTuple):
    """What was asked for on the command line."""

    quick: bool
    rows: tuple[str, ...]
    only: tuple[str, ...]
    seed: int | None
    json: Path | None
    plot: Path | None
    disk: Path
    peers: Path | None
    profile: bool

    @property
    def sizes(self) -> Sizes:
        """How much of everything."""
        return QUICK if self.quick else FULL


@click.command()
@click.argument(
    "rows", nargs=-1, type=click.Choice([*ROWS, *ASIDE]), metavar="[ROW]..."
)
@click.option("--quick", is_flag=True, help="Smaller, and fewer rounds.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(list(ROWS)),
    help="This row; may be given more than once.",
)
@click.option("--seed", type=int, help="Of every choice  [default: a random one]")
@click.option(
    "--json", type=click.Path(path_type=Path), help="Write all that was measured."
)
@click.option("--plot", type=click.Path(path_type=Path), help="Draw it, as SVG.")
@click.option(
    "--disk",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=tempfile.gettempdir,
    help="A folder on the machine's own disk  [default: for temporary files]",
)
@click.option(
    "--peers",
    type=click.Path(path_type=Path),
    help="Keep the peers' environment here  [default: made anew each time]",
)
@click.option("--profile", is_flag=True, help="Where a task's time goes, instead.")
def main(**given: Any) -> None:
    """Measure farm, its peers and the physical limit in one run.

    With ROWs these alone. `agents` (prompts, keys and their limits) and `rescue` (how
    soon a killed worker's task runs again) are measured only if they are named.

    Exit code 0 when all was measured, whether the targets are met or not.
    """
    options = Options(**given)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # tidies up on its way
    seed = random.randrange(1 << 31) if options.seed is None else options.seed
    began = time.monotonic()
    with labs(options) as (memory, disk):
        about = machine.described({"tmpfs": memory, "disk": disk})
        about |= {"seed": str(seed), "date": time.strftime("%Y-%m-%d")}
        for name, words in about.items():
            click.echo(f"{name}: {words}")
        if options.profile:
            print_profiles(memory, options.sizes)
            return
        bench = Bench(memory, disk, options.sizes, seed)
        rows = measure(bench, options)
    print_targets(rows)
    click.echo(f"\ntook {time.monotonic() - began:.0f} s")
    if options.json:
        facts = {"about": about, "quick": options.quick, "rows": as_json(rows)}
        options.json.write_text(json.dumps(facts, indent=1) + "\n")
    if options.plot:
        plot.write(options.plot, rows)


def measure(bench: Bench, options: Options) -> list[Row]:
    """All rows that were asked for; each is printed as soon as it is there."""
    chosen = (*options.rows, *options.only) or tuple(ROWS)
    if WITH_PEERS & set(chosen):
        folder = options.peers or bench.disk / "peers"
        click.echo(f"installing peers: {' '.join(bench.sizes.peers)}")
        bench.peers = Peers.install(folder, bench.sizes.peers)
    rows = []
    for key in chosen:
        began = time.monotonic()
        try:
            rows.append((ROWS | ASIDE)[key](bench))
        except GaveUpError as error:
            rows.append(Row(key, "not measured", notes=[str(error)]))
        print_row(rows[-1])
        click.echo(f"  ({time.monotonic() - began:.0f} s)")
    return rows


def print_profiles(folder: Path, sizes: Sizes) -> None:
    """Of a callable and of a command."""
    for name, raw, tasks in (("call", CALL, sizes.calls), ("run", RUN, sizes.runs)):
        click.echo(f"\n{name}: {raw.decode()}, {tasks:,} tasks, one worker")
        profile.print_profile(folder / name, raw, tasks)


@contextmanager
def labs(options: Options) -> Iterator[tuple[Path, Path]]:
    """A folder on tmpfs and one on the disk, removed at the very end."""
    where = MEMORY if os.access(MEMORY, os.W_OK) else options.disk
    made = [
        Path(tempfile.mkdtemp(prefix="bench-", dir=d)) for d in (where, options.disk)
    ]
    try:
        yield made[0], made[1]
    finally:
        for folder in made:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
