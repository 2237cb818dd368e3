"""Control by files."""

import os
import time
from pathlib import Path

import pytest

from farm import control, disk
from farm.control import Control, Orders
from farm.errors import UsageError
from farm.project import Project


def order(project: Project, *names: str) -> Orders:
    for name in names:
        Path(project.control, name).touch()
    return Control(project).read()


def test_no_files_are_no_orders(project: Project) -> None:
    assert order(project) == Orders()


def test_no_folder_is_no_orders(project: Project) -> None:
    Path(project.control).rmdir()

    assert Control(project).read() == Orders()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pause", Orders(paused=True)),
        ("drain", Orders(drain=True)),
        ("pause-a*", Orders(globs={"pause-a*": "a*"})),
        ("pause-tiles%2F**", Orders(globs={"pause-tiles%2F**": "tiles/**"})),
        ("pause-100%25", Orders(globs={"pause-100%25": "100%"})),
        ("pause-%C3%bcb*", Orders(globs={"pause-%C3%bcb*": "üb*"})),
        ("pause-%FF%4", Orders(globs={"pause-%FF%4": "\ufffd%4"})),
        ("pause-pause-x", Orders(globs={"pause-pause-x": "pause-x"})),
        ("paused", Orders()),
        ("scale-host", Orders()),
        ("cancel-a%2Fb", Orders(cancels={"cancel-a%2Fb": ""})),
        (".pause", Orders()),
    ],
)
def test_a_file_is_an_order_by_its_name(
    project: Project, name: str, expected: Orders
) -> None:
    assert order(project, name) == expected


def test_a_pause_holds_every_task() -> None:
    assert Orders(paused=True).holds("anything") == "pause"


@pytest.mark.parametrize(
    ("task_id", "expected"),
    [
        ("a/1", "pause-a%2F*"),
        ("b", "pause-b"),
        ("a/1/2", None),
        ("c", None),
    ],
)
def test_a_pause_of_some_names_the_file_that_can_be_removed(
    project: Project, task_id: str, expected: str | None
) -> None:
    assert order(project, "pause-a%2F*", "pause-b").holds(task_id) == expected


def test_without_orders_nothing_is_held() -> None:
    assert Orders(drain=True).holds("a") is None


def test_an_order_that_comes_or_goes_is_a_change(project: Project) -> None:
    os.utime(project.control, (0, 0))
    control = Control(project)
    control.read()
    calm = control.changed()
    Path(project.control, "pause").touch()
    after_it_came = control.changed()
    os.utime(project.control, (0, 0))
    control.read()
    Path(project.control, "pause").unlink()

    assert (calm, after_it_came, control.changed()) == (False, True, True)


# -- what is no order ------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"many",
        b"-1",
        b"2.5",
        b"1e3",
        b"2 3",
        "\u0662".encode(),  # a digit, but none of ours
        b"\xff",
        b"\0",
    ],
    ids=repr,
)
def test_a_number_that_is_none_scales_nothing(project: Project, text: bytes) -> None:
    Path(project.control, "scale-here").write_bytes(text)

    assert Control(project).read() == Orders()


@pytest.mark.parametrize("digits", [6, 30, 5000])
def test_a_number_beyond_all_sense_scales_nothing(
    project: Project, digits: int
) -> None:
    Path(project.control, "scale-here").write_text("9" * digits)

    assert Control(project).read().scale == {}


@pytest.mark.parametrize("text", ["3", "3\n", " 3 \n", "003"])
def test_a_number_may_stand_in_white_space(project: Project, text: str) -> None:
    Path(project.control, "scale-here").write_text(text)

    assert Control(project).read().scale == {"here": 3}


def lay_folder(path: Path) -> None:
    path.mkdir()


def lay_link(path: Path) -> None:
    path.symlink_to("nowhere")


def lay_fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("lay", [lay_folder, lay_link])
def test_what_cannot_be_read_scales_and_cancels_nothing(project: Project, lay) -> None:  # type: ignore[no-untyped-def]  # one of two
    for name in ("scale-here", "cancel-a"):
        lay(Path(project.control, name))
    orders = Control(project).read()

    assert orders.scale == {}
    assert not orders.cancels_ready("a")
    assert not orders.cancels_run("a", "token")


