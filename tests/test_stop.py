"""How often a process was asked to stop: by itself, and through its supervisor."""

import os
import signal
from collections.abc import Sequence

import pytest

from farm.bell import Bell
from farm.stop import NOW, SOON, Stop, StoppedAtOnceError

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


def told(*signals: Sequence[int]) -> Stop:
    """A stop that Python called once for each of these; the system maybe more often."""
    stop = Stop(Bell())
    for delivered in signals:
        os.write(stop.bell.write, bytes(delivered))
        stop._hear(delivered[-1], None)
    return stop


@pytest.mark.parametrize(
    ("signals", "asked"),
    [
        pytest.param([[TERM]], 1, id="one"),
        pytest.param([[INT], [INT]], 2, id="Ctrl-C twice"),
        pytest.param([[INT, INT]], 2, id="twice before Python looked"),
        pytest.param([[INT], [TERM]], 2, id="two kinds"),
        pytest.param([[TERM], [SOON]], 1, id="to all processes, and passed on"),
        pytest.param([[SOON], [TERM]], 1, id="passed on, and to all processes"),
        pytest.param([[SOON], [SOON], [SOON]], 1, id="passed on again and again"),
        pytest.param([[TERM], [SOON], [NOW]], 2, id="passed on twice"),
        pytest.param([[NOW]], 2, id="passed on at once"),
        pytest.param([[HUP]], 1, id="a terminal that is gone"),
        pytest.param([[HUP], [HUP, HUP]], 1, id="which is told several times"),
        pytest.param([[TERM], [HUP]], 1, id="SIGTERM, and then SIGHUP to all"),
    ],
)
def test_the_larger_count_is_obeyed_and_not_the_sum(
    signals: list[list[int]], asked: int
) -> None:
    stop = told(*signals)

    assert stop.asked == asked
    assert (stop.soon, stop.now) == (True, asked > 1)


def test_signals_that_nothing_has_written_down_count_as_well() -> None:
    stop = Stop(Bell())  # a task's event loop has taken the descriptor
    stop._hear(INT, None)
    stop._hear(INT, None)

    assert stop.asked == 2


def test_what_the_bell_was_emptied_of_before_is_not_forgotten() -> None:
    stop = Stop(Bell())
    os.write(stop.bell.write, bytes([INT, INT]))
    stop.bell.drain()
    stop._hear(INT, None)

    assert stop.asked == 2


def test_a_request_still_wakes_who_waits() -> None:
    stop = told([TERM])

    assert stop.bell.wait(0)


def test_each_step_is_announced_once() -> None:
    stop = Stop(Bell())
    said: list[str] = []
    stop.announce = said.append
    for number in (SOON, TERM, SOON, NOW, NOW):
        stop._hear(number, None)

    assert [line.partition(":")[0] for line in said] == [
        "its supervisor stops",
        "ending what runs; it is given back",
    ]


def test_a_callable_is_interrupted_by_the_second_request_and_only_once() -> None:
    stop = told([TERM], [SOON])
    stop.interruptible = "token"
    stop._hear(SOON, None)
    with pytest.raises(StoppedAtOnceError):
        stop._hear(NOW, None)
    stop._hear(NOW, None)

    assert stop.interruptible == ""
