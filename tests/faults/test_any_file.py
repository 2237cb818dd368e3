"""Whatever lies at a path that farm reads: each verb ends, and other tasks go on.

`PLACES` lists every path of a project that farm reads, `ILLS` what may lie there. What is
tried are all verbs that look, in this process with bounded memory, and a worker.
"""

import gzip
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from farm.project import Project
from tests.cli.conftest import Run
from tests.cli.conftest import run as run  # noqa: PLC0414 - a fixture, for this folder, too
from tests.driver import Farm

pytestmark = pytest.mark.processes

MEMORY = 2_000_000_000  # bytes that all may take
BUG = 70
ARCHIVE = "archive/20200101T000000.000000Z.jsonl.gz"
PLACES = (
    "tasks/big.json",
    "tasks/big.result.json",
    "tasks/other.result.json",
    "prompt.txt",
    "farm.toml",
    ".farm/locks/task-big.lock",
    ".farm/workers/dead.lock",
    ".farm/workers/dead.json",
    ".farm/journal/dead.jsonl",
    ".farm/journal.jsonl",
    ".farm/journal.lock",
    ".farm/control/pause-nothing",
    ".farm/control/scale-h",
    ".farm/control/cancel-big",
    ".farm/supervisor-x.lock",
    ".farm/archive.lock",
    ".farm/credentials/anthropic-1.json",
    ".farm/credentials/anthropic-1.lock",
    ".farm/credentials/salt",
    ".farm/logs/big.1.out",
    ".farm/logs/hooks.log",
    ".farm/tmp/dead.out",
    ".farm/tmp/dead.stacks",
    ".farm/tmp/dead.progress",
    ARCHIVE,
    f"archive/.{ARCHIVE[8:]}.moving",
    "archive/.restoring",
    f".farm/archived/{ARCHIVE[8:]}.json",
)
#: where an ill may hold up all tasks, with a sentence
HOLDS_ALL = {"farm.toml", ".farm/tmp/dead.progress"}
DEEP = b"[" * 200_000 + b"]" * 200_000


def huge(path: Path) -> None:
    path.touch(0o600)
    try:
        os.truncate(path, 1 << 38)
    except OSError as error:
        pytest.skip(f"no sparse file of 256 GB: {error.strerror}")


def of(raw: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
        path.chmod(0o600)

    return make


ILLS: dict[str, Callable[[Path], None]] = {
    "huge": huge,
    "deep": of(DEEP),
    "deep inside": of(b'{"status":"succeeded","id":"big","value":' + DEEP + b"}\n"),
    "as deep as orjson reads": of(
        b'{"status":"succeeded","value":' + b"[" * 1010 + b"]" * 1010 + b"}\n"
    ),
    "a FIFO": os.mkfifo,
    "a folder": Path.mkdir,
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "not UTF-8": of(b'\xff\xfe{\x00"\x00status\xed\xa0\x80\n' * 50),
    "one long line": of(b"x" * (3 << 20)),
}
VERBS = (
    ("status",),
    ("status", "--json"),
    ("show", "big"),
    ("show", "big", "--json"),
    ("why", "big"),
    ("logs", "big", "--tail", "3"),
    ("check",),
    ("workers",),
    ("keys",),
    ("unlock", "big"),
    ("archive", "big"),
    ("restore", "big"),
    ("retry", "big"),
    ("cancel", "nothing"),
)


@pytest.fixture
def ill_farm(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> Farm:
    """A project with a task that ran and one that asks an agent that nobody set up."""
    Project.open(farm.root)
    (farm.root / "archive").mkdir()
    monkeypatch.chdir(farm.root)
    monkeypatch.setenv("ANTHROPIC_API_KEY_1", "sk-of-no-use-to-anybody")
    return farm


@pytest.fixture
def bounded() -> Iterator[None]:
    """No more memory than so much, for this process and what it starts."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def put(farm: Farm, place: str, ill: str) -> None:
    """Let this lie there, and beside it what makes farm read it."""
    path = farm.root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    ILLS[ill](path)
    if place == "prompt.txt":
        farm.write("farm.toml", '[agents.ask]\ncommand = ["cat"]\n')
        farm.drop("big", prompt_file="prompt.txt")
    elif place != "tasks/big.json":
        farm.drop("big", run="true")


@pytest.mark.parametrize("ill", ILLS)
@pytest.mark.parametrize("place", PLACES)
def test_verbs_end_with_a_sentence(
    ill_farm: Farm, run: Run, bounded: None, place: str, ill: str
) -> None:
    put(ill_farm, place, ill)

    for verb in VERBS:
        code, out, err = run(*verb)
        told = f"{' '.join(verb)}: {code}\n{out[-500:]}\n{err[-2000:]}"
        assert code in (0, 1, 2), told
        assert "Traceback" not in err, told
        assert "MemoryError" not in err, told


@pytest.mark.parametrize("ill", ["huge", "deep inside", "a FIFO"])
@pytest.mark.parametrize("place", PLACES)
def test_other_tasks_go_on(ill_farm: Farm, bounded: None, place: str, ill: str) -> None:
    put(ill_farm, place, ill)
    ill_farm.drop("good", run="true")

    code = ill_farm.work()

    said = ill_farm.said[-1]
    assert code in (0, 1, 2), said
    assert "Traceback" not in said
    if place not in HOLDS_ALL:
        assert ill_farm.status_of("good") == "succeeded", said


@pytest.mark.parametrize("ill", ILLS)
def test_doctor_ends(ill_farm: Farm, run: Run, bounded: None, ill: str) -> None:
    for place in set(PLACES) - HOLDS_ALL:
        (ill_farm.root / place).parent.mkdir(exist_ok=True)
        ILLS[ill](ill_farm.root / place)

    code, _, err = run("doctor")

    assert code in (0, 1, 2), err
    assert "Traceback" not in err
