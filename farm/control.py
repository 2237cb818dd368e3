"""Control by files in `.farm/control/`, so that it works over a mount.

    pause            nothing new starts        until the file is removed
    pause-<glob>     nothing that matches      (`/` is written %2F in the name)
    drain            every worker finishes what it runs and ends

Workers look whenever they look for tasks; a worker that drains leaves the file
for the others, and the supervisor removes it when all have ended.
"""

import os
from urllib.parse import unquote

import msgspec

from farm.pattern import matches
from farm.project import Project

ALL = "pause"
_SOME = "pause-"
DRAIN = "drain"


class Orders(msgspec.Struct, frozen=True):
    """What the control files say now; globs are by the names of their files."""

    paused: bool = False
    globs: dict[str, str] = {}
    drain: bool = False

    def holds(self, task_id: str) -> str | None:
        """The control file that pauses this task, or None."""
        if self.paused:
            return ALL
        found = (name for name, glob in self.globs.items() if matches(glob, task_id))
        return next(found, None)


class Control:
    """The orders of one project, read again when its folder changed."""

    def __init__(self, project: Project) -> None:
        self._folder = project.control
        self._mtime_ns = -1

    def changed(self) -> bool:
        """Whether an order came or went since the last `read`: one system call."""
        return self._mtime() != self._mtime_ns

    def read(self) -> Orders:
        """The orders in force."""
        self._mtime_ns = self._mtime()
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return Orders()  # no folder, no orders
        globs = {
            n: unquote(n.removeprefix(_SOME))
            for n in sorted(names)
            if n.startswith(_SOME)
        }
        return Orders(ALL in names, globs, DRAIN in names)

    def _mtime(self) -> int:
        try:
            return os.stat(self._folder).st_mtime_ns
        except FileNotFoundError:
            return 0