def test_a_fifo_is_no_wait(project: Project) -> None:
    lay_fifo(Path(project.control, "cancel-a"))
    orders = Control(project).read()

    assert not orders.cancels_run("a", "token")


@pytest.mark.parametrize("glob", ["[", "a[", "[!]", "\udcff"], ids=ascii)
def test_a_glob_that_is_none_pauses_no_other_task(project: Project, glob: str) -> None:
    assert order(project, f"pause-{glob}").holds("a") is None


# -- cancelling ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "run", "ready"),
    [("", True, True), ("mine\n", True, False), ("another", False, False)],
)
def test_an_order_to_cancel_is_for_one_attempt_or_for_any(
    project: Project, text: str, run: bool, ready: bool
) -> None:
    Path(project.control, "cancel-a").write_text(text)
    orders = Control(project).read()

    assert orders.cancels_run("a", "mine") is run
    assert orders.cancels_ready("a") is ready


def test_an_order_to_cancel_is_for_no_other_task(project: Project) -> None:
    orders = order(project, "cancel-a%2Fb")

    assert orders.cancels_ready("a/b")
    assert not orders.cancels_ready("a")
    assert not orders.cancels_ready("b")


def test_a_long_ids_order_has_the_same_hash_as_its_ledger(project: Project) -> None:
    task_id = "a" * 240
    name = control.cancel_name(task_id)
    ledger = Path(project.ledger_path(task_id)).stem

    assert name.removeprefix("cancel-") == ledger.removeprefix("task-")
    assert order(project, name).cancels_ready(task_id)


# -- giving orders ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task_id", "name"),
    [("a", "cancel-a"), ("a/b", "cancel-a%2Fb"), ("50%", "cancel-50%25")],
)
def test_a_file_that_cancels_is_named_after_its_task(task_id: str, name: str) -> None:
    assert control.cancel_name(task_id) == name


@pytest.mark.parametrize(
    ("glob", "name"),
    [
        (None, "pause"),
        ("a", "pause-a"),
        ("tiles/**", "pause-tiles%2F**"),
        ("50%", "pause-50%25"),
        ("a%2Fb", "pause-a%252Fb"),
    ],
)
def test_a_pause_is_named_after_its_glob(glob: str | None, name: str) -> None:
    assert control.pause_name(glob) == name


@pytest.mark.parametrize("glob", ["a/*", "50%", "a%2Fb", "[a-z]?", "\u00e9 \u00e9"])
def test_a_glob_comes_back_from_its_files_name(project: Project, glob: str) -> None:
    name = control.pause_name(glob)

    assert order(project, name).globs == {name: glob}


def test_a_glob_that_is_too_long_for_a_name_is_refused() -> None:
    longest = "x" * (255 - len("pause-"))

    assert len(control.pause_name(longest)) == 255
    with pytest.raises(UsageError, match="too long for the name of a file"):
        control.pause_name(longest + "x")


def test_an_order_that_is_given_is_in_force(project: Project) -> None:
    control.give(project, control.scale_name("here"), "3\n")

    assert Control(project).read().scale == {"here": 3}


def test_a_second_order_replaces_the_first(project: Project) -> None:
    control.give(project, control.cancel_name("a"), "old")
    control.give(project, control.cancel_name("a"), "new")

    assert Control(project).read().cancels == {"cancel-a": "new"}


def test_giving_leaves_nothing_aside(project: Project) -> None:
    control.give(project, "pause")

    assert list(Path(project.tmp).iterdir()) == []


def test_an_order_may_be_taken_back_once(project: Project) -> None:
    control.give(project, "pause")

    assert control.withdraw(project, "pause")
    assert not control.withdraw(project, "pause")
    assert Control(project).read() == Orders()


def test_a_nudge_is_a_change_that_leaves_nothing(project: Project) -> None:
    os.utime(project.control, (0, 0))
    there = Control(project)
    there.read()
    control.nudge(project)

    assert there.moved()
    assert there.read() == Orders()
    assert list(Path(project.control).iterdir()) == []


WHOLE = 1_700_000_000_000_000_000  # nanoseconds; a whole second


