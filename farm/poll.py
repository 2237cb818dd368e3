"""Look again and again, for what no event tells: over a mount there are none."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

Fact = TypeVar("Fact")

_FIRST, _LONGEST = 0.02, 0.5  # seconds between two looks
_SHARE = 5  # a look that took t seconds is not repeated for 5 t


def until(look: Callable[[], Fact | None], timeout: float | None = None) -> Fact | None:
    """What `look` returns when it is not None; None after `timeout` seconds.

    Pauses grow, so a long wait costs little. Ctrl-C ends it, as ever.
    """
    over = float("inf") if timeout is None else time.monotonic() + timeout
    pause = _FIRST
    while True:
        began = time.monotonic()
        found = look()
        now = time.monotonic()
        if found is not None or now >= over:
            return found
        wait = max(pause, _SHARE * (now - began))
        threading.Event().wait(min(wait, over - now))
        pause = min(1.5 * pause, _LONGEST)
