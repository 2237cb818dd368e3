"""Tests pass on any day: some for which days matter run here on five other ones.

libfaketime tells them another time of day. Files keep their true times, as on a file
server whose clock is wrong.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.tools import faketime, needs

pytestmark = [pytest.mark.processes, needs("faketime")]

DAYS = {
    "a leap day": ("UTC", "2028-02-29 12:00:00"),
    "the last minute of a year": ("America/New_York", "2027-12-31 23:59:57"),
    "a minute before summer time": ("Europe/Berlin", "2027-03-28 01:59:57"),
    "years later": ("Asia/Tokyo", "2031-07-15 08:00:00"),
    "before this was written": ("Australia/Adelaide", "2025-10-31 23:30:00"),
}
TESTS = [
    *("tests/test_words.py", "tests/test_result.py", "tests/test_shelf.py"),
    *("tests/test_retention.py", "tests/test_inventory.py", "tests/test_reload.py"),
    *("tests/test_rest.py", "tests/test_explain.py", "tests/cli/test_keys.py"),
    "tests/test_provider.py::test_a_day_that_a_refusal_names_lies_ahead",
]


def run_at(zone: str, moment: str, *options: str) -> str:
    """Run tests at another time of day; what is said if not all of them pass."""
    lie = {
        "LD_PRELOAD": str(faketime()),
        "FAKETIME": f"@{moment}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
        "TZ": zone,
    }
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-n0",
            "-q",
            "-p",
            "no:cacheprovider",
            *options,
        ],
        cwd=Path(__file__).parent.parent,
        env=os.environ | lie,
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("day", DAYS)
def test_what_deals_with_time_passes_on_other_days(day: str) -> None:
    assert run_at(*DAYS[day], "-m", "not processes", *TESTS) == ""
