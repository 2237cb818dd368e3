"""Wait for facts, never for time."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

Fact = TypeVar("Fact")

PAUSE = 0.02  # seconds between two looks


def wait_until(
    fact: Callable[[], Fact],
    timeout: float = 20.0,
    on_timeout: Callable[[], str] = lambda: "",
) -> Fact:
    """Look until `fact()` is true and return it; else fail and say what was seen."""
    until = time.monotonic() + timeout
    while True:
        found = fact()
        if found:
            return found
        if time.monotonic() > until:
            raise AssertionError(f"not true within {timeout} s\n{on_timeout()}")
        threading.Event().wait(PAUSE)  # `time.sleep` fails under libfaketime


@contextmanager
def within_processor_time(seconds: float) -> Iterator[None]:
    """Fails when what is in here uses more processor time than this, in main thread.

    For what may take for ever if it is wrong: the limit is many times what it needs, and
    a busy machine changes nothing.
    """

    def too_long(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"it used more than {seconds:g} s of processor time")

    before = signal.signal(signal.SIGVTALRM, too_long)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
