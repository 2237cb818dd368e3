"""How a worker is told to stop, and how everything in it learns of it.

    once     finish what runs, take nothing new
    twice    end the running task, give it back uncounted

Only people, by signals, make it urgent: a drain or the supervisor's end counts as
"once" however often it is noticed. A `Stop` holds how often it was asked, and the
bell that wakes whoever waits.

A service manager may signal every process of a service at once, and the supervisor
passes on what it hears. So a worker counts apart what it hears itself (SIGINT and
SIGTERM) and what its supervisor passes on (`SOON`, `NOW`), and obeys the larger of the
two. No clock is asked. SIGHUP, when a terminal goes away, is one request however often
it comes, unless it was ignored when the process started (`nohup`).

`cancel` ends one attempt, by its token, and nothing else; the worker goes on. It is
called from the heart's thread, again at each beat until the attempt is over. `expire`
does the same at an attempt's deadline, from the thread of `farm.deadline`.
"""

import os
import signal
import threading
import time

# Those of `signal` look each number up in an enum, for twenty times the price.
from _signal import (  # type: ignore[import-not-found] # CPython's own
    getsignal,
    pthread_sigmask,
)
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from farm.bell import Bell
from farm.deadline import Deadline


class DeadlineError(BaseException):
    """Raised in a callable at its deadline; `except Exception` does not stop it."""


if TYPE_CHECKING:
    from farm.guard import Verdict


class StoppedAtOnceError(BaseException):
    """Raised in a callable that runs when the second stop arrives.

    A BaseException, so that `except Exception` in a task does not swallow it.
    """


class TaskCancelledError(BaseException):
    """Raised in a callable that is cancelled while it runs; a BaseException as above."""


# What a supervisor sends to its workers: the request itself, so it may be sent again.
# Real-time signals, which service managers and terminals never send.
SOON = signal.SIGRTMIN + 1  #: finish what runs, take nothing new
NOW = signal.SIGRTMIN + 2  #: end what runs, give it back
PASSED_ON = {SOON: 1, NOW: 2}  #: what each is worth
#: with which people and service managers end a process, and all that belongs to it
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# From threads of our own, as only signals reach the main one. Callables have their own
# uses for SIGALRM and SIGUSR1, and hardly any for this.
INTERRUPT = signal.SIGRTMAX - 4
#: those that a callable may set, with an effect on what runs after it
_SETTABLE = (
    *ENDING,
    *PASSED_ON,
    INTERRUPT,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGVTALRM,
    signal.SIGPROF,
    signal.SIGPIPE,
    signal.SIGCHLD,
    signal.SIGCONT,
    signal.SIGTSTP,
    signal.SIGWINCH,
    signal.SIGXCPU,
    signal.SIGXFSZ,
)
_NEEDED = {*ENDING, *PASSED_ON, INTERRUPT, signal.SIGCHLD}  # must not be blocked


def _say_nothing(_text: str) -> None:
    """Nobody wants to know."""


class Stop:
    """Asked zero, one or more times; rings its bell each time."""

    def __init__(self, bell: Bell) -> None:
        self.bell = bell
        self._calls: Counter[int] = Counter()  # of our handler, by signal
        self._signals: tuple[int, ...] = ()  # that we listen to
        self._heard = 0  # how often we were asked by signals of our own
        self._passed_on = 0  # how often our supervisor was, as far as it said
        self.noticed = False  #: a drain, or the supervisor is gone
        self.announce: Callable[[str], None] = _say_nothing  #: told each request
        self.reason = ""
        self.interruptible = ""  #: token of the callable that runs: we may raise in it
        #: tokens of the attempts that are to end; when that was asked, monotonic seconds
        self.cancelled: dict[str, float] = {}
        self.deadline = Deadline(self.expire)
        self.expired = ""  #: token of the attempt whose time is over
        #: why attempts are to end that nobody has cancelled, by token
        self.verdicts: dict[str, Verdict] = {}
        self._interrupted = ""  # token of the attempt in which we have raised
        self._mask = pthread_sigmask(signal.SIG_BLOCK, ()) - _NEEDED
        self._handlers = list(map(getsignal, _SETTABLE))  # as they are to stay

    @property
    def asked(self) -> int:
        """How often, by signals: one request may reach us in two ways."""
        return max(self._heard, self._passed_on)

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
        self._interrupt_main(token)
        return time.monotonic() - asked_at

    def end(self, token: str, verdict: "Verdict") -> float:
        """The same, because of what it does itself."""
        self.verdicts.setdefault(token, verdict)
        return self.cancel(token)

    def expire(self, token: str) -> None:
        """The time of this attempt is over."""
        self.expired = token
        self._interrupt_main(token)

    def _interrupt_main(self, token: str) -> None:
        if self.interruptible == token:
            signal.pthread_kill(threading.main_thread().ident or 0, INTERRUPT)

    def listen(self) -> None:
        """From now on signals ask; not in what we fork. Main thread only."""
        hangs_up = getsignal(signal.SIGHUP) != signal.SIG_IGN
        ending = ENDING if hangs_up else (signal.SIGINT, signal.SIGTERM)
        self._signals = (*ending, *PASSED_ON)
        if getsignal(signal.SIGCHLD) == signal.SIG_IGN:
            # With that the kernel would throw away how children ended.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in self._signals:
            signal.signal(number, self._hear)
        signal.signal(INTERRUPT, self._interrupt)
        self._handlers = list(map(getsignal, _SETTABLE))
        self.listen_again()
        os.register_at_fork(after_in_child=self._be_deaf)

    def listen_again(self) -> None:
        """Take the signals back from a callable, and give the others what they had."""
        pthread_sigmask(signal.SIG_SETMASK, self._mask)
        signal.set_wakeup_fd(self.bell.write, warn_on_full_buffer=False)
        now = list(map(getsignal, _SETTABLE))
        if now != self._handlers:
            for number, was, is_ in zip(_SETTABLE, self._handlers, now, strict=True):
                if is_ != was and was is not None:  # None: not set by Python
                    signal.signal(number, was)

    def _be_deaf(self) -> None:
        """In a forked child: signals are its own, and our bell is not."""
        signal.set_wakeup_fd(-1)
        for number in (*self._signals, INTERRUPT):
            signal.signal(number, signal.SIG_DFL)

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        before = self.asked
        if number in PASSED_ON:
            self._passed_on = max(self._passed_on, PASSED_ON[number])
        else:
            self._heard = max(self._heard, self._count(number))
        self.bell.ring()
        if self.asked > before:
            by_us = number not in PASSED_ON
            words = signal.Signals(number).name if by_us else "its supervisor stops"
            self.reason = self.reason or words
            self.announce(self.sentence)
        if self.now and self.interruptible:
            self.interruptible = ""
            raise StoppedAtOnceError

    def _count(self, number: int) -> int:
        """How often we were asked by signals of our own, this one included."""
        self._calls[number] += 1
        # RACE: of two that arrive before Python looks it calls us once. But each has
        # written its number into the bell.
        self.bell.drain()
        heard = self.bell.signals | self._calls  # the larger of each
        asked = heard[signal.SIGINT] + heard[signal.SIGTERM]
        return max(asked, min(1, heard[signal.SIGHUP]))

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        # RACE: the signal may arrive when the next callable runs already. Once for
        # each attempt: what it does to tidy up has the whole grace.
        running = self.interruptible
        if running in self.cancelled and running != self._interrupted:
            self._interrupted = running
            raise TaskCancelledError
        if (
            running and running == self.expired
        ):  # each time: it may be lost in a __del__
            raise DeadlineError
