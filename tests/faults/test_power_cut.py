"""What a power cut leaves: results that were told of are there, all else runs again.

Two proofs. The order of the calls, from a trace: bytes, their sync, the name, its
sync, and only then the lock is given up and the end is told. And a real cut: an
ext4 file system on an image, which is copied while it is mounted; the copy has what
was sent to the disk, and nothing of what was only in memory.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.driver import Farm
from tests.faults.tools import UNSHARE, needs
from tests.faults.tracing import Call, calls, inject, work_traced

pytestmark = [pytest.mark.processes, needs("strace")]

#: word, names of the call on any machine, what its arguments or what it returned must hold
WORDS = [
    ("claim", "write", '/task-job.lock>, "{\\"line\\":\\"claimed'),
    ("sync the claim", "fdatasync", "/task-job.lock>"),
    ("start", "pidfd_open", ""),
    ("write the result", "write", '.result>, "{\\"version'),
    ("sync the result", "fsync", ".result>"),
    ("link it", "link(at)?", "/tasks/job.result.json"),
    ("sync the folder", "fsync", "/tasks>"),
    ("remove the ledger", "unlink(at)?", "/task-job.lock"),
    ("unlock it", "flock", "/task-job.lock>(deleted), LOCK_UN"),
    ("tell", "write", "/.farm/journal/"),
]

COMMIT = [
    *("write the result", "sync the result", "link it", "sync the folder"),
    *("remove the ledger", "unlock it", "tell"),
]
UNSYNCED = [word for word in COMMIT if "sync" not in word]

INSTANT = "true"
SLOW = "sleep 0.15"  # longer than what costs less to run again than to sync


def story(trace: Path) -> list[str]:
    """What a worker did about the task `job`, in order, in words."""
    return [word for call in calls(trace) if (word := word_for(call))]


def word_for(call: Call) -> str:
    """What one call does about it; empty for any other call."""
    for word, names, sign in WORDS:
        if re.fullmatch(names, call.name) and sign in call.arguments:
            return word
    return ""


@pytest.mark.fault(35)
@pytest.mark.parametrize(
    ("durability", "command", "expected"),
    [
        pytest.param("always", INSTANT, COMMIT, id="always"),
        pytest.param("auto", SLOW, COMMIT, id="auto, and it took a while"),
        pytest.param("never", SLOW, UNSYNCED, id="never"),
    ],
)
def test_a_result_is_on_the_disk_before_its_task_is_let_go(
    farm: Farm, tmp_path: Path, durability: str, command: str, expected: list[str]
) -> None:
    farm.drop("job", run=command)
    work_traced(farm, tmp_path / "trace", [], FARM_DURABILITY=durability)
    told = story(tmp_path / "trace")

    assert told == ["claim", "start", *expected]


def test_what_was_quick_is_not_synced_by_itself(farm: Farm, tmp_path: Path) -> None:
    farm.drop("job", run=INSTANT)
    work_traced(farm, tmp_path / "trace", [], FARM_DURABILITY="auto")
    is_synced = "sync the result" in story(tmp_path / "trace")

    assert is_synced == (farm.result("job")["duration_s"] > 0.1)


@pytest.mark.fault(35)
@pytest.mark.parametrize(
    ("durability", "second"),
    [
        pytest.param("auto", ["claim", "sync the claim", "start"], id="auto"),
        pytest.param("never", ["claim", "start"], id="never"),
    ],
)
def test_the_claim_of_a_second_attempt_is_on_the_disk_before_it_starts(
    farm: Farm, tmp_path: Path, durability: str, second: list[str]
) -> None:
    farm.drop("job", run="exit 1", retries={"max": 1, "base_delay": 0})
    work_traced(farm, tmp_path / "trace", [], FARM_DURABILITY=durability)
    told = story(tmp_path / "trace")

    assert told[: 3 + len(second)] == ["claim", "start", "tell", *second]


@pytest.mark.fault(36)
def test_a_disk_that_only_says_that_it_synced_costs_a_second_run(
    farm: Farm, tmp_path: Path
) -> None:
    farm.drop("job", run="echo >> ran")
    lie = inject("fsync,fdatasync", "retval=0")
    work_traced(farm, tmp_path / "trace", lie, FARM_DURABILITY="always")
    lies = calls(tmp_path / "trace")
    farm.result_path("job").write_bytes(b"")
    farm.work()

    assert [call.name for call in lies] == ["fsync", "fsync"]
    assert farm.status_of("job") == "succeeded"
    assert (farm.root / "ran").read_text() == "\n\n"


# -- a real one --------------------------------------------------------------------

#: In a mount namespace of its own: a disk in a file, a farm that works on it, and a
#: copy of what the disk has got, made while everything is still mounted. Nothing is
#: written by itself in all this time (`commit`, in seconds).
CUT = """
set -e
truncate -s 24M disk
mkfs.ext4 -q disk
mkdir -p folder
mount -o loop,commit=600 disk folder
mkdir folder/tasks
for id in $IDS; do printf '{"run": "%s"}' "$COMMAND" > folder/tasks/$id.json; done
sync -f folder
cd folder
"$PYTHON" -P -m farm worker . --until-done
cp ../disk ../cut
"""
AFTER = """
set -e
mount -o loop cut folder
cd folder
stat -c '%n %s' tasks/*.result.json || true
echo --
"$PYTHON" -P -m farm worker . --until-done
cat tasks/*.result.json
"""
IDS = ("a", "b", "c", "d")


def in_mounts_of_its_own(farm: Farm, script: str, **environ: str) -> str:
    """Run a script that may mount what it likes; what it said."""
    return subprocess.run(
        [*UNSHARE, "--mount", "sh", "-c", script],
        cwd=farm.root,
        env=farm.environ | {"PYTHON": sys.executable, "IDS": " ".join(IDS)} | environ,
        stdout=subprocess.PIPE,
        text=True,
        timeout=50,
        check=True,
    ).stdout


def cut_and_go_on(farm: Farm, durability: str, command: str) -> tuple[list[str], str]:
    """Results that the cut left, with their sizes, and what the next worker made."""
    setting = {"FARM_DURABILITY": durability}
    in_mounts_of_its_own(farm, CUT, COMMAND=command, **setting)
    said = in_mounts_of_its_own(farm, AFTER, **setting)
    left, _, later = said.partition("--\n")
    return left.splitlines(), later


@pytest.mark.fault(35)
@needs("loop mount")
def test_a_synced_result_survives_a_power_cut(farm: Farm) -> None:
    left, _ = cut_and_go_on(farm, "always", "true")
    sizes = dict(line.split() for line in left)

    assert [*sizes] == [f"tasks/{task_id}.result.json" for task_id in IDS]
    assert "0" not in sizes.values()


@pytest.mark.fault(35, 36)
@needs("loop mount")
def test_what_a_power_cut_empties_runs_again(farm: Farm) -> None:
    command = "echo > mine; sync mine"  # takes the names of earlier results with it
    left, later = cut_and_go_on(farm, "never", command)
    print(f"left by the cut: {left}")  # with no bytes, unless somebody synced all disks

    assert later.count('"status":"succeeded"') == len(IDS)
