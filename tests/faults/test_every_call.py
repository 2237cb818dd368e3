"""Workers that are killed at every system call of their work, one after the other.

For each kind of call (openat, write, link ...) a worker is killed at the first, at
the second, at the third ..., until one does its work unharmed. It dies right before
the call takes place, so all of them together leave behind every state that a worker
can leave behind. After each death another worker finishes, and everything that farm
promises must hold.
"""

import hashlib
import json
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from farm.ledger import Claimed
from tests.driver import Farm, ran, whys
from tests.faults.tools import needs
from tests.faults.tracing import Stem, inject, names_in
from tests.lives import FOREIGN

pytestmark = [
    pytest.mark.processes,
    pytest.mark.fault(4),
    needs("strace", "pid namespace"),
]

#: A death before one of these leaves what the death before the call after it leaves.
LOOKS = {
    *("newfstatat", "fstat", "lstat", "stat", "getdents64", "readlink", "lseek"),
    *("read", "pread64", "ioctl", "getpid", "getrandom", "futex", "rt_sigprocmask"),
    *("rt_sigaction", "mmap", "munmap", "brk", "mprotect", "madvise"),
}

#: Says which attempt runs, and whether another one runs at the same time. It stays
#: for a moment, as nobody could overtake what is over at once.
RUN = "exec 9>inside; flock -n 9 || : > overlaps; echo $FARM_ATTEMPT >> ran; sleep 0.05"
CALL = """
import fcntl, os, pathlib

def note():
    inside = os.open("inside", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(inside, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pathlib.Path("overlaps").touch()
    with open("ran", "a") as ran:
        print(os.environ["FARM_ATTEMPT"], file=ran)
    os.close(inside)
"""
FAILS_ONCE = f"[ -e failed ] || {{ : > failed; exit 1; }}; {RUN}"


def lay_out(project: Farm, kind: str) -> None:
    """A task of this kind, and what somebody left beside it."""
    project.write("noting.py", CALL)
    if kind in ("a call", "an empty result", "a dead owner"):
        project.drop("job", call="noting:note")
    elif kind == "a failure":
        project.drop("job", run=FAILS_ONCE, retries={"max": 1, "base_delay": 0})
    else:
        project.drop("job", run=RUN)
    if kind == "an empty result":
        project.result_path("job").write_bytes(b"")
    if kind == "a dead owner":
        sha256 = hashlib.sha256((project.tasks / "job.json").read_bytes()).hexdigest()
        opened = Claimed("job", 1, "past", "dead", FOREIGN, 1000.0, sha256)
        torn = msgspec.json.encode(opened) + b'\n{"line":"child","tok'
        ledger = project.state / "locks" / "task-job.lock"
        ledger.parent.mkdir(parents=True)
        ledger.write_bytes(torn)


def result_of(project: Farm) -> dict[str, Any] | None:
    """What lies there as a result, if it is one."""
    try:
        found: dict[str, Any] = json.loads(project.result_path("job").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return found


def left_over(project: Farm) -> list[str]:
    """Ledgers, temporary and life files that still lie there."""
    folders = [project.state / name for name in ("locks", "tmp", "workers")]
    return [path.name for folder in folders for path in folder.iterdir()]


def broken_promises(project: Farm, stem: Stem, past: int) -> list[str]:
    """Another worker finishes after a death: what is not as farm promised it.

    `past` attempts were lost before.
    """
    before, runs_before = result_of(project), ran(project)
    code = stem.finish(project)
    result = result_of(project) or {"status": None, "attempts": []}
    ends, left = whys(result), left_over(project)
    promises = {
        "the other worker ends well": code == 0,
        "the task succeeded": result["status"] == "succeeded",
        "a result stays as it is": before in (None, result),
        "what has a result is not run again": not before or ran(project) == runs_before,
        "it ran": ran(project) != [],
        "never two at once": not (project.root / "overlaps").exists(),
        "every attempt that ran is told": len(ran(project)) + past <= len(ends),
        "one death costs one attempt": past <= ends.count("lost") <= past + 1,
        "one failure is told once": ends.count("failed") <= 1,
        f"nothing is left over ({', '.join(left)})": left == [],
    }
    return [promise for promise, kept in promises.items() if not kept]


def die_everywhere(
    folder: Path, kind: str, stem: Stem, counts: range, *, looks: bool
) -> tuple[int, list[str]]:
    """Die at each call that looks, or that does not; how often, and what broke."""
    unharmed = Farm(folder / "unharmed")
    lay_out(unharmed, kind)
    assert stem.work(unharmed, ["-e", "trace=all"]) == 0
    names = [n for n in names_in(unharmed.root / "trace") if (n in LOOKS) == looks]
    past = 1 if kind == "a dead owner" else 0
    deaths, broken = 0, broken_promises(unharmed, stem, past)
    for name in names:
        for count in counts:
            project = Farm(folder / f"{name}-{count}")
            lay_out(project, kind)
            code = stem.work(project, inject(name, f"signal=KILL:when={count}"))
            if code == 0:
                break  # it does not make so many of them
            assert code == -signal.SIGKILL
            deaths += 1
            broken += [
                f"death at {name} {count}: {promise}"
                for promise in broken_promises(project, stem, past)
            ]
    print(f"{deaths} deaths")
    return deaths, broken


def shared(kinds: dict[str, int]) -> list[Any]:
    """Each kind in so many shares: every second call and the others, say."""
    return [
        pytest.param(kind, range(first, 1000, shares), id=f"{kind}, {first}/{shares}")
        for kind, shares in kinds.items()
        for first in range(1, shares + 1)
    ]


#: in how many shares, so that no test takes long
KINDS = {
    "a call": 2,
    "a command": 2,
    "a failure": 4,
    "an empty result": 2,
    "a dead owner": 2,
}


@pytest.mark.parametrize(("kind", "counts"), shared(KINDS))
def test_a_death_at_any_call_that_changes_something_breaks_no_promise(
    farm: Farm, tmp_path: Path, kind: str, counts: range
) -> None:
    with Stem(farm) as stem:
        deaths, broken = die_everywhere(tmp_path, kind, stem, counts, looks=False)

    assert broken == []
    assert deaths >= 25


@pytest.mark.parametrize(("kind", "counts"), shared({"a call": 2}))
def test_a_death_at_any_call_that_only_looks_breaks_no_promise(
    farm: Farm, tmp_path: Path, kind: str, counts: range
) -> None:
    with Stem(farm) as stem:
        deaths, broken = die_everywhere(tmp_path, kind, stem, counts, looks=True)

    assert broken == []
    assert deaths >= 25
