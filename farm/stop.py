"""How a worker is told to stop, and how everything in it learns of it.

    once     finish what runs, take nothing new
    twice    end the running task, give it back uncounted

A `Stop` holds how often it was asked, and the bell that wakes whoever waits.
"""

import signal
from types import FrameType

from farm.watcher import Bell


class StoppedAtOnceError(BaseException):
    """Raised in a callable that runs when the second stop arrives.

    A BaseException, so that `except Exception` in a task does not swallow it.
    """


class Stop:
    """Asked zero, one or more times; rings its bell each time."""

    def __init__(self, bell: Bell) -> None:
        self.bell = bell
        self.asked = 0
        self.reason = ""
        self.interruptible = False  #: a callable runs: the second stop raises in it

    @property
    def soon(self) -> bool:
        """Take nothing new."""
        return self.asked > 0

    @property
    def now(self) -> bool:
        """End what runs, too."""
        return self.asked > 1

    def ask(self, reason: str) -> None:
        """One more request to stop."""
        self.asked += 1
        self.reason = self.reason or reason
        self.bell.ring()

    def ask_once(self, reason: str) -> None:
        """A request that, repeated, does not grow more urgent."""
        if not self.asked:
            self.ask(reason)

    def listen(self) -> None:
        """From now on SIGINT and SIGTERM ask. Main thread only."""
        signal.set_wakeup_fd(self.bell.write, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._heard)

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        self.ask(signal.Signals(number).name)
        if self.now and self.interruptible:
            self.interruptible = False
            raise StoppedAtOnceError
