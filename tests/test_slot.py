"""One place for a worker, as its supervisor looks after it."""

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import farm.slot
from farm import process, rescue
from farm.claim import Holder
from farm.config import Settings
from farm.health import cause_of_death, write_health
from farm.life import Life
from farm.project import Project
from farm.slot import Slot

NOW = 1000.0  # monotonic seconds


@pytest.fixture
def life(project: Project) -> Iterator[Life]:
    born = Life.begin(project, "ada", time.time(), 2.0)
    yield born
    born.end()


def test_what_is_written_about_the_dead_is_buried_with_them(
    project: Project, life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_late(*args: Any) -> None:
        rescue.sweep(project, Holder.passing(), time.time())
        write_health(*args)

    monkeypatch.setattr(farm.slot, "write_health", write_late)
    killed: Any = SimpleNamespace(pid=os.getpid(), poll=lambda: -9)
    slot = Slot(0, project, Settings())
    slot.popen, slot.name = killed, life.name
    life.forget()
    slot.reap(NOW, is_last=True)
    cause = cause_of_death(project, life.name)
    rescue.sweep(project, Holder.passing(), time.time())

    assert cause.startswith("was killed by SIGKILL")
    assert list(Path(project.workers).iterdir()) == []


def test_nothing_is_written_about_who_is_buried(
    project: Project, life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: Any = SimpleNamespace(pid=os.getpid(), poll=lambda: -9)
    slot = Slot(0, project, Settings())
    slot.popen, slot.name = killed, life.name
    life.forget()
    really_lock = fcntl.flock

    def bury_first(fd: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", really_lock)
        rescue.sweep(project, Holder.passing(), time.time())
        really_lock(fd, how)

    monkeypatch.setattr(fcntl, "flock", bury_first)
    slot.reap(NOW, is_last=True)

    assert list(Path(project.workers).iterdir()) == []


def test_only_of_a_silent_worker_it_is_asked_whether_it_computes(
    project: Project, life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(process, "stat", asked.append)
    worker: Any = SimpleNamespace(pid=os.getpid())
    slot = Slot(0, project, Settings())
    slot.popen, slot.name = worker, life.name
    for after in (2.0, 4.0):
        life.beat()
        slot.look_after(NOW + after, 0)
    while_it_beat = list(asked)
    slot.look_after(NOW + 6.0, 0)

    assert while_it_beat == []
    assert asked == [worker.pid]


def test_while_everybody_stood_still_nobody_was_silent(
    project: Project, life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "stat", lambda _: None)
    asked: list[bool] = []
    worker: Any = SimpleNamespace(
        pid=os.getpid(), send_signal=lambda _: asked.append(True)
    )
    slot = Slot(0, project, Settings(heartbeat=2.0, heartbeat_timeout=60.0))
    slot.popen, slot.name = worker, life.name
    life.beat()
    after = [0.0, 2.0, *(1000.0 + 2.0 * n for n in range(40))]
    ends = [s for s in after if not asked and slot.look_after(NOW + s, 0)]

    assert ends == [1000.0 + 54.0]
