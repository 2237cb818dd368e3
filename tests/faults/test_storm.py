"""The storm of `scripts/torture`: farm keeps its promises, and a naive lock does not."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
NAIVE = ROOT / "tests" / "storm" / "naive"
#: by seed; its window is small: 1 in 25 of the rounds looks clean, but never all
ROUNDS = ((1, 2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12))

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


def is_caught(folder: Path, seeds: tuple[int, ...]) -> bool:
    """Whether one of these storms, side by side, catches the naive lock."""
    short = ["--seconds", "10", "--tasks", "120", "--patience", "5"]
    # What only slows the workers down would keep its window closed.
    short += ["--plug", str(NAIVE), "--faults", "both,delete,edit,pause,retry,cancel"]
    storms = [torture(folder, *short, "--seed", str(seed)) for seed in seeds]
    said = [storm.communicate()[0] for storm in storms]
    judged = zip(storms, said, strict=True)
    return any(one.returncode == 1 and "VIOLATION" in text for one, text in judged)


def test_the_same_storm_catches_a_naive_lock(tmp_path: Path) -> None:
    assert any(is_caught(tmp_path, seeds) for seeds in ROUNDS)


def test_an_unknown_fault_is_wrong_usage(tmp_path: Path) -> None:
    storm = torture(tmp_path, "--faults", "kil")
    storm.communicate()

    assert storm.returncode == 2
