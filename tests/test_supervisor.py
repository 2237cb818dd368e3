"""A supervisor by itself, without a worker: when it wakes up, looks and counts."""

import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from farm import disk, queue
from farm import supervisor as module
from farm.cadence import LIVE_SHARE, REST, SHARE, TICK
from farm.claim import Holder
from farm.config import Settings
from farm.control import give, scale_name
from farm.crew import Running
from farm.journal import Entry, Journal
from farm.project import Project
from farm.report import Report
from farm.slot import Slot
from farm.states import State, Status, Why
from farm.supervisor import BUSY_LOOK, FIRST_LOOK, Supervisor

HEARTBEAT = 2.0
SETTINGS = Settings(workers=1, heartbeat=HEARTBEAT)


class Remembering:
    """A screen that shows nothing and forgets nothing."""

    pause = 0.5
    is_live = False

    def __init__(self) -> None:
        self.shown: list[Report] = []
        self.told: list[str] = []

    def event(self, text: str) -> None: ...
    def ended(self, entries: Sequence[Entry]) -> None:
        self.told += [entry.id for entry in entries]

    def show(self, report: Report) -> None:
        self.shown.append(report)


class Alone:
    """A supervisor that was told to keep no worker, and its clock."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.screen = Remembering()
        self.journal = Journal(project, "ada")
        give(project, scale_name(Holder.passing().who.host), "0")
        self.there = Supervisor(project, SETTINGS, self.screen, until_done=False)
        self.began = time.monotonic()

    def drop(self, *ids: str) -> None:
        for task_id in ids:
            Path(self.project.task_path(task_id)).write_text('{"run": "true"}')

    def end(self, *ids: str, status: Status = Status.SUCCEEDED) -> None:
        """Somebody ends these tasks, and notes it."""
        for task_id in ids:
            path = self.project.result_path(task_id)
            Path(path).write_text(f'{{"status": "{status}"}}')
            why = Why.SUCCEEDED if status is Status.SUCCEEDED else Why.FAILED
            file = disk.identity_of(path)
            self.journal.append(
                Entry(task_id, 1000.0, "ada", why, status, 1, file=file)
            )

    def tick(self, after: float = 0.0) -> float:
        """Wake up so many seconds after the start: how long it then sleeps."""
        self.there.tick(self.began + after)
        return self.there.patience(self.began + after)

    def counts(self) -> tuple[int, int, int]:
        """How many tasks there are, have succeeded, are ready, as it was shown last."""
        report = self.screen.shown[-1]
        return (
            report.total,
            report.counts[Status.SUCCEEDED],
            report.counts[State.READY],
        )


@pytest.fixture
def alone(project: Project, monkeypatch: pytest.MonkeyPatch) -> Alone:
    """In a file system whose clock ticks after each change, before the next look."""
    monkeypatch.setattr(disk, "has_settled", lambda *_, **__: True)
    return Alone(project)


# -- waking up -------------------------------------------------------------------------


def test_an_idle_one_wakes_up_with_the_hearts(alone: Alone) -> None:
    naps = [alone.tick(after) for after in (0.0, HEARTBEAT, 2 * HEARTBEAT)]

    assert naps == pytest.approx([HEARTBEAT] * 3)


def test_while_tasks_end_it_says_so_more_often(alone: Alone) -> None:
    alone.drop("a")
    alone.tick()
    alone.end("a")

    assert alone.tick(1.0) == pytest.approx(TICK)
    assert alone.tick(1.5) == pytest.approx(HEARTBEAT - 1.5)


def test_a_worker_that_is_to_start_soon_is_not_slept_over(
    alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(slot: Slot, now: float, *_: object, **__: object) -> None:
        slot.start_at = now + 0.3
        raise OSError

    alone.tick()
    monkeypatch.setattr(Slot, "start_if_due", refuse)
    give(alone.project, scale_name(Holder.passing().who.host), "1")

    assert [alone.tick(2.0), alone.tick(2.5)] == pytest.approx([TICK, 0.3])


# -- looking ---------------------------------------------------------------------------


@pytest.mark.parametrize(("files", "seen"), [(3, 1), (4, 0)])
def test_a_large_folder_is_left_to_the_workers_at_first(
    project: Project, monkeypatch: pytest.MonkeyPatch, files: int, seen: int
) -> None:
    monkeypatch.setattr(module, "SMALL", 3)
    folder = Path(project.tasks, "t")
    folder.mkdir()
    for number in range(files - 1):  # the folder is a name, too
        (folder / f"{number}.json").write_text('{"run": "true"}')
    alone = Alone(project)
    alone.tick()
    at_first = len(alone.screen.shown)
    alone.tick(FIRST_LOOK + 1.0)

    assert at_first == seen
    assert alone.counts() == (files - 1, 0, files - 1)


def test_while_tasks_end_a_large_folder_is_left_to_the_workers_for_longer(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SMALL", 0)
    Path(project.task_path("a")).write_text('{"run": "true"}')
    alone = Alone(project)
    alone.end("b")
    alone.tick(1.0)
    alone.tick(FIRST_LOOK + 1.0)
    before = len(alone.screen.shown)
    alone.tick(BUSY_LOOK + 1.0)

    assert [before, len(alone.screen.shown)] == [0, 1]


def test_of_more_tasks_than_workers_read_ahead_it_reads_a_few(
    alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "LOOK_AHEAD", 3)
    monkeypatch.setattr(queue, "GLANCE", 1)
    alone.drop("a", "b", "c", "d")
    alone.tick()

    assert alone.counts() == (4, 0, 4)
    assert alone.screen.shown[-1].unread == 3


@pytest.mark.parametrize("is_live", [True, False])
def test_after_a_long_look_the_next_comes_sooner_where_somebody_watches(
    alone: Alone, monkeypatch: pytest.MonkeyPatch, *, is_live: bool
) -> None:
    clock = itertools.count(alone.began, 1.0)  # a look takes a second
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    alone.screen.is_live = is_live
    alone.tick()
    ended = next(clock) - 1.0
    share = LIVE_SHARE if is_live else SHARE

    assert alone.there._looks.if_moved == pytest.approx(ended + share)


def test_while_nothing_moves_it_does_not_look(alone: Alone) -> None:
    alone.drop("a")
    for after in itertools.takewhile(lambda t: t < REST, itertools.count(0.0, 2.0)):
        alone.tick(after)
    looks = len(alone.screen.shown)
    alone.drop("b")
    alone.tick(REST)

    assert looks == 1
    assert alone.counts() == (2, 0, 2)


def test_what_may_move_unseen_is_looked_at_again(
    alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "has_settled", lambda *_, **__: False)
    for after in (0.0, REST):
        alone.tick(after)

    assert len(alone.screen.shown) == 2


@pytest.mark.parametrize(("is_live", "looks"), [(True, 2), (False, 1)])
def test_only_a_live_screen_wants_to_see_for_how_long_tasks_run(
    alone: Alone, *, is_live: bool, looks: int
) -> None:
    alone.drop("a")
    alone.screen.is_live = is_live
    alone.tick()
    run = Running("a", "ada", 1, "2026-11-21T12:00:00Z", 60.0)
    alone.there._report = replace(alone.screen.shown[-1], running=[run])

    nap = alone.there.patience(alone.there._looks.if_moved - 0.1)
    alone.tick(REST / 2)

    assert (nap == pytest.approx(0.1)) is is_live
    assert len(alone.screen.shown) == looks


def test_a_retry_is_looked_at(alone: Alone) -> None:
    alone.drop("a")
    alone.tick()
    alone.journal.append(Entry("a", 1000.0, "ada", Why.FAILED, None, 1))
    alone.tick(1.0)
    alone.tick(REST / 2)

    assert len(alone.screen.shown) == 3


def test_at_its_end_it_looks_only_if_something_moved_since(alone: Alone) -> None:
    alone.drop("a")
    alone.tick()
    alone.there._look_at_last()
    without_need = len(alone.screen.shown)
    alone.drop("b")
    alone.there._look_at_last()

    assert without_need == 1
    assert alone.counts() == (2, 0, 2)


def test_what_workers_did_is_told_once_and_in_order_whoever_is_read_first(
    alone: Alone,
) -> None:
    alone.drop("check", "merge", "last")
    alone.tick()
    others = [Journal(alone.project, name) for name in ("a", "b", "c", "z")]
    for number, journal in enumerate(others):
        journal.append(Entry(f"t{number}", 2000.0 - number, "x", Why.FAILED, None, 1))
    alone.tick(1.0)
    others[0].append(Entry("check", 1990.0, "x", Why.FAILED, None, 1))
    alone.tick(2.0)
    alone.tick(3.0)

    assert alone.screen.told == ["check", "t3", "t2", "t1", "t0"]


# -- counting --------------------------------------------------------------------------


@pytest.fixture
def long(alone: Alone, monkeypatch: pytest.MonkeyPatch) -> Alone:
    """One that has looked once at four tasks, and will not look again for long."""
    alone.drop("a", "b", "c", "d")
    alone.screen.pause = 1000.0
    alone.tick()
    return alone


def test_between_two_looks_the_journals_move_the_counts(long: Alone) -> None:
    long.end("a", "b")
    long.tick(1.0)
    long.tick(1.5)
    first = long.counts()
    long.end("c")
    long.end("d", status=Status.FAILED)
    long.tick(2.0)
    long.tick(2.5)

    assert [first, long.counts()] == [(4, 2, 2), (4, 3, 0)]
    assert long.screen.shown[-1].counts[Status.FAILED] == 1


def test_what_ended_while_it_looked_is_not_counted_twice(
    alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone.drop("a", "b")
    alone.screen.pause = 1000.0
    look = alone.there._survey.look

    def end_and_look(*when: Any) -> Report:
        alone.end("a")
        return look(*when)

    monkeypatch.setattr(alone.there._survey, "look", end_and_look)
    alone.tick()
    alone.tick(1.0)

    assert alone.counts() == (2, 1, 1)


def test_a_task_that_is_told_of_twice_is_counted_once(long: Alone) -> None:
    for after in (1.0, 2.0, 3.0):
        long.end("a")
        long.tick(after)

    assert long.counts() == (4, 1, 3)


def test_what_was_dropped_since_the_last_look_is_counted_when_it_ends(
    long: Alone,
) -> None:
    long.drop("e")
    long.end("a", "b", "c", "d", "e")
    long.tick(1.0)
    long.tick(1.5)

    assert long.counts() == (5, 5, 0)
