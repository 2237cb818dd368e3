"""Whether the project's own Python modules changed since they were imported.

A worker that runs callables keeps their modules: `note` after each task sees
which. Between its look at a task that calls one and the claim it asks `changed`; if a
file is not what was imported, the worker starts afresh, because no way of reloading
modules in place is right for all of them. So what was edited before a task was
dropped, or by a task that it needs, is what runs.

A look costs the more the more modules there are, so many are not looked at before
each task, but every few milliseconds.
"""

import os
import sys

EACH = 0.0003  #: seconds between two looks, for each module: a few percent of the time,
PAUSE = 0.5  #: ... but no more than that

_CLOCK_GRAIN = 0.02  # seconds; files' times come from a coarser clock than ours
_COARSE_GRAIN = 2.0  # ... where they are whole seconds, or a server's
_SECOND_NS = 1_000_000_000


#: time of the last change, size, inode: a plain tuple, as it is made before each call
_Version = tuple[int, int, int]
_UNKNOWN: _Version = (-1, -1, -1)  # equals no file's version
_GONE: _Version = (0, 0, 0)


class Modules:
    """The modules below one folder, as they were when they were imported."""

    def __init__(self, root: str, *, network: bool = False) -> None:
        # A project that was named through a link has both kinds of paths.
        roots = (os.path.abspath(root), os.path.realpath(root))
        self._roots = tuple(os.path.join(path, "") for path in roots)
        self._network = network
        self._seen: dict[str, _Version] = {}
        self._count = len(sys.modules)
        self._looked = float("-inf")
        self.stale = ""  #: the path of a module that changed, once one was found

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
            coarse = self._network or now[0] % _SECOND_NS == 0
            grain = _COARSE_GRAIN if coarse else _CLOCK_GRAIN
            late = now[0] >= (since - grain) * _SECOND_NS
            self._seen[path] = _UNKNOWN if late else now

    def changed(self, tick: float) -> bool:
        """Whether one changed, then also `stale` says which; `tick` is monotonic."""
        if not self.stale and tick - self._looked >= min(PAUSE, EACH * len(self._seen)):
            self._looked = tick
            seen = self._seen.items()
            self.stale = next((p for p, then in seen if _version(p) != then), "")
        return bool(self.stale)

    def _own(self) -> set[str]:
        files = (getattr(m, "__file__", None) for m in list(sys.modules.values()))
        # An environment inside the project is not edited while tasks run.
        return {
            path
            for path in map(str, files)
            if path.startswith(self._roots) and "site-packages" not in path
        }


def _version(path: str) -> _Version:
    """Other bytes have another one; the time of the last write can be set by anyone."""
    try:
        now = os.stat(path)
    except OSError:
        return _GONE  # which is a change
    return now.st_ctime_ns, now.st_size, now.st_ino


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
