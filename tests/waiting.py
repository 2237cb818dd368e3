"""Wait for facts, never for time."""

import time
from collections.abc import Callable
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
        time.sleep(PAUSE)
