"""Tests pass on any day: some for which days matter run here on five other ones.

libfaketime tells them another time of day. Files keep their true times, as on a file
server whose clock is wrong.
"""

import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from tests.faults.tools import faketime, needs

pytestmark = [pytest.mark.processes, needs("faketime")]

DAYS = {  # how people's clocks go there (POSIX's TZ), and the true time
    "a leap day": ("UTC0", "2028-02-29T12:00:00Z"),
    "the end of a year": ("EST5EDT,M3.2.0,M11.1.0", "2028-01-01T04:59:57Z"),
    "as summer begins": ("CET-1CEST,M3.5.0,M10.5.0/3", "2027-03-28T00:59:57Z"),
    "years later": ("JST-9", "2031-07-15T23:00:00Z"),
    "before this was written": (
        "ACST-9:30ACDT,M10.1.0,M4.1.0/3",
        "2025-10-31T14:00:00Z",
    ),
}
TESTS = [
    *("tests/test_words.py", "tests/test_result.py", "tests/test_shelf.py"),
    *("tests/test_retention.py", "tests/test_inventory.py", "tests/test_reload.py"),
    *("tests/test_rest.py", "tests/test_explain.py", "tests/cli/test_keys.py"),
    "tests/test_provider.py::test_a_day_that_a_refusal_names_lies_ahead",
]


def run_at(zone: str, moment: str, *options: str) -> str:
    """Run tests at another time of day; what is said if not all of them pass."""
    ahead = datetime.fromisoformat(moment).timestamp() - time.time()
    lie = {
        "LD_PRELOAD": str(faketime()),
        "FAKETIME": f"{ahead:+.0f}",  # the same for each process that they start
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
        "TZ": zone,
    }
    command = (sys.executable, "-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider")
    done = subprocess.run(
        [*command, *options],
        cwd=Path(__file__).parent.parent,
        env=os.environ | lie,
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("day", DAYS)
def test_what_deals_with_time_passes_on_other_days(day: str) -> None:
    wrong = run_at(*DAYS[day], "-m", "not processes", *TESTS)

    assert not wrong, wrong