def set_clock(monkeypatch: pytest.MonkeyPatch, now: int) -> None:
    """By the kernel's coarse clock, which is 5, it is so late."""
    monkeypatch.setattr(time, "clock_gettime_ns", lambda clock: {5: now}[clock])


def scale(project: Project, workers: str) -> None:
    """An order of the same second, where times are whole seconds."""
    Path(project.control, "scale-host").write_text(workers)
    os.utime(project.control, ns=(WHOLE, WHOLE))


def test_a_second_order_in_one_second_is_seen_where_times_are_whole_seconds(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_clock(monkeypatch, WHOLE + 900_000_000)
    scale(project, "1")
    there = Control(project)
    first = there.read().scale
    calm = there.changed()
    scale(project, "2")

    assert not there.moved()
    assert (calm, there.changed()) == (False, True)
    assert (first, there.read().scale) == ({"host": 1}, {"host": 2})


def test_an_order_that_is_taken_and_given_again_in_one_second_is_seen(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_clock(monkeypatch, WHOLE + 900_000_000)
    scale(project, "1")
    there = Control(project)
    there.read()
    control.take(project, "scale-host")
    os.utime(project.control, ns=(WHOLE, WHOLE))
    gone = there.changed(), there.read()
    scale(project, "1")

    assert gone == (True, Orders())
    assert there.changed()


def test_a_folder_that_has_settled_costs_one_call(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_clock(monkeypatch, WHOLE + disk.LONGEST_TICK_NS + 1)
    scale(project, "1")
    there = Control(project)
    there.read()
    monkeypatch.setattr(os, "listdir", lambda _: pytest.fail("it was read again"))

    assert not there.changed()


def test_over_a_network_our_own_clock_says_when_a_tick_is_over(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [1_000]
    monkeypatch.setattr(time, "monotonic_ns", lambda: own[0])
    project.network = True
    scale(project, "1")  # by a server whose clock is years behind ours
    there = Control(project)
    there.read()
    scale(project, "2")
    early = there.changed()
    there.read()
    own[0] += disk.LONGEST_TICK_NS + 1
    there.changed()
    monkeypatch.setattr(os, "listdir", lambda _: pytest.fail("it was read again"))

    assert early
    assert not there.changed()


def test_a_nudge_leaves_another_time_behind(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_touch = control._touch
    touched: list[int] = []

    def by_seconds(there: Project) -> int:
        really_touch(there)
        touched.append(WHOLE + (len(touched) > 1) * 1_000_000_000)
        return touched[-1]

    os.utime(project.control, ns=(WHOLE, WHOLE))
    monkeypatch.setattr(control, "_touch", by_seconds)
    control.nudge(project)

    assert [at - WHOLE for at in touched] == [0, 0, 1_000_000_000]


def test_a_folder_from_the_future_is_not_looked_at_for_ever(project: Project) -> None:
    os.utime(project.control, (4e9, 4e9))
    control = Control(project)
    control.read()

    assert not control.changed()


def test_an_order_that_is_taken_is_gone(project: Project) -> None:
    control.give(project, "scale-host", "4")

    assert control.take(project, "scale-host") == "4"
    assert control.take(project, "scale-host") is None


def test_an_order_given_while_an_older_one_is_read_is_kept(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    control.give(project, "scale-host", "4")
    read = disk.read_file

    def meanwhile(path: str, *most: int) -> bytes:
        monkeypatch.setattr(disk, "read_file", read)
        control.give(project, "scale-host", "7")
        return read(path, *most)

    monkeypatch.setattr(disk, "read_file", meanwhile)
    first = control.take(project, "scale-host")

    assert (first, control.take(project, "scale-host")) == ("4", "7")


def test_no_power_cut_brings_back_an_order_that_was_taken(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    monkeypatch.setattr(
        disk, "sync_folder", lambda path: synced.append((path, [*Path(path).iterdir()]))
    )
    control.give(project, "scale-host", "0")
    control.take(project, "scale-host")

    assert synced == [(project.control, [])]


def test_an_order_that_says_the_same_again_wakes_nobody(project: Project) -> None:
    control.give(project, "cancel-a", "token")
    os.utime(project.control, (0, 0))
    there = Control(project)
    there.read()
    control.give(project, "cancel-a", "token")

    assert not there.moved()
