"""A command of any runner: what it reads, and how it is asked to end."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from farm.bell import Bell
from farm.capture import Capture
from farm.command import Ended, Plan, execute
from farm.config import Settings
from farm.guard import Quiet
from farm.job import Job, Scratch, Secrets
from farm.life import Life
from farm.process_state import ProcessState
from farm.project import Project
from farm.states import Why
from farm.stop import Stop
from tests.attempts import begin, drop

Execute = Callable[..., Ended]

#: for ever; a tenth of a second has passed at each dot, however long that took
IDLE = "while :; do echo .; sleep 0.02; done"


@pytest.fixture
def run(
    project: Project, alive: Life, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Execute]:
    """Execute a script of the shell for a task that has half a second."""
    drop(project, "job", timeout=0.5)
    taken = begin(project, "job", alive, now=2000.0)
    log = Path(project.log_path("job", 1, "out"))

    def dots() -> float:
        return log.read_text().count(".") / 10 if log.exists() else 0.0

    monkeypatch.setattr(
        "farm.command.time", SimpleNamespace(monotonic=dots, time=time.time)
    )

    def run(script: str, **plan: object) -> Ended:
        job = Job(
            claim=taken,
            project=project,
            settings=Settings(grace=0.5),
            environ=os.environ,
            secrets=Secrets({}),
            scratch=Scratch("", ""),
            stop=Stop(Bell()),
            capture=Capture(project, "ada"),
            state=ProcessState("/"),
            worker="ada",
            quiet=Quiet(),
        )
        argv = ["/bin/sh", "-c", script]
        return execute(job, Plan(argv, os.environ, project.root, **plan))  # type: ignore[arg-type]

    with taken.hold:
        yield run


def lines(path: str | None) -> list[str]:
    """What it has said, beside its dots."""
    said = Path(path).read_text().splitlines() if path else []
    return [line for line in said if line != "."]


def test_a_command_reads_what_it_is_given(run: Execute, tmp_path: Path) -> None:
    (tmp_path / "prompt").write_text("fix it\n")
    with (tmp_path / "prompt").open("rb") as prompt:
        ended = run("cat", stdin=prompt.fileno())

    assert (ended.why, ended.exit.code) == (Why.SUCCEEDED, 0)
    assert lines(ended.stdout) == ["fix it"]


def test_else_there_is_nothing_to_read(run: Execute) -> None:
    assert run("cat").stdout is None


def test_it_is_asked_to_end_by_each_signal_in_turn(run: Execute) -> None:
    hears = "trap 'echo int' INT; trap 'echo term; exit 7' TERM; echo here"
    signals = (signal.SIGINT, signal.SIGTERM)
    ended = run(f"{hears}; {IDLE}", signals=signals)

    assert lines(ended.stdout) == ["here", "int", "term"]
    assert (ended.why, ended.exit.code) == (Why.TIMED_OUT, 7)


def test_who_hears_none_of_them_is_killed(run: Execute) -> None:
    ended = run(f"trap '' INT TERM; {IDLE}")

    assert (ended.why, ended.exit.signal) == (Why.TIMED_OUT, "SIGKILL")
    assert ended.error is not None
    assert ended.error.kind == "timeout"
