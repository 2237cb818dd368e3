"""The deadline of the callable that runs: a thread tells when it is over.

A callable may use SIGALRM and all timers of the process itself; a thread of ours it
cannot set otherwise. That thread is started at the first deadline. It sleeps until the
earliest deadline that it knew of when it fell asleep, so a callable that ends in time
wakes nobody: the next one's deadline is later.
"""

import threading
import time
from collections.abc import Callable
from math import inf

REPEAT = 1.0  #: seconds after which it is told again; once may be lost in a __del__


class Deadline:
    """Calls `tell(token)` when the time of that attempt is over, until it is cleared."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        self._tell = tell
        self._changed = threading.Condition()
        self._token = ""
        self._at = inf  # monotonic seconds
        self._wakes_at = -inf  # when the thread looks again; it does not run yet
        self._started = False

    def set(self, token: str, seconds: float) -> None:
        """From now on so long; RuntimeError if no thread can be started.

        Nothing may be raised in here by a signal: the lock would stay taken.
        """
        if not self._started:
            threading.Thread(
                target=self._run, name="farm-deadline", daemon=True
            ).start()
            self._started = True
        with self._changed:
            self._token, self._at = token, time.monotonic() + seconds
            if self._at < self._wakes_at:
                self._changed.notify()

    def clear(self) -> None:
        """That attempt is over. RACE: it may be told all the same, but of that token."""
        self._at = inf

    def _run(self) -> None:
        told, again = "", 0.0
        with self._changed:
            while True:
                token = self._token
                at = max(self._at, again) if token == told else self._at
                left = at - time.monotonic()
                if left > 0:
                    self._wakes_at = at
                    self._changed.wait(min(left, threading.TIMEOUT_MAX))
                    continue
                self._tell(token)
                told, again = token, time.monotonic() + REPEAT
