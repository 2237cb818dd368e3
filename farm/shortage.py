"""Whether a task that needs an API key can have one now, before it is claimed.

    Shortage(settings, ring).put_off(task, now)   -> Waiting, or None if it can

A task whose keys all rest waits like one whose time has not come: no worker is held, no
attempt is written down, and tasks of other kinds go on. It is a hint like everything that
is asked before the lock; the turn itself is reserved when the task is claimed.
"""

from farm.config import Settings
from farm.errors import ConfigError
from farm.keyring import Keyring, Later
from farm.scopes import Want, want_of
from farm.standing import Waiting
from farm.task import Task


class Shortage:
    """Answers for all tasks of one process."""

    def __init__(self, settings: Settings, ring: Keyring) -> None:
        self._settings = settings
        self._ring = ring
        self._known: dict[Want, tuple[float | None, Later | None]] = {}

    def put_off(self, task: Task, now: float) -> Waiting | None:
        """Until when, and why, this task must wait for a key."""
        try:
            want = self._want(task)
            later = None if want is None else self._later(want, now)
        except ConfigError:
            return None  # its runner says what is wrong
        return None if later is None else Waiting(later.why, later.until, for_key=True)

    def _want(self, task: Task) -> Want | None:
        if task.credentials is not None:
            return Want(task.credentials, tells=False)
        return want_of(self._settings.agent(task.agent))

    def _later(self, want: Want, now: float) -> Later | None:
        """What the ring says; asked once for all tasks of one look, which have one `now`."""
        asked_at, later = self._known.get(want, (None, None))
        if asked_at != now:
            later = self._ring.later(want, now)
            self._known[want] = (now, later)
        return later
