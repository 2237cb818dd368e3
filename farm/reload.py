"""Whether the project's own Python modules changed since they were imported.

A worker that runs callables keeps their modules: `note` after each task sees
which. Before it takes the next task it asks `changed`, which looks at most twice a
second; if a file is not what was imported, the worker starts afresh, because no
way of reloading modules in place is right for all of them.
"""

import os
import sys
from typing import NamedTuple

PAUSE = 0.5  # seconds between two looks; changes are seen within a second


_CLOCK_GRAIN = 0.02  # seconds; mtimes come from a coarser clock than ours


class _Version(NamedTuple):
    mtime_ns: int
    size: int


_UNKNOWN = _Version(-1, -1)  # equals no file's version


class Modules:
    """The modules below one folder, as they were when they were imported."""

    def __init__(self, root: str) -> None:
        self._root = os.path.join(os.path.realpath(root), "")
        self._seen: dict[str, _Version] = {}
        self._count = len(sys.modules)
        self._looked = float("-inf")

    def note(self, since: float) -> None:
        """After a task that began at `since` (POSIX seconds): it may have imported.

        RACE: a file that changed after the task began may have been imported
        before or after the change. It is taken for changed; starting afresh once
        too often does no harm.
        """
        if len(sys.modules) == self._count:
            return
        self._count = len(sys.modules)
        for path in self._own() - self._seen.keys():
            now = _version(path)
            late = now.mtime_ns >= (since - _CLOCK_GRAIN) * 1e9
            self._seen[path] = _UNKNOWN if late else now

    def changed(self, tick: float) -> str | None:
        """The path of a module that changed; `tick` is monotonic seconds."""
        if tick - self._looked < PAUSE:
            return None
        self._looked = tick
        seen = self._seen.items()
        return next((path for path, then in seen if _version(path) != then), None)

    def _own(self) -> set[str]:
        files = (getattr(m, "__file__", None) for m in list(sys.modules.values()))
        # An environment inside the project is not edited while tasks run.
        return {
            str(path)
            for path in files
            if path and path.startswith(self._root) and "site-packages" not in path
        }


def _version(path: str) -> _Version:
    try:
        now = os.stat(path)
    except OSError:
        return _Version(0, 0)  # deleted: a change
    return _Version(now.st_mtime_ns, now.st_size)


def forget_folders() -> None:
    """Let the next import find files that are younger than the last one.

    As `importlib.invalidate_caches`, which since Python 3.12 imports fifty modules
    before it does so: within a task, each may lack a descriptor or an intact disk.
    """
    for place, finder in list(sys.path_importer_cache.items()):
        if finder is None or not os.path.isabs(place):
            sys.path_importer_cache.pop(place, None)  # it may be a folder by now
        elif hasattr(finder, "invalidate_caches"):
            finder.invalidate_caches()
