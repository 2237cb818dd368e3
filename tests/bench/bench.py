"""What every row is given: folders, sizes, peers, the limit, and how to compare.

    bench.fresh()                     a folder that is not there yet, on tmpfs
    bench.fresh(bench.disk)           the same on the disk
    bench.compare(row, sides, how)    A B A B ..., into the row's figures

A side that cannot be measured is skipped by name, with the reason as a note.
"""

import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.bench.farms import GaveUpError
from tests.bench.peers import PACKAGES, MissingError, Peers
from tests.bench.physical import Physical
from tests.bench.table import Row

Side = Callable[[Path], float]  #: measures once, in a folder that it makes
FILE = 5 * 1024  # bytes of memory that a small file of tmpfs takes, its name included


class Sizes(NamedTuple):
    """How much of everything."""

    rounds: int
    peer_rounds: int
    calls: int  #: no-op callables of one measurement
    runs: int  #: commands
    finished: int  #: pairs that lie there while a farm is idle
    drops: int
    backlogs: tuple[int, ...]  #: ready tasks; the last is compared with 10,000
    window: float  #: seconds of a large backlog that are measured
    statuses: tuple[int, ...]
    idle: float  #: seconds
    burns: int
    costs: int  #: tasks of a run whose processor time is measured
    cost_rounds: int
    share: float  #: of the peers' counts
    limits: float  #: share of the limits' full sizes
    prompts: int
    rescues: int  #: workers that are killed, in each of four farms
    peers: tuple[str, ...]


FULL = Sizes(
    rounds=5,
    peer_rounds=5,
    calls=20_000,
    runs=1_000,
    finished=100_000,
    drops=500,
    backlogs=(100, 1_000, 10_000, 100_000, 1_000_000),
    window=10.0,
    statuses=(100_000, 1_000_000),
    idle=60.0,
    burns=400,
    costs=40_000,
    cost_rounds=10,
    share=1.0,
    limits=1.0,
    prompts=300,
    rescues=100,
    peers=tuple(PACKAGES),
)
QUICK = Sizes(
    rounds=2,
    peer_rounds=1,
    calls=4_000,
    runs=250,
    finished=100_000,
    drops=60,
    backlogs=(1_000, 10_000, 50_000),
    window=2.0,
    statuses=(100_000,),
    idle=15.0,
    burns=60,
    costs=8_000,
    cost_rounds=3,
    share=0.3,
    limits=0.01,
    prompts=120,
    rescues=10,
    peers=("huey", "celery", "jug"),  # those that a target names
)


class How(NamedTuple):
    """How sides are compared."""

    unit: str
    rounds: int
    where: Path | None = None  #: tmpfs if not said


class Bench:
    """See the module's docstring."""

    def __init__(self, memory: Path, disk: Path, sizes: Sizes, seed: int) -> None:
        self.memory = memory
        self.disk = disk
        self.sizes = sizes
        self.random = random.Random(seed)
        self.limit = Physical.prepare(memory)
        self.peers = Peers(Path(), {})  # until they are installed
        self._made = 0

    def fresh(self, where: Path | None = None) -> Path:
        """A path below tmpfs, or elsewhere, where nothing lies."""
        self._made += 1
        return (where or self.memory) / f"{self._made:04}"

    def room_for(self, files: int) -> Path:
        """Where so many small files have room: tmpfs, else the disk."""
        for folder in (self.memory, self.disk):
            if shutil.disk_usage(folder).free > 2 * files * FILE:
                return folder
        raise GaveUpError(f"there is no room for {files:,} files")

    def tidy(self, folder: Path) -> None:
        """Give memory back. A disk's files stay to the very end.

        Deleting many files makes a disk mounted with `discard` slow for a while.
        """
        if self.memory in folder.parents:
            shutil.rmtree(folder)

    def compare(self, row: Row, sides: Mapping[str, Side], how: How) -> None:
        """Measure all sides, round by round, each time in a fresh folder."""
        found: dict[str, list[float]] = {name: [] for name in sides}
        failed: dict[str, str] = {}
        for number in range(how.rounds):
            for name in [name for name in sides if name not in failed]:
                if name in PACKAGES and number >= self.sizes.peer_rounds:
                    continue
                folder = self.fresh(how.where)
                try:
                    found[name].append(sides[name](folder))
                except (MissingError, GaveUpError) as error:
                    failed[name] = str(error)
                if folder.exists():
                    self.tidy(folder)
        for name, values in found.items():
            if values:
                row.add(name, how.unit, values)
        row.notes += [f"skipped {name}: {why}" for name, why in failed.items()]
