"""How a worker is told to stop, and how everything in it learns of it.

    once     finish what runs, take nothing new
    twice    end the running task, give it back uncounted

Only people, by signals, make it urgent: a drain or the supervisor's end counts as
"once" however often it is noticed. A `Stop` holds how often it was asked, and the
bell that wakes whoever waits.

`cancel` ends one attempt, by its token, and nothing else; the worker goes on. It is
called from the heart's thread, again at each beat until the attempt is over.
"""

import os
import signal
import threading
import time

# `signal.getsignal` looks each handler up in an enum, for twenty times the price.
from _signal import getsignal  # type: ignore[import-not-found] # CPython's own
from collections.abc import Callable
from types import FrameType

from farm.bell import Bell


class StoppedAtOnceError(BaseException):
    """Raised in a callable that runs when the second stop arrives.

    A BaseException, so that `except Exception` in a task does not swallow it.
    """


class TaskCancelledError(BaseException):
    """Raised in a callable that is cancelled while it runs; a BaseException as above."""


_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_CANCEL = signal.SIGUSR1  # from our own heart: only signals reach the main thread


def _say_nothing(_text: str) -> None:
    """Nobody wants to know."""


def _be_deaf() -> None:
    """In a forked child: signals are its own, and our bell is not."""
    signal.set_wakeup_fd(-1)
    for number in (*_SIGNALS, _CANCEL):
        signal.signal(number, signal.SIG_DFL)


class Stop:
    """Asked zero, one or more times; rings its bell each time."""

    def __init__(self, bell: Bell) -> None:
        self.bell = bell
        self.asked = 0  #: how often, by signals
        self.noticed = False  #: a drain, or the supervisor is gone
        self.announce: Callable[[str], None] = _say_nothing  #: told each request
        self.reason = ""
        self.interruptible = ""  #: token of the callable that runs: we may raise in it
        #: tokens of the attempts that are to end; when that was asked, monotonic seconds
        self.cancelled: dict[str, float] = {}
        self._interrupted = ""  # token of the attempt in which we have raised

    @property
    def soon(self) -> bool:
        """Take nothing new."""
        return self.noticed or self.asked > 0

    @property
    def now(self) -> bool:
        """End what runs, too."""
        return self.asked > 1

    @property
    def sentence(self) -> str:
        """What a request means, for people."""
        if self.now:
            return "ending what runs; it is given back"
        return (
            f"{self.reason}: finishing what runs, taking nothing new"
            " (once more ends it at once)"
        )

    def ask(self, reason: str) -> None:
        """One more request to stop."""
        self.asked += 1
        self.reason = self.reason or reason
        self.bell.ring()
        self.announce(self.sentence)

    def ask_once(self, reason: str) -> None:
        """A request that never grows more urgent."""
        if not self.noticed:
            self.noticed = True
            self.reason = self.reason or reason
            self.bell.ring()

    def cancel(self, token: str) -> float:
        """End this attempt; seconds since it was first asked for."""
        asked_at = self.cancelled.setdefault(token, time.monotonic())
        self.bell.ring()
        if self.interruptible == token:
            signal.pthread_kill(threading.main_thread().ident or 0, _CANCEL)
        return time.monotonic() - asked_at

    def listen(self) -> None:
        """From now on SIGINT and SIGTERM ask; not in what we fork. Main thread only."""
        self.listen_again()
        os.register_at_fork(after_in_child=_be_deaf)

    def listen_again(self) -> None:
        """Take the signals back from whoever took them from us.

        With SIGCHLD ignored the kernel would throw away how children ended.
        """
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (*_SIGNALS, _CANCEL, signal.SIGALRM))
        if getsignal(signal.SIGCHLD) == signal.SIG_IGN:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.set_wakeup_fd(self.bell.write, warn_on_full_buffer=False)
        for number in _SIGNALS:
            if getsignal(number) != self._heard:
                signal.signal(number, self._heard)
        if getsignal(_CANCEL) != self._interrupt:
            signal.signal(_CANCEL, self._interrupt)

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        self.ask(signal.Signals(number).name)
        if self.now and self.interruptible:
            self.interruptible = ""
            raise StoppedAtOnceError

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        # RACE: the signal may arrive when the next callable runs already. Once for
        # each attempt: what it does to tidy up has the whole grace.
        running = self.interruptible
        if running in self.cancelled and running != self._interrupted:
            self._interrupted = running
            raise TaskCancelledError
