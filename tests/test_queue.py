"""The queue: what is ready, and what the rest waits for."""

import errno
import json
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from farm import disk, register
from farm import project as project_module
from farm import queue as module
from farm.journal import Entry, Journal
from farm.needs import MOST_IN_CIRCLE
from farm.project import Project
from farm.queue import LOOK_AHEAD, Queue
from farm.refused import BLOCKED_PAUSE, LOOK_AGAIN
from farm.standing import (
    FEW,
    SETTLE,
    Doomed,
    Ready,
    Stripe,
    Waiting,
)
from farm.states import Status, Why

NOW = 1_000_000.0  # POSIX seconds
TICK = 50.0  # monotonic seconds


class Folder:
    """Drops tasks and results; asks one queue about them."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.queue = Queue(project)

    def drop(self, task_id: str, **task: Any) -> None:
        self.write(task_id, json.dumps({"run": "make"} | task))

    def write(self, task_id: str, text: str) -> None:
        path = Path(self.project.task_path(task_id))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def result(self, task_id: str, status: str = "succeeded", **more: Any) -> None:
        path = Path(self.project.result_path(task_id))
        path.write_text(json.dumps({"status": status} | more))

    def order(self, name: str) -> Path:
        path = Path(self.project.control, name)
        path.touch()
        return path

    def look(self, now: float = NOW, tick: float = TICK) -> list[str]:
        """What is ready after a look at the whole folder, best first."""
        self.queue.refresh(now, tick)
        return self.queue.ready_ids()

    def why(self, task_id: str) -> str:
        return self.queue.waiting[task_id].why


@pytest.fixture
def folder(project: Project) -> Folder:
    return Folder(project)


# -- ready and over -------------------------------------------------------------------


def test_tasks_in_folders_are_ready_too(folder: Folder) -> None:
    folder.drop("b")
    folder.drop("a/deep/down")

    assert folder.look() == ["a/deep/down", "b"]


def test_next_gives_each_task_once(folder: Folder) -> None:
    folder.drop("a")
    folder.drop("b")
    folder.look()
    given = [folder.queue.next() for _ in range(3)]

    assert [item.look.id if item else None for item in given] == ["a", "b", None]
    assert folder.look() == ["a", "b"]


def test_a_task_with_a_result_is_over(folder: Folder) -> None:
    folder.drop("a")
    folder.result("a", "failed")

    assert folder.look() == []


def test_a_task_whose_result_was_deleted_is_ready_again(folder: Folder) -> None:
    folder.drop("a")
    folder.result("a", "failed")
    folder.look()
    Path(folder.project.result_path("a")).unlink()

    assert folder.look() == ["a"]


def test_a_task_file_that_was_deleted_is_forgotten(folder: Folder) -> None:
    folder.drop("a")
    folder.look()
    Path(folder.project.task_path("a")).unlink()

    assert folder.look() == []


def test_a_look_says_whether_a_folder_had_to_be_listed(folder: Folder) -> None:
    folder.drop("a")
    os.utime(folder.project.tasks, (NOW - 60, NOW - 60))
    looks = [folder.queue.refresh(NOW, TICK) for _ in range(2)]
    folder.drop("b")

    assert looks == [True, False]
    assert folder.queue.refresh(NOW, TICK)


def test_a_look_makes_up_for_one_that_failed(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_anything: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    folder.drop("a")
    folder.drop("b")
    folder.result("b", "invalid", sha256="of other bytes")
    os.utime(folder.project.tasks, (NOW - 60, NOW - 60))
    for step in ("farm.results.Results._files", "farm.queue.read_look"):
        monkeypatch.setattr(step, fail)
        with pytest.raises(OSError, match="Too many open files"):
            folder.look()
        monkeypatch.undo()

    assert folder.look() == ["a", "b"]


def test_names_that_are_never_tasks_are_left_alone(folder: Folder) -> None:
    for name in (".hidden.json", "notes.txt", "x.result.json", ".git/a.json"):
        path = Path(folder.project.tasks, name)
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")

    assert folder.look() == []
    assert folder.queue.waiting == {}


# -- priority among very many -----------------------------------------------------------


@pytest.fixture
def few_ahead(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(module, "LOOK_AHEAD", 100)
    return 100


def test_the_last_of_ten_thousand_ready_tasks_comes_next_by_priority(
    folder: Folder,
) -> None:
    for number in range(LOOK_AHEAD):
        Path(folder.project.task_path(f"t{number:05}")).write_bytes(b'{"run": "a"}')
    folder.look()
    folder.queue.next()  # a worker runs one of them
    folder.drop("z-dropped-last", priority=10)
    folder.look()

    first = folder.queue.next()

    assert isinstance(first, Ready)
    assert first.look.id == "z-dropped-last"


def test_an_event_brings_an_urgent_task_to_the_front_of_a_full_queue(
    folder: Folder, few_ahead: int
) -> None:
    for number in range(few_ahead + 5):
        folder.drop(f"t{number:03}")
    folder.look()
    folder.drop("urgent", priority=10)
    folder.queue.touch(["urgent"], NOW, TICK)

    assert folder.queue.ready_ids()[0] == "urgent"


def test_a_full_queue_says_how_many_files_it_left_unread(
    folder: Folder, few_ahead: int
) -> None:
    for number in range(few_ahead + 5):
        folder.drop(f"t{number:03}")

    assert len(folder.look()) == few_ahead
    assert folder.queue.unread == 5


def test_a_full_queue_reads_its_own_stripe_first(
    folder: Folder, few_ahead: int
) -> None:
    stripe = Stripe(0, 2)
    names = [f"t{number:03}" for number in range(2 * few_ahead)]
    for name in names:
        folder.drop(name)
    folder.queue.refresh(NOW, TICK, stripe)
    own = [name for name in names if stripe.owns(name)][:few_ahead]

    assert folder.queue.ready_ids()[: len(own)] == own


def test_what_its_own_worker_has_ended_meanwhile_is_not_given_to_others(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FEW", 0)
    names = [f"t{number}" for number in range(20)]
    for name in names:
        folder.drop(name)
    folder.queue.refresh(NOW, TICK, Stripe(0, 2))
    for name in names:
        folder.result(name)
    given = []
    while (item := folder.queue.next()) is not None:
        given.append(item.look.id)

    assert given
    assert all(Stripe(0, 2).owns(name) for name in given)
    assert folder.look() == []


@pytest.mark.parametrize(("more", "in_order"), [(0, True), (1, False)])
def test_few_tasks_are_taken_in_one_order_by_all_workers(
    folder: Folder, more: int, *, in_order: bool
) -> None:
    names = [f"t{number}" for number in range(1, FEW + more + 1)]
    for name in names:
        folder.drop(name)
    folder.queue.refresh(NOW, TICK, Stripe(1, 3))

    assert (folder.queue.ready_ids() == names) is in_order


def test_of_few_tasks_what_others_have_ended_meanwhile_is_not_given(
    folder: Folder,
) -> None:
    for name in ("a", "b", "c"):
        folder.drop(name)
    folder.queue.refresh(NOW, TICK, Stripe(0, 2))
    folder.result("a")
    folder.result("b")
    item = folder.queue.next()

    assert item is not None
    assert item.look.id == "c"


def test_what_is_named_by_events_at_once_comes_in_order_of_names(
    folder: Folder,
) -> None:
    folder.look()
    names = [f"t{number}" for number in range(1, 13)]
    for name in names:
        folder.drop(name)
    folder.queue.touch(sorted(names), NOW, TICK)

    assert folder.queue.ready_ids() == names


def test_what_was_left_unread_comes_when_there_is_room(
    folder: Folder, few_ahead: int
) -> None:
    for number in range(few_ahead + 5):
        folder.drop(f"t{number:03}")
    done = folder.look()
    for task_id in done:
        folder.result(task_id)
    folder.look()  # sees that there is room

    assert folder.look() == [f"t{few_ahead + n:03}" for n in range(5)]


# -- time ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("now", "ready"), [(NOW, []), (NOW + 3600, ["a"])])
def test_a_task_waits_for_its_time(folder: Folder, now: float, ready: object) -> None:
    folder.drop("a", not_before="1970-01-12T14:46:40Z")  # NOW + 3600

    assert folder.look(now) == ready


def test_what_time_alone_ends_is_due(folder: Folder) -> None:
    folder.drop("a", not_before="1970-01-12T14:46:40Z")
    folder.drop("b", needs=["nobody"])
    folder.look()

    assert folder.queue.due() == NOW + 3600
    assert folder.queue.outlook().timed
    assert list(folder.queue.outlook().stuck) == ["b"]


@pytest.mark.parametrize(("later", "ready"), [(9.9, []), (10.0, ["a"])])
def test_a_retry_waits_for_its_time(
    folder: Folder, later: float, ready: list[str]
) -> None:
    folder.drop("a")
    folder.look()
    folder.queue.refused("a", NOW, TICK, until=NOW + 10)

    assert folder.look(NOW + later, TICK + later) == ready


def test_when_the_clock_is_set_the_ledgers_are_asked_who_must_wait(
    folder: Folder,
) -> None:
    folder.drop("a")
    folder.look()
    folder.queue.refused("a", NOW, TICK, until=NOW + 10)

    assert folder.look(NOW - 7200, TICK + 1) == ["a"]


def test_a_held_task_is_tried_again_a_second_later(folder: Folder) -> None:
    folder.drop("a")
    folder.look()
    folder.queue.refused("a", NOW, TICK)
    at_once = folder.look(tick=TICK)
    held = (folder.why("a"), folder.queue.held(), folder.queue.outlook())
    later = folder.look(tick=TICK + LOOK_AGAIN)

    assert (at_once, later) == ([], ["a"])
    assert held[:2] == ("another worker is running it", ["a"])
    assert held[2].held
    assert not held[2].timed


REFUSED: dict[str, Callable[[Queue], object]] = {
    "held": lambda queue: queue.refused("a", NOW, TICK),
    "delayed": lambda queue: queue.refused("a", NOW, TICK, until=NOW + 10),
    "blocked": lambda queue: queue.block("a", "move it away", NOW, TICK),
    "changed": lambda queue: queue.forget("a", TICK),
    "failed": lambda queue: queue.ended("a", NOW + 10, NOW, TICK),
}


@pytest.mark.parametrize("refuse", REFUSED.values(), ids=REFUSED)
def test_whatever_refuses_a_claim_it_is_known_when_to_look_again(
    folder: Folder, refuse: Callable[[Queue], object]
) -> None:
    folder.drop("a")
    folder.look()
    folder.queue.next()
    refuse(folder.queue)
    at = folder.queue.next_look
    folder.queue.look_again(NOW, TICK)
    too_early = folder.queue.ready_ids()
    assert at is not None
    folder.queue.look_again(NOW + at - TICK, at)

    assert too_early == []
    assert folder.queue.ready_ids() == ["a"]
    assert folder.queue.next_look is None


@pytest.mark.parametrize("refuse", REFUSED.values(), ids=REFUSED)
def test_a_task_that_ended_is_not_looked_at_again(
    folder: Folder, refuse: Callable[[Queue], object]
) -> None:
    folder.drop("a")
    folder.look()
    refuse(folder.queue)
    folder.result("a")
    folder.queue.touch(["a"], NOW, TICK)
    folder.queue.look_again(NOW + 100, TICK + 100)

    assert folder.queue.ready_ids() == []
    assert folder.queue.next_look is None


@pytest.mark.parametrize("bad", ["not JSON", "cancelled"])
def test_what_can_only_end_waits_as_well_while_another_holds_it(
    folder: Folder, bad: str
) -> None:
    if bad == "cancelled":
        folder.drop("a")
        folder.order("cancel-a")
    else:
        folder.write("a", bad)
        folder.look()
    first = folder.look(tick=TICK + SETTLE)
    folder.queue.next()
    folder.queue.refused("a", NOW, TICK + SETTLE)

    assert first == ["a"]
    assert folder.queue.next() is None
    assert folder.look(tick=TICK + SETTLE + LOOK_AGAIN) == ["a"]


def test_what_many_refused_one_after_the_other_is_one_look(folder: Folder) -> None:
    for task_id in ("a", "b"):
        folder.drop(task_id)
    folder.look()
    folder.queue.refused("a", NOW, TICK)
    folder.queue.refused("b", NOW, TICK + 0.05)
    folder.queue.look_again(NOW, TICK + LOOK_AGAIN)

    assert sorted(folder.queue.ready_ids()) == ["a", "b"]


def test_a_task_whose_lock_was_freed_is_tried_at_once(folder: Folder) -> None:
    folder.drop("a")
    folder.look()
    folder.queue.next()
    folder.queue.refused("a", NOW, TICK)
    folder.queue.freed("a", NOW, TICK)

    assert folder.queue.ready_ids() == ["a"]


def test_other_bytes_do_not_wait_for_the_delay_of_the_old_ones(folder: Folder) -> None:
    folder.drop("a")
    folder.look()
    folder.queue.refused("a", NOW, TICK, until=NOW + 1000)
    before = folder.look()
    folder.drop("a", labels=["new"])

    assert (before, folder.look()) == ([], ["a"])


def test_a_task_of_ours_that_is_retried_waits_for_its_time(folder: Folder) -> None:
    folder.drop("a")
    folder.look()
    folder.queue.ended("a", NOW + 10, NOW, TICK)

    assert folder.look(NOW + 5, TICK + 5) == []
    assert folder.look(NOW + 10, TICK + 10) == ["a"]


def test_other_bytes_do_not_wait_for_the_failure_of_those_that_ran(
    folder: Folder,
) -> None:
    folder.drop("a")
    folder.look()
    folder.drop("a", labels=["edited while it ran"])
    folder.queue.ended("a", NOW + 1000, NOW, TICK)

    assert folder.look() == ["a"]


def test_an_empty_folder_is_quiet(folder: Folder) -> None:
    folder.look()

    assert folder.queue.outlook().quiet
    assert folder.queue.due() is None


def test_a_waiting_file_that_was_changed_within_a_tick_is_read_again(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "has_settled", lambda *_, **__: False)
    folder.drop("a", not_before="1970-01-12T14:46:40Z")  # NOW + 3600
    before = folder.look()
    same = folder.project.task_signature("a")
    monkeypatch.setattr(project_module, "signature_of", lambda _: same)
    folder.drop("a", not_before="1970-01-12T13:46:40Z")  # as many letters

    assert (before, folder.look()) == ([], ["a"])


def test_a_waiting_file_that_is_read_again_and_is_the_same_keeps_its_delay(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "has_settled", lambda *_, **__: False)
    folder.drop("a")
    folder.look()
    folder.queue.refused("a", NOW, TICK, until=NOW + 10)

    assert folder.look() == []
    assert folder.queue.next_look == TICK + 10


# -- pauses ---------------------------------------------------------------------------------


def test_a_pause_holds_everything_until_it_is_removed(folder: Folder) -> None:
    folder.drop("a")
    file = folder.order("pause")
    paused = folder.look()
    why = folder.why("a")
    file.unlink()

    assert (paused, why) == ([], "paused by .farm/control/pause")
    assert folder.look() == ["a"]


def test_a_pause_of_a_glob_holds_what_matches(folder: Folder) -> None:
    folder.drop("a/1")
    folder.drop("b/1")
    folder.order("pause-a%2F*")

    assert folder.look() == ["b/1"]
    assert "pause-a" in folder.why("a/1")


def test_a_paused_task_is_stuck_and_not_timed(folder: Folder) -> None:
    folder.drop("a")
    folder.order("pause")
    folder.look()

    assert folder.queue.outlook().quiet
    assert list(folder.queue.outlook().stuck) == ["a"]


# -- needs ------------------------------------------------------------------------------------


def test_a_task_waits_for_what_it_needs(folder: Folder) -> None:
    folder.drop("a", needs=["b"])
    folder.drop("b")

    assert folder.look() == ["b"]
    assert folder.why("a") == "needs b"


def test_a_task_waits_for_what_nobody_dropped_and_says_so(folder: Folder) -> None:
    folder.drop("a", needs=["b"])
    folder.look()

    assert folder.why("a") == "needs b (not in tasks/)"


def test_what_needed_one_of_ours_is_ready_at_once(folder: Folder) -> None:
    folder.drop("a", needs=["b"])
    folder.drop("b")
    folder.look()
    folder.queue.next()
    folder.result("b")
    folder.queue.ended("b", None, NOW, TICK)

    assert folder.queue.ready_ids() == ["a"]


def test_a_task_whose_need_failed_is_skipped_with_the_reason(folder: Folder) -> None:
    folder.drop("a", needs=["b"])
    folder.drop("b")
    folder.result("b", "failed")
    folder.look()

    item = folder.queue.next()

    assert isinstance(item, Doomed)
    assert (item.look.id, item.status) == ("a", Status.SKIPPED)
    assert item.error.message == "it needs b, which ended failed"


def test_what_needed_one_of_ours_that_failed_is_skipped_at_once(folder: Folder) -> None:
    folder.drop("a", needs=["b"])
    folder.drop("b")
    folder.look()
    folder.queue.next()
    folder.result("b", "failed")
    folder.queue.ended("b", None, NOW, TICK)

    item = folder.queue.next()

    assert isinstance(item, Doomed)
    assert item.status is Status.SKIPPED


def test_a_result_that_appears_elsewhere_is_seen_by_an_event(folder: Folder) -> None:
    folder.drop("a", needs=["b"])
    folder.drop("b")
    folder.look()
    folder.result("b")
    folder.queue.touch(["b"], NOW, TICK)

    assert folder.queue.ready_ids() == ["a"]


def test_a_glob_of_needs_is_ready_by_event_when_its_last_member_ends(
    folder: Folder,
) -> None:
    folder.drop("join", needs=["t/*"])
    folder.drop("t/1")
    folder.look()
    folder.queue.next()
    folder.result("t/1")
    folder.queue.ended("t/1", None, NOW, TICK)
    folder.look()

    assert folder.queue.ready_ids() == ["join"]


def test_needs_that_went_away_meanwhile_no_longer_stand(folder: Folder) -> None:
    folder.drop("a", needs=["b"])
    folder.drop("b")
    folder.result("b")
    folder.look()
    item = folder.queue.next()
    assert isinstance(item, Ready)
    stood = folder.queue.still_ready(item.look)
    folder.result("b", "failed")

    assert (stood, folder.queue.still_ready(item.look)) == (True, False)


def test_an_event_about_a_file_that_is_gone_forgets_it(folder: Folder) -> None:
    folder.drop("a")
    folder.look()
    Path(folder.project.task_path("a")).unlink()
    folder.queue.touch(["a"], NOW, TICK)

    assert folder.queue.ready_ids() == []


def test_an_event_about_a_new_file_makes_it_ready(folder: Folder) -> None:
    folder.drop("b")
    folder.look()
    folder.drop("a")
    folder.queue.touch(["a"], NOW, TICK)

    assert sorted(folder.queue.ready_ids()) == ["a", "b"]


def test_an_event_named_twice_gives_the_task_once(folder: Folder) -> None:
    folder.drop("a")
    folder.look()
    folder.queue.touch(["a", "a"], NOW, TICK)

    assert folder.queue.ready_ids() == ["a"]


def test_an_event_about_a_task_that_can_only_end_gives_it_once(folder: Folder) -> None:
    folder.drop("a", needs=["b"])
    folder.drop("b")
    folder.result("b", "failed")
    folder.look()
    folder.queue.touch(["a"], NOW, TICK)

    assert folder.queue.ready_ids() == ["a"]


# -- circles --------------------------------------------------------------------------------


def doomed(folder: Folder) -> list[Doomed]:
    found = []
    while item := folder.queue.next():
        assert isinstance(item, Doomed)
        found.append(item)
    return sorted(found, key=lambda item: item.look.id)


def settled(folder: Folder) -> list[Doomed]:
    """What can only end, once every refused file has stood still."""
    folder.look()
    folder.look(tick=TICK + SETTLE)
    return doomed(folder)


def test_a_circle_is_invalid_with_each_member_named(folder: Folder) -> None:
    for task_id, need in ("a", "b"), ("b", "c"), ("c", "a"):
        folder.drop(task_id, needs=[need])

    found = settled(folder)

    assert [(i.look.id, i.status) for i in found] == [
        (task_id, Status.INVALID) for task_id in "abc"
    ]
    assert all("circle of a, b, c" in item.error.message for item in found)


def test_the_verdict_on_a_circle_rests_on_all_its_files(folder: Folder) -> None:
    folder.drop("a", needs=["b"])
    folder.drop("b", needs=["a"])

    found = settled(folder)

    shas = {i: register.sha256(folder.project, i) for i in "ab"}
    assert [item.error.files for item in found] == [shas, shas]


def test_a_task_that_needs_itself_is_a_circle(folder: Folder) -> None:
    folder.drop("a", needs=["a"])

    assert [item.look.id for item in settled(folder)] == ["a"]


def test_a_task_whose_own_glob_matches_it_is_no_circle(folder: Folder) -> None:
    folder.drop("t/1")
    folder.drop("t/all", needs=["t/*"])

    assert folder.look() == ["t/1"]
    assert folder.why("t/all") == "needs t/1"


def test_a_circle_through_a_glob_is_found(folder: Folder) -> None:
    folder.drop("t/1", needs=["join"])
    folder.drop("join", needs=["t/*"])

    assert [item.look.id for item in settled(folder)] == ["join", "t/1"]


def test_two_that_match_the_same_glob_and_both_need_it_are_a_circle(
    folder: Folder,
) -> None:
    folder.drop("t/1", needs=["t/*"])
    folder.drop("t/2", needs=["t/*"])

    assert [item.look.id for item in settled(folder)] == ["t/1", "t/2"]


def test_what_needs_a_member_of_a_circle_only_waits(folder: Folder) -> None:
    folder.drop("a", needs=["a"])
    folder.drop("z", needs=["a"])
    found = settled(folder)

    assert [item.look.id for item in found] == ["a"]
    assert folder.why("z") == "needs a"


def test_a_circle_that_is_mended_in_time_is_no_fault(folder: Folder) -> None:
    folder.drop("a", needs=["b"])
    folder.drop("b", needs=["a"])
    folder.look()
    folder.drop("b", labels=["free"])

    assert folder.look(tick=TICK + SETTLE) == ["b"]
    assert folder.why("a") == "needs b"


def test_a_large_circle_waits_and_names_some_of_its_members(folder: Folder) -> None:
    """A verdict for each member, resting on all members, grows with their square."""
    ids = [f"t/{number:02}" for number in range(MOST_IN_CIRCLE + 5)]
    for task_id, need in pairwise([*ids, ids[0]]):
        folder.drop(task_id, needs=[need])

    assert settled(folder) == []
    assert "circle of t/00, t/01, " in folder.why("t/07")
    assert " and 5 more: take one" in folder.why("t/07")
    folder.drop("t/24")  # the one that closed the circle needs nothing any more
    assert folder.look() == ["t/24"]
    assert folder.why("t/23") == "needs t/24"


# -- bad files --------------------------------------------------------------------------------


def test_a_refused_file_is_left_alone_until_it_stood_still(folder: Folder) -> None:
    folder.write("a", '{"run": ')
    first = folder.look(tick=TICK)
    why, due = folder.why("a"), folder.queue.due()
    nearly = folder.look(tick=TICK + SETTLE - 0.1)
    last = folder.look(tick=TICK + SETTLE)

    assert (first, nearly, last) == ([], [], ["a"])
    assert due == NOW + SETTLE
    assert "tasks/a.json:1:9: " in (why or "")
    assert "believed when the file has stood still for 2 s" in (why or "")


def test_a_refused_file_that_changes_stands_still_anew(folder: Folder) -> None:
    folder.write("a", '{"run": ')
    folder.look(tick=TICK)
    folder.write("a", '{"run": "ma')
    early = folder.look(tick=TICK + SETTLE)

    assert early == []
    assert folder.look(tick=TICK + 2 * SETTLE) == ["a"]


def test_a_file_that_was_still_being_written_runs_when_it_is_whole(
    folder: Folder,
) -> None:
    folder.write("a", '{"run": ')
    folder.look(tick=TICK)
    folder.drop("a")

    assert folder.look(tick=TICK + 0.1) == ["a"]
    assert isinstance(folder.queue.next(), Ready)


def test_a_refused_file_ends_invalid_with_its_name_and_place(folder: Folder) -> None:
    folder.write("a", '{\n "rum": "make"}')

    (item,) = settled(folder)

    assert item.status is Status.INVALID
    assert item.error.message.startswith("tasks/a.json:2:2: ")
    assert (item.error.line, item.error.column) == (2, 2)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["fifo", "folder"])
def test_what_is_no_file_ends_invalid_too(folder: Folder, make: Any) -> None:
    make(folder.project.task_path("a"))

    assert [item.look.id for item in settled(folder)] == ["a"]


def test_a_bad_file_disturbs_no_other(folder: Folder) -> None:
    folder.write("a", "no JSON")
    folder.drop("b")

    assert folder.look() == ["b"]


def reject(folder: Folder, task_id: str) -> None:
    """An `invalid` result for the bytes that lie there, journalled as workers do."""
    sha = register.sha256(folder.project, task_id)
    folder.result(task_id, "invalid", sha256=sha)
    journal = Journal(folder.project, "ada")
    journal.append(Entry(task_id, NOW, "ada", status=Status.INVALID))
    journal.close()


def test_an_invalid_file_is_not_tried_again_as_it_is(folder: Folder) -> None:
    folder.write("a", "{}")
    reject(folder, "a")

    assert folder.look() == []
    assert folder.look(tick=TICK + SETTLE) == []


def test_an_invalid_file_that_is_corrected_is_tried_again(folder: Folder) -> None:
    folder.write("a", "{}")
    reject(folder, "a")
    before = folder.look()
    folder.drop("a")

    assert (before, folder.look()) == ([], ["a"])


@pytest.mark.parametrize("journal", [True, False], ids=["journal", "no-journal"])
def test_a_file_that_was_corrected_before_we_came_is_tried_again(
    folder: Folder, journal: bool
) -> None:
    folder.write("a", "{}")
    reject(folder, "a")
    if not journal:
        Path(folder.project.journal_path("ada")).unlink()
    folder.drop("a")

    assert Queue(folder.project).ready_ids() == []
    assert folder.look() == ["a"]


def test_after_a_power_cut_an_empty_result_does_not_count(project: Project) -> None:
    folder = Folder(project)
    folder.queue = Queue(project)
    folder.drop("a")
    journal = Journal(project, "ada")
    journal.append(Entry("a", NOW, "ada", status=Status.SUCCEEDED))
    journal.close()
    Path(project.result_path("a")).write_bytes(b"")

    assert folder.look() == ["a"]


def test_a_missing_journal_is_rebuilt_from_results(folder: Folder) -> None:
    folder.drop("a")
    folder.result("a", "failed", finished="2026-11-21T03:00:00Z")
    folder.look()

    assert list(Path(folder.project.journal).iterdir()) != []


def test_a_reader_writes_nothing(project: Project) -> None:
    folder = Folder(project)
    folder.queue = Queue(project, writes=False)
    folder.drop("a")
    folder.result("a")
    folder.look()

    assert list(Path(project.journal).iterdir()) == []


def test_a_whole_look_leaves_no_ledger_behind(folder: Folder) -> None:
    folder.drop("a", needs=["b"])
    folder.look()

    assert list(Path(folder.project.locks).iterdir()) == []


def journal_of(project: Project, worker: str, *entries: Entry) -> None:
    journal = Journal(project, worker)
    for entry in entries:
        journal.append(entry)
    journal.close()


def result(status: Status, sha256: str = "other bytes") -> bytes:
    return msgspec.json.encode({"status": status, "sha256": sha256})


@pytest.mark.parametrize(("first", "second"), [("a", "z"), ("z", "a")])
def test_the_latest_journal_line_decides_whichever_file_it_is_in(
    folder: Folder, first: str, second: str
) -> None:
    folder.drop("t")
    Path(folder.project.result_path("t")).write_bytes(result(Status.INVALID))
    failed = Entry("t", 1.0, first, Why.FAILED, Status.FAILED)
    journal_of(folder.project, first, failed)
    journal_of(folder.project, second, Entry("t", 2.0, second, status=Status.INVALID))
    folder.look()

    assert folder.queue.ready_ids() == ["t"]


def test_an_invalid_verdict_that_no_journal_tells_is_known_to_a_new_worker(
    folder: Folder,
) -> None:
    folder.drop("t")
    Path(folder.project.result_path("t")).write_bytes(result(Status.INVALID))
    journal_of(folder.project, "w", Entry("other", 1.0, "w", status=Status.FAILED))
    folder.look()

    assert folder.queue.ready_ids() == ["t"]


def test_an_empty_result_that_comes_while_a_worker_works_is_none(
    folder: Folder,
) -> None:
    folder.drop("a")
    folder.look()
    folder.drop("b")
    Path(folder.project.result_path("b")).write_bytes(b"")
    folder.look()

    assert folder.queue.ready_ids() == ["a", "b"]


def test_a_result_that_is_emptied_while_a_worker_is_idle_is_none(
    folder: Folder,
) -> None:
    for task_id in ("a", "b"):
        folder.drop(task_id)
        folder.result(task_id)
    folder.look()
    folder.look()  # by now it has read its own journal
    os.truncate(folder.project.result_path("a"), 0)
    folder.queue.recheck()

    assert folder.look() == ["a"]


def test_a_blocked_task_waits_with_its_sentence_and_is_tried_again(
    folder: Folder,
) -> None:
    folder.drop("a")
    folder.look()
    folder.queue.block("a", "move it away", NOW, TICK)
    folder.look()
    waits = folder.queue.waiting["a"]
    folder.queue.refresh(NOW, TICK + BLOCKED_PAUSE)

    assert waits == Waiting("move it away")
    assert folder.queue.ready_ids() == ["a"]


def test_a_drain_is_seen_by_the_next_look(folder: Folder) -> None:
    folder.look()
    Path(folder.project.control, "drain").touch()
    changed = folder.queue.orders_changed()
    folder.look()

    assert (changed, folder.queue.drains) == (True, True)


def test_a_skip_is_doubted_when_the_need_has_succeeded_meanwhile(
    folder: Folder,
) -> None:
    folder.drop("a")
    folder.drop("b", needs=["a"])
    path = Path(folder.project.result_path("a"))
    path.write_bytes(result(Status.FAILED))
    folder.look()
    doomed = folder.queue.next()
    assert isinstance(doomed, Doomed)
    path.write_bytes(result(Status.SUCCEEDED))

    assert not folder.queue.still_doomed(doomed.look)
