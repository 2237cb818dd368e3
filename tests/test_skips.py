"""On a build server a test is skipped only for a reason that is listed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.skips import FOR_ORDINARY_USERS, FOR_ROOT, NOT_HERE, wrongly_skipped

SKIPPED = """
import pytest

@pytest.mark.skipif(True, reason="{reason}")
def test_marked(): ...

def test_inside():
    pytest.skip("{reason}")

@pytest.fixture
def missing():
    pytest.skip("{reason}")

def test_by_its_fixture(missing): ...
"""


def run_on_server(folder: Path, reason: str) -> "subprocess.CompletedProcess[str]":
    """Run skipped tests as on a build server, with the hooks of this suite."""
    there = folder / "test_skipped.py"
    there.write_text(SKIPPED.replace("{reason}", reason))
    options = ["-n0", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-c", "pyproject.toml", *options, str(there)],
        cwd=Path(__file__).parent.parent,
        env={"CI": "true", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_is_skipped_without_leave_fails_and_says_what_is_missing(
    tmp_path: Path,
) -> None:
    ended = run_on_server(tmp_path, f"{NOT_HERE}strace, a unicorn")

    assert ended.returncode == 1
    assert "1 failed, 2 errors" in ended.stdout.splitlines()[-1]
    assert ended.stdout.count("skipped, for want of: strace, a unicorn. ") >= 3


def test_what_has_leave_is_skipped(tmp_path: Path) -> None:
    mine = FOR_ORDINARY_USERS if os.geteuid() else FOR_ROOT
    ended = run_on_server(tmp_path, f"{NOT_HERE}{next(iter(mine))}")

    assert (ended.returncode, "3 skipped" in ended.stdout) == (0, True), ended


@pytest.mark.parametrize("is_root", [True, False])
def test_each_kind_of_user_has_a_list_of_its_own(is_root: bool) -> None:
    reasons = {name: wrongly_skipped(name, is_root=is_root) for name in FOR_ROOT}
    others = wrongly_skipped(f"{NOT_HERE}root, memory cgroup", is_root=is_root)

    assert reasons == {name: [] if is_root else [name] for name in FOR_ROOT}
    assert others == (["root", "memory cgroup"] if is_root else [])


@pytest.mark.parametrize("listed", [FOR_ROOT, FOR_ORDINARY_USERS])
def test_each_leave_has_its_reason(listed: dict[str, str]) -> None:
    assert all(listed.values())
