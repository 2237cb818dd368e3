"""`scripts/run-agents`, but for its environment: in a copy, from its start to its end."""

import base64
import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.driver import Farm
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

SAMPLE = Path(__file__).parent.parent.parent / "sample_project" / "agents"
LEFT = shutil.ignore_patterns(".farm", "archive", "book.txt", "*.result.json")
LONGEST = 55.0  # seconds; faulthandler ends a test after 60
PART = 12  # letters of a key


@pytest.fixture
def sample(farm: Farm) -> Farm:
    shutil.copytree(SAMPLE, farm.root, dirs_exist_ok=True, ignore=LEFT)
    return farm


def start(sample: Farm) -> "subprocess.Popen[bytes]":
    return sample.start_python("-m", "tests.provider.show", str(sample.root))


def supervisor(show: "subprocess.Popen[bytes]") -> psutil.Process:
    """The one of the processes that it starts that stays."""

    def found() -> list[psutil.Process]:
        children = psutil.Process(show.pid).children()
        return [child for child in children if "supervise" in words(child)]

    return wait_until(found)[0]


def words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def results(sample: Farm) -> dict[str, dict[str, Any]]:
    found = [json.loads(p.read_bytes()) for p in sample.tasks.rglob("*.result.json")]
    return {result["id"]: result for result in found}


def forms(secret: str) -> list[bytes]:
    """Every part of a key that is long enough to tell, and the key in base64."""
    raw = secret.encode()
    parts = [raw[at : at + PART] for at in range(len(raw) - PART + 1)]
    return [*parts, base64.b64encode(raw).rstrip(b"=")]


def test_the_sample_answers_every_prompt_while_keys_rotate_and_rest(
    sample: Farm,
) -> None:
    paths = sample.tasks.rglob("*.json")
    tasks = {str(path.relative_to(sample.tasks).with_suffix("")) for path in paths}
    show = start(sample)
    environ = supervisor(show).environ()
    keys = [v for name, v in environ.items() if name.startswith("ANTHROPIC_API_KEY_")]
    assert show.wait(LONGEST) == 0
    ended = results(sample)
    assert set(ended) == tasks
    assert {result["status"] for result in ended.values()} == {"succeeded"}
    assert "I was given a key." in (sample.root / "book.txt").read_text()
    asked = {r["asked"]["credential"] for r in ended.values() if "asked" in r}
    assert len(asked) > 1
    records = sample.state.glob("credentials/pool-*.json")
    refused = [json.loads(p.read_bytes()).get("last_error", "") for p in records]
    assert len([words for words in refused if "429" in words]) == 2
    assert "cooling" in sample.logs[0].read_text()
    files = [path for path in sample.root.rglob("*") if path.is_file()]
    assert len(keys) == 3
    holders = [
        path.name
        for path in files
        if any(form in path.read_bytes() for key in keys for form in forms(key))
    ]
    assert holders == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_sample_that_is_interrupted_leaves_nothing_running(
    sample: Farm, number: int
) -> None:
    show = start(sample)
    farm = supervisor(show)
    wait_until(lambda: results(sample))
    crew = [farm, *farm.children(recursive=True)]
    show.send_signal(number)
    assert show.wait(LONGEST) == 130
    _, alive = psutil.wait_procs(crew, timeout=10)
    assert alive == []
