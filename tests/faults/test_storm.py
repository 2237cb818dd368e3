"""The storm of `scripts/torture`: farm keeps its promises, and a naive lock does not."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
NAIVE = ROOT / "tests" / "storm" / "naive"
SEEDS = (1, 2, 3)  # its window is small: one short storm may look clean

pytestmark = pytest.mark.processes


def torture(folder: Path, *options: str) -> "subprocess.Popen[str]":
    """A storm of some seconds over a farm in this folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.storm", "--fs", str(folder), *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.fault(1, 2, 3)
def test_a_short_storm_breaks_no_promise(tmp_path: Path) -> None:
    storm = torture(tmp_path, "--seconds", "8", "--tasks", "150", "--seed", "1")
    said, _ = storm.communicate()

    assert storm.returncode == 0, said
    assert "every promise was kept" in said
    assert list(tmp_path.iterdir()) == []


def test_the_same_storm_catches_a_naive_lock(tmp_path: Path) -> None:
    short = ["--seconds", "10", "--tasks", "120", "--patience", "5"]
    short += ["--plug", str(NAIVE)]
    storms = [torture(tmp_path, *short, "--seed", str(seed)) for seed in SEEDS]
    said = [storm.communicate()[0] for storm in storms]

    assert 1 in {storm.returncode for storm in storms}, said
    assert any("VIOLATION" in text for text in said)


def test_an_unknown_fault_is_wrong_usage(tmp_path: Path) -> None:
    storm = torture(tmp_path, "--faults", "kil")
    storm.communicate()

    assert storm.returncode == 2
