"""One place for a worker, as its supervisor looks after it."""

import os
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from farm import process
from farm.config import Settings
from farm.life import Life
from farm.project import Project
from farm.slot import Slot

NOW = 1000.0  # monotonic seconds


@pytest.fixture
def life(project: Project) -> Iterator[Life]:
    born = Life.begin(project, "ada", time.time(), 2.0)
    yield born
    born.end()


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
