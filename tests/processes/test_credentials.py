"""Eight processes and one folder of records: nothing is lost, no pace is exceeded."""

import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from farm.credentials import Credentials
from farm.keyring import Keyring
from farm.project import Project
from farm.scopes import Scopes, Turn, Want
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parent.parent.parent
PROCESSES = 8
UPDATES = 500  # of each process
CALLS = 40  # of each process
PER_SECOND = 20.0
NOW = 1_000_000_000.0

UPDATE = """
import sys
import msgspec
from farm import credentials
from farm.credentials import Credentials
from farm.project import Project

root, name, count = sys.argv[1:]
credentials.PATIENCE = 60.0  # a busy host stops holders for longer than any would hold
shared = Credentials(Project(root), name)
for _ in range(int(count)):
    shared.update(
        "acme-1", lambda s: msgspec.structs.replace(s, last_ok=s.last_ok + 1.0)
    )
"""

RESERVE = """
import os, sys
from farm import credentials
from farm.scopes import Scopes, Turn, Want
from farm.keyring import Keyring
from farm.project import Project

root, name, count, now = sys.argv[1:]
credentials.PATIENCE = 60.0
ring = Keyring(Scopes(Project(root), os.environ, name))
want = Want("acme", "big", base_url="https://acme.example")
for _ in range(int(count)):
    turn = ring.ask(want, float(now))
    assert isinstance(turn, Turn), turn
    print(turn.at)
"""


def start(script: str, *words: str, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", script, *words],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"} | environ,
        stdout=subprocess.PIPE,
        text=True,
    )


def outputs(processes: list[subprocess.Popen[str]]) -> list[str]:
    """What each said, once all have ended well."""
    try:
        said = [process.communicate(timeout=100)[0] for process in processes]
        wait_until(lambda: all(p.poll() is not None for p in processes), 10)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0] * len(processes)
    return said


def test_of_four_thousand_updates_none_is_lost(project: Project) -> None:
    outputs(
        [
            start(UPDATE, project.root, f"worker-{number}", str(UPDATES))
            for number in range(PROCESSES)
        ]
    )
    found = Credentials(project, "reader").read("acme-1")
    assert found.generation == PROCESSES * UPDATES
    assert found.last_ok == PROCESSES * UPDATES
    assert sorted(path.name for path in Path(project.credentials).iterdir()) == [
        "acme-1.json",
        "acme-1.lock",
    ]
    assert list(Path(project.tmp).iterdir()) == []


def test_eight_processes_at_one_key_keep_its_pace_together(project: Project) -> None:
    environ = {"ACME_API_KEY": secrets.token_hex(16), "ACME_POOL": "ours"}
    limit = {"anthropic-ratelimit-requests-limit": f"{PER_SECOND * 60:.0f}"}
    tell_limit(project, environ, limit)
    processes = [
        start(RESERVE, project.root, f"w{n}", str(CALLS), str(NOW), **environ)
        for n in range(PROCESSES)
    ]
    times = sorted(float(at) for said in outputs(processes) for at in said.split())
    assert len(times) == PROCESSES * CALLS
    for seconds in (1.0, 5.0):
        allowed = PER_SECOND * (seconds + 1.0) + 1
        for first in times:
            assert sum(first <= at < first + seconds for at in times) <= allowed
    assert times[-1] - NOW < PROCESSES * CALLS / PER_SECOND * 1.15


def tell_limit(
    project: Project, environ: dict[str, str], headers: dict[str, str]
) -> None:
    """One call long ago, whose answer said how fast others may follow."""
    ring = Keyring(Scopes(project, environ, "first"))
    turn = ring.ask(Want("acme", "big", base_url="https://acme.example"), NOW - 99)
    assert isinstance(turn, Turn)
    ring.succeeded(turn, headers, NOW - 98)
