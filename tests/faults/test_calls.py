"""What one quick task asks of the kernel, as `farm help claiming` tells it."""

import re
from itertools import pairwise
from pathlib import Path
from statistics import mode

import pytest

from tests.driver import Farm
from tests.faults.tools import needs
from tests.faults.tracing import Call, calls, work_traced

pytestmark = [pytest.mark.processes, needs("strace")]

PAGE = Path(__file__).parents[2] / "farm" / "topics" / "claiming.md"
ROW = re.compile(r"^\| `(\w+)` \| ?(\w*) \|", re.MULTILINE)
#: what a descriptor or a path in the arguments of a call stands for
PLACES = [
    ("ledger", r"/locks/task-"),
    ("result", r"/tasks/\w+\.result\.json"),
    ("task", r"/tasks/\w+\.json"),
    ("progress", r"/tmp/[\w-]+\.progress"),
    ("aside", r"/tmp/[\w-]+\.result"),
    ("stdout", r"/tmp/[\w-]+\.out"),
    ("stderr", r"/tmp/[\w-]+\.err"),
    ("journal", r"/\.farm/journal/"),
    ("control", r"/\.farm/control"),
    ("bell", r"^\d+<pipe:.*(, F_GETFL|, \"\")"),
    ("stderr", r"^\d+<pipe:.* succeeded in "),
    ("module", r"/quick\.py"),
    ("stdin", r", 0</dev/null"),
]
#: the names that calls have on one machine or another
NAMES = {
    "openat": "open",
    "pread64": "read",
    "newfstatat": "stat",
    "fstat": "stat",
    "lstat": "stat",
    "faccessat": "access",
    "faccessat2": "access",
    "linkat": "link",
    "unlinkat": "unlink",
    "rt_sigprocmask": "sigprocmask",
    "dup3": "dup2",
}


def step(call: Call, farm: Farm) -> tuple[str, str]:
    """What was called, and on what; of two names the latter, as of a link."""
    places = [*PLACES, ("project", f'^"{re.escape(str(farm.root))}"$')]
    signs = [(re.search(sign, call.arguments), place) for place, sign in places]
    found = [(at.start(), place) for at, place in signs if at]
    return NAMES.get(call.name, call.name), max(found)[1] if found else ""


def test_a_quick_task_costs_the_calls_that_are_told_of(
    farm: Farm, tmp_path: Path
) -> None:
    farm.write("quick.py", "def nothing(): pass\n")
    farm.work()  # makes the folders
    for number in range(10):
        farm.drop(f"t{number}", call="quick:nothing")
    work_traced(farm, tmp_path / "trace", [])
    every = calls(tmp_path / "trace")
    begun = [claimed(every, f"t{number}") for number in range(10)]
    tasks = [every[first:last] for first, last in pairwise(begun)]
    usual = mode([tuple(step(call, farm) for call in one) for one in tasks])

    assert list(usual) == ROW.findall(PAGE.read_text())


def claimed(every: list[Call], name: str) -> int:
    """Where the claim of a task begins."""
    sign = f"/locks/task-{name}.lock"
    return next(n for n, call in enumerate(every) if sign in call.arguments)
