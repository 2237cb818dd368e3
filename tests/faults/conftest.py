"""Machines and places for fault tests.

What takes a while to try is tried by the first that asks.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.driver import Farm
from tests.faults.disklog import LoggedDisk
from tests.faults.machines import Machine
from tests.faults.tools import works


def _require(name: str) -> None:
    if not works(name):
        pytest.skip(f"not to be had here: {name}")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A guest with a disk, to be switched on."""
    _require("guest")
    there = Machine(tmp_path / "machine")
    yield there
    there.end()


@pytest.fixture
def logged_disk(tmp_path: Path) -> LoggedDisk:
    """A disk that keeps a log, to be plugged in."""
    _require("logged disk")
    return LoggedDisk(tmp_path / "disk")


@pytest.fixture
def in_the_open() -> Iterator[Farm]:
    """A project where every user can go; pytest's own folders are private."""
    folder = Path(tempfile.mkdtemp(prefix="farm-users-"))
    folder.chmod(0o755)
    farm = Farm(folder / "project")
    yield farm
    farm.end()
    shutil.rmtree(folder)
