"""Guests of tests: none is left behind."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.faults.machines import Machine
from tests.faults.tools import needs
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, needs("root")]

BOOTS = """
import sys
from pathlib import Path
from tests.faults.guest import start

folder = Path(sys.argv[1])
with open(folder / "console", "ab") as console:
    guest = start(folder, folder / "disk", console)
print(guest.computer.pid, guest.files.pid, flush=True)
guest.computer.wait()
"""


def test_a_guest_ends_with_its_test_even_if_that_is_killed(machine: Machine) -> None:
    boots = subprocess.Popen(
        [sys.executable, "-c", BOOTS, machine.folder],
        cwd=Path(__file__).parent.parent.parent,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert boots.stdout is not None
    pids = [int(pid) for pid in boots.stdout.readline().split()]
    before = [psutil.pid_exists(pid) for pid in pids]
    boots.kill()
    boots.communicate()

    assert before == [True, True]
    wait_until(lambda: not any(map(psutil.pid_exists, pids)))
