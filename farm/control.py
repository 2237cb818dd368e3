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
    """What the control files say now."""

    paused: bool = False
    globs: tuple[str, ...] = ()
    drain: bool = False

    def holds(self, task_id: str) -> str | None:
        """The control file that pauses this task, or None."""
        if self.paused:
            return ALL
        for glob in self.globs:
            if matches(glob, task_id):
                return f"{_SOME}{glob}"
        return None


def read(project: Project) -> Orders:
    """The orders in force."""
    try:
        names = os.listdir(project.control)
    except FileNotFoundError:
        return Orders()  # no folder, no orders
    some = sorted(n.removeprefix(_SOME) for n in names if n.startswith(_SOME))
    return Orders(ALL in names, tuple(unquote(glob) for glob in some), DRAIN in names)
