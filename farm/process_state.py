"""What a callable may change in its worker's process, and the way back.

    state = ProcessState(root)    when the worker begins: all of it as it is to stay
    state.remember()              a module was imported: what it set in Python stays
    state.put_back()              after each callable
    state.lost                    what only a new process has again, in words
    state.left                    threads that it left at work; see `busy_threads`
    state.wait_for_threads(1.0)   until they are done; those that are not
    state.end_children()          processes that `multiprocessing` has left

A callable runs in the worker itself, and the next task must not feel that. What is
cheap to set is set each time (timers, the umask); what is cheaper to compare is
compared first. Signals are the business of `farm.stop`, descriptors 0 to 2 of
`farm.capture`, the folder and the environment of `farm.runners.call`.

Resource limits and the locale are looked at only where somebody has imported what sets
them: `resource`, `locale`.
"""

import gc
import os
import signal
import sys
import threading
import time
import warnings

# `locale` itself takes a millisecond to import, and a project may have one of its own.
from _locale import LC_ALL, setlocale
from _thread import _count  # of all threads beside this one
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_POOL = os.path.join("concurrent", "futures", "thread.py")
_NAP = 0.02  # seconds; an executor's thread does not end when its work does
SPOILT = 76  #: exit code of a worker whose process is not what it was, for good
SESSION_SLOT = "FARM_SESSION_SLOT"  #: in the environment of a session's own worker
_DEFAULT_MASK = 0o022  # while we ask for ours, which only setting it tells


class _OfPython(NamedTuple):
    """Settings of the interpreter that hold for all that runs in it."""

    recursion: int
    collects: bool
    zone: tuple[str, str]
    seconds_west: int
    tracer: Any
    profiler: Any
    timeout: float | None  #: of new sockets


class _OfKernel(NamedTuple):
    """What the kernel keeps of a process and its children inherit."""

    nice: int
    policy: int
    processors: set[int]


class ProcessState:
    """See the module's docstring. Main thread only."""

    def __init__(self, root: str) -> None:
        self._mask = os.umask(_DEFAULT_MASK)
        os.umask(self._mask)
        self._kernel = _OfKernel(*_of_kernel())
        self._resource = _unlisted_resource()
        self._limits = self._read_limits()
        self._argv = sys.argv.copy()
        self._places = [root, *sys.path]
        self._path = sys.path.copy()
        self.lost = ""
        self.left: list[threading.Thread] = []
        self._threads = 0  # how many ran when all of them were daemons
        self.remember()

    def remember(self) -> None:
        """After an import: what the module set in Python holds for all its tasks."""
        self._python = _OfPython(*_of_python())
        self._filters = warnings.filters[:]
        self._locale = setlocale(LC_ALL)

    def put_back(self) -> None:
        """Undo what a callable did, as far as the kernel lets us."""
        for timer in _TIMERS:
            signal.setitimer(timer, 0)
        os.umask(self._mask)
        if _of_kernel() != self._kernel:
            self._put_back_kernel()
        if "resource" in sys.modules:
            self._put_back_limits()
        self._put_back_python()
        if _count() != self._threads:
            self.left = self._find_threads()

    # -- of the kernel ---------------------------------------------------------------

    def _put_back_kernel(self) -> None:
        before, now = self._kernel, _OfKernel(*_of_kernel())
        if now.processors != before.processors:
            self._try(os.sched_setaffinity, 0, before.processors)
        if now.policy != before.policy:
            self._try(os.sched_setscheduler, 0, before.policy, os.sched_param(0))
        if now.nice != before.nice:
            self._try(os.setpriority, os.PRIO_PROCESS, 0, before.nice)
        # An operator may have narrowed it; what is as it was is not looked at again.
        self._kernel = now = _OfKernel(*_of_kernel())
        if now.nice != before.nice or now.policy != before.policy:
            self.lost = f"its priority (nice {now.nice}, it was {before.nice})"

    def _try(self, put_back: Callable[..., object], *what: object) -> None:
        try:
            put_back(*what)
        except OSError as error:  # the comparison that follows tells
            self.lost = self.lost or f"a setting of the kernel ({error.strerror})"

    def _read_limits(self) -> dict[str, tuple[int, int]]:
        names = [name for name in dir(self._resource) if name.startswith("RLIMIT_")]
        get = self._resource.getrlimit
        return {name: get(getattr(self._resource, name)) for name in names}

    def _put_back_limits(self) -> None:
        now = self._read_limits()
        if now == self._limits:
            return
        for name, before in self._limits.items():
            if now[name] != before:
                self._put_back_limit(name, before, now[name])
        self._limits = self._read_limits()

    def _put_back_limit(
        self, name: str, before: tuple[int, int], now: tuple[int, int]
    ) -> None:
        number, hard = getattr(self._resource, name), now[1]
        try:
            self._resource.setrlimit(number, before)
        except (ValueError, OSError):  # only a privileged process may raise a hard one
            soft = before[0] if 0 <= before[0] < hard else hard
            self._resource.setrlimit(number, (soft, hard))
            self.lost = f"its hard limit {name} ({hard}, it was {before[1]})"

    # -- of Python -------------------------------------------------------------------

    def _put_back_python(self) -> None:
        if getattr(sys, "argv", None) != self._argv:
            sys.argv = self._argv.copy()
        if getattr(sys, "path", None) != self._path:
            self._put_back_path()
        if _of_python() != self._python:
            self._put_back_settings(self._python)
        if warnings.filters != self._filters:
            warnings.resetwarnings()  # so that what modules have noted of them is void
            warnings.filters[:] = self._filters  # type: ignore[index]  # a list, in truth
        if "locale" in sys.modules and setlocale(LC_ALL) != self._locale:
            setlocale(LC_ALL, self._locale)

    def _put_back_path(self) -> None:
        """What a module added stays, for it may import by that later; ours comes back."""
        if not isinstance(getattr(sys, "path", None), list):
            sys.path = self._path
        gone = [place for place in self._places if place not in sys.path]
        if self._places[0] in gone:
            sys.path.insert(0, gone.pop(0))
        sys.path.extend(gone)
        self._path = sys.path.copy()

    def _put_back_settings(self, before: _OfPython) -> None:
        sys.setrecursionlimit(before.recursion)
        (gc.enable if before.collects else gc.disable)()
        time.tzset()  # of the environment, which is as it was
        sys.settrace(before.tracer)
        sys.setprofile(before.profiler)
        if network := _loaded("_socket"):
            network.setdefaulttimeout(before.timeout)
        self._python = _OfPython(*_of_python())  # of a zone no setting may lead back

    # -- what still runs -------------------------------------------------------------

    def _find_threads(self) -> list[threading.Thread]:
        left = lasting_threads()
        self._threads = 0 if left else _count()
        return _busy(left)

    def wait_for_threads(self, seconds: float) -> list[threading.Thread]:
        """Until those that a callable left are done; those that are not by then."""
        until = time.monotonic() + seconds
        while self.left and (left := until - time.monotonic()) > 0:
            self.left[0].join(min(left, _NAP))
            self.left = self._find_threads()
        return self.left

    def end_children(self) -> bool:
        """Kill what `multiprocessing` has started here and left; whether there was any."""
        package = _loaded("multiprocessing")
        children = package.active_children() if package else []
        for child in children:
            child.kill()
        return bool(children)


