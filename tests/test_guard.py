"""When an attempt must end that runs: it is silent, or it fills the disk."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from farm.guard import Guard, Limits, Quiet, is_share
from farm.states import Why

MIB = 1 << 20
GIB = 1 << 30


class Acts:
    """Signs as a test says them."""

    def __init__(self) -> None:
        self.sign = False
        self.computed: float | None = None
        self.is_final = False
        self.last = "so it said\x1b[2J"

    def seen(self) -> bool:
        return self.sign

    def computing(self) -> Callable[[], float] | None:
        if self.computed is None:
            return None
        return lambda: self.computed or 0.0


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[list[int]]:
    fds = [os.open(tmp_path / name, os.O_RDWR | os.O_CREAT) for name in ("o", "e")]
    yield fds
    for fd in fds:
        os.close(fd)


class Watched:
    """A guard that is asked each second."""

    def __init__(self, logs: list[int], idle: float | None) -> None:
        self.acts = Acts()
        self.guard = Guard(Limits(MIB, idle, 1.0), logs, self.acts, 0.0)
        self.now = 0.0

    def ends_after(self, seconds: int, each: float = 1.0) -> float | None:
        """At which look it must end; None if it may go on for so long."""
        for _ in range(seconds):
            self.now += each
            verdict = self.guard.look(self.now)
            if verdict is not None:
                assert verdict.why is Why.TIMED_OUT
                assert "no sign of work for 10 s, last: so it said" in (
                    verdict.error.message
                )
                return self.now
        return None


def test_who_shows_no_sign_of_work_must_end(logs: list[int]) -> None:
    assert Watched(logs, 10.0).ends_after(20) == 10.0


def test_who_shows_one_now_and_then_may_go_on(logs: list[int]) -> None:
    watched = Watched(logs, 10.0)
    for _ in range(10):
        assert watched.ends_after(8) is None
        watched.acts.sign = True
        assert watched.ends_after(1) is None
        watched.acts.sign = False
    assert watched.ends_after(20) == 100.0


@pytest.mark.parametrize("idle", [None, 0.0])
def test_without_a_limit_silence_is_no_fault(
    logs: list[int], idle: float | None
) -> None:
    assert Watched(logs, idle).ends_after(10_000) is None


def test_time_in_which_nobody_looked_is_no_silence(logs: list[int]) -> None:
    watched = Watched(logs, 10.0)
    assert watched.ends_after(2, each=1000.0) is None
    assert watched.ends_after(20) == 2004.0


@pytest.mark.parametrize(("share", "goes_on"), [(0.05, True), (0.001, False)])
def test_who_computes_is_at_work(
    logs: list[int], *, share: float, goes_on: bool
) -> None:
    watched = Watched(logs, 10.0)
    watched.acts.computed = 100.0
    ended = None
    for _ in range(100):
        watched.acts.computed += share
        ended = ended or watched.ends_after(1)
    assert (ended is None) is goes_on


def test_people_are_told_of_a_long_silence(logs: list[int]) -> None:
    watched, quiet = Watched(logs, None), Quiet()
    watched.ends_after(59)
    quiet.note(watched.guard, 1000.0)
    assert (quiet.since, quiet.last) == (0.0, "")

    watched.ends_after(1)
    quiet.note(watched.guard, 1001.0)
    assert (quiet.since, quiet.last) == (941.0, "so it said")
    watched.ends_after(10)
    quiet.note(watched.guard, 1011.0)
    assert quiet.since == 941.0

    watched.acts.sign = True
    watched.ends_after(1)
    quiet.note(watched.guard, 1012.0)
    assert quiet.since == 0.0


@pytest.mark.parametrize(
    ("size", "total", "most", "is_it"),
    [
        (60 * MIB, 64 * MIB, GIB, True),
        (7 * MIB, 64 * MIB, GIB, False),
        (2 * MIB, 2 * MIB, GIB, True),
        (MIB // 2, 2 * MIB, GIB, False),
        (100 * MIB, 500 * GIB, GIB, True),
        (10 * MIB, 500 * GIB, GIB, False),
        (2 * MIB, 500 * GIB, 10 * MIB, True),
    ],
)
def test_who_has_filled_a_disk_is_told_by_its_part_of_it(
    size: int, total: int, most: int, *, is_it: bool
) -> None:
    assert is_share(size, total, most) is is_it
