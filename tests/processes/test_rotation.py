"""`APIRotationState` in several processes: what one leaves, all leave."""

import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from farm.project import Project

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parent.parent.parent
KEYS = 6
PROCESSES = 6

#: for each line it reads: rotates if that says why, then prints which key is current
TALK = """
import sys
from farm import APIRotationState, credentials

credentials.PATIENCE = 60.0  # a busy host stops holders for longer than any would hold
state = APIRotationState(provider="acme", project_dir=sys.argv[1])
for line in sys.stdin:
    if line.strip():
        state.rotate(line.strip())
    current = state.get_current()
    known = state.credentials
    spent = sum(c.is_exhausted for c in known)
    print(None if current is None else known.index(current), spent, flush=True)
"""


class Talker:
    """A process with an `APIRotationState`."""

    def __init__(self, popen: subprocess.Popen[str]) -> None:
        self._popen = popen

    def tell(self, error: str = "") -> str:
        """Let it rotate because of an error; its current key, and how many are spent."""
        self.begin(error)
        return self.answer()

    def begin(self, error: str) -> None:
        assert self._popen.stdin is not None
        self._popen.stdin.write(f"{error}\n")
        self._popen.stdin.flush()

    def answer(self) -> str:
        assert self._popen.stdout is not None
        return self._popen.stdout.readline().strip()


@pytest.fixture
def talkers(project: Project) -> Iterator[list[Talker]]:
    environ = {f"ACME_API_KEY_{n}": secrets.token_hex(16) for n in range(KEYS)}
    with ExitStack() as stack:
        popens = []
        for _ in range(PROCESSES):
            popen = subprocess.Popen(
                [sys.executable, "-P", "-c", TALK, project.root],
                env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"} | environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(popen)
            stack.callback(popen.kill)
            popens.append(popen)
        yield [Talker(popen) for popen in popens]


def test_what_one_process_leaves_all_leave_at_once(talkers: list[Talker]) -> None:
    assert {talker.tell() for talker in talkers} == {"0 0"}
    assert talkers[0].tell("daily quota exceeded") == "1 1"
    assert {talker.tell() for talker in talkers} == {"1 1"}
    assert talkers[1].tell("slow down") == "2 1"
    assert {talker.tell() for talker in talkers} == {"2 1"}


def test_what_all_leave_at_once_costs_one_key(talkers: list[Talker]) -> None:
    assert {talker.tell() for talker in talkers} == {"0 0"}
    for talker in talkers:
        talker.begin("daily quota exceeded")
    assert {talker.answer() for talker in talkers} == {"1 1"}


def test_no_update_is_lost(talkers: list[Talker]) -> None:
    for number, talker in enumerate(talkers):
        assert talker.tell() == f"{number} {number}"
        assert talker.tell("daily quota exceeded").endswith(f" {number + 1}")
    assert {talker.tell() for talker in talkers} == {f"None {KEYS}"}