def busy_threads() -> list[threading.Thread]:
    """Those that would keep this process from its end.

    A daemon thread would not: libraries leave them for good, and so they may. Nor do
    threads of an executor that have nothing to do.
    """
    return _busy(lasting_threads())


def lasting_threads() -> list[threading.Thread]:
    """Those that Python waits for at its end."""
    main = threading.main_thread()
    return [t for t in threading.enumerate() if not t.daemon and t is not main]


def _busy(threads: list[threading.Thread]) -> list[threading.Thread]:
    if not threads:
        return []
    tops = sys._current_frames()  # noqa: SLF001 - the only way to know what they do
    return [thread for thread in threads if not _is_idle(tops.get(thread.ident or 0))]


def _of_python() -> tuple[Any, ...]:
    """What `_OfPython` holds; a plain tuple, as it is asked for after each callable."""
    modules = sys.modules
    return (
        sys.getrecursionlimit(),
        gc.isenabled(),
        time.tzname,
        time.timezone,
        sys.gettrace(),
        sys.getprofile(),
        modules["_socket"].getdefaulttimeout() if "_socket" in modules else None,
    )


def _of_kernel() -> tuple[Any, ...]:
    """What `_OfKernel` holds."""
    return (
        os.getpriority(os.PRIO_PROCESS, 0),
        os.sched_getscheduler(0),
        os.sched_getaffinity(0),
    )


def _loaded(name: str) -> Any:
    return sys.modules.get(name)


def _unlisted_resource() -> ModuleType:
    """The module `resource`; not in `sys.modules` unless others have imported it."""
    known = "resource" in sys.modules
    import resource  # noqa: PLC0415 - see above

    if not known:
        del sys.modules["resource"]
    return resource


def _is_idle(top: Any) -> bool:
    """Whether a thread with this frame on top waits for work of an executor."""
    if top is None:
        return False
    code = top.f_code
    return bool(code.co_name == "_worker" and code.co_filename.endswith(_POOL))
