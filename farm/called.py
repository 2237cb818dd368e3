"""The guard of a callable: it runs in the main thread, so the heart looks after it.

guard.look(called, tick)     at each beat; what runs now, or None
"""

import os
import time
from contextlib import ExitStack

import msgspec

from farm.capture import Capture
from farm.guard import Guard, Limits, Printed, Quiet, Verdict


class Called(msgspec.Struct, frozen=True):
    """A callable that runs, and what it may do."""

    token: str
    limits: Limits
    progress: str  #: the path of FARM_PROGRESS


class CallGuard:
    """See the module's docstring."""

    def __init__(self, capture: Capture) -> None:
        self.quiet = Quiet()  #: of the attempt that runs, a command's too
        self._capture = capture
        self._token = ""
        self._guard: Guard | None = None
        self._open = ExitStack()  # what it has printed so far

    def look(self, called: Called | None, tick: float) -> Verdict | None:
        """Why it must end; None if it may go on, or nothing runs."""
        if called is None or called.token != self._token:
            self._over()
        if called is None:
            return None
        if self._guard is None:
            self._token = called.token
            self._open = ExitStack()
            logs = self._open.enter_context(self._capture.opened())
            signs = Printed(logs, called.progress, _computed)
            begun = tick - called.limits.heartbeat
            self._guard = Guard(called.limits, logs, signs, begun)
        verdict = self._guard.look(tick)
        self.quiet.note(self._guard, time.time())
        return verdict

    def _over(self) -> None:
        if self._guard is not None:
            self.quiet.over()
        self._token, self._guard = "", None
        self._open.close()


def _computed() -> float:
    """Processor seconds of this process and of all that it has waited for."""
    now = os.times()
    return now.user + now.system + now.children_user + now.children_system
