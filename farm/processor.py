"""A function of the caller's, named so that a worker finds it, and called there.

    named(function)     what another process needs to import it; UsageError if none can
    run(task, caller)   in a worker: import it, call it, look at what it returned

A function is found by its module's name, if that is to be imported from the caller's
`sys.path`; else by the module's file. So the functions of a script that was started by
its name (`__main__`) work, too: the worker imports that file, under another name than
`__main__`. What the script does besides belongs under `if __name__ == "__main__":`.

A lambda, a partial, what was defined inside a function and a method of an object have
no name that leads to them from outside. What was typed at a prompt lies in no file.

A worker of the session in which a function failed takes no other task: it ends, and
whoever started it starts the next one (`farm.sessions`). A worker of somebody else
goes on.
"""

import asyncio
import importlib
import inspect
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from importlib.machinery import PathFinder, SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from types import ModuleType
from typing import Any

import msgspec

from farm.errors import UsageError
from farm.process_state import SESSION_SLOT
from farm.reload import forget_folders
from farm.stop import StoppedAtOnceError, TaskCancelledError
from farm.value import judged

SLOT = SESSION_SLOT  #: in a worker's environment: `<session>/<number>`
_TODO = (
    "Define it with `def` or `async def` at the top level of a file, and pass it by its"
    " name; what it needs besides goes into the tasks"
)

Processor = Callable[[dict[str, Any], int], Any]  #: of a task and a worker's number


class Named(msgspec.Struct, frozen=True):
    """Where another process finds a function."""

    module: str
    function: str  #: `process`, or `Class.process` of a static method
    file: str | None  #: of a module that no name leads to


class Caller(msgspec.Struct, frozen=True):
    """What a worker must know of the caller to run one task of its."""

    name: str
    function: Named
    path: Sequence[str]  #: `sys.path` of the caller
    folder: str | None  #: its current folder; None: where the worker is
    worker_id: int  #: in a worker of somebody else
    argv: Sequence[str] = ()  #: `sys.argv` of the caller; its script may read it


# -- in the caller -----------------------------------------------------------------


def named(function: Processor) -> Named:
    """How another process finds this function; UsageError says what is in the way."""
    if fault := _fault(function):
        raise UsageError(f"no worker could import this processor: {fault}. {_TODO}")
    name, home = function.__qualname__, sys.modules[function.__module__]
    by_name = _importable(home)
    file = None if by_name else _source(home)
    return Named(by_name or function.__module__, name, file)


def _fault(function: Any) -> str | None:
    """Why no name leads to it; None if one does."""
    module, name = (getattr(function, n, "") for n in ("__module__", "__qualname__"))
    if not callable(function) or not name:
        return f"this {type(function).__qualname__} is no function"
    if "<" in name:
        return f"{name} has no name of its own that leads to it from outside"
    if inspect.ismethod(function) and not inspect.isclass(function.__self__):
        return f"{name} is a method of an object, which only this process has"
    home = sys.modules.get(module)
    if home is None or not _is(function, home, name):
        return f"{module} has no {name} that is this function"
    lies = _importable(home) or _source(home)
    return None if lies else f"{module} lies in no file"


def _is(function: object, home: ModuleType, name: str) -> bool:
    """Whether a name in a module leads to this very function."""
    found: Any = home
    for part in name.split("."):
        found = getattr(found, part, None)
    return bool(found == function)  # a class method is made anew at each look


def _importable(module: ModuleType) -> str | None:
    """The name by which a module is found on `sys.path`; None if by none."""
    name = module.__name__
    if name == "__main__":
        spec = module.__spec__  # of `python -m name`; a script has none
        return spec.name if spec else None
    if name in sys.builtin_module_names:
        return name
    found = PathFinder.find_spec(name, _searched(name))
    file = getattr(module, "__file__", None)
    return name if found and found.origin and found.origin == file else None


def _searched(name: str) -> Sequence[str] | None:
    """Where a module of this name is looked for; None means `sys.path`."""
    above = name.rpartition(".")[0]
    if not above:
        return None
    parent = sys.modules.get(above)
    if parent is None or PathFinder.find_spec(above, _searched(above)) is None:
        return ()
    return list(getattr(parent, "__path__", ()))


def _source(module: ModuleType) -> str | None:
    file = getattr(module, "__file__", None)
    return os.path.abspath(file) if file and os.path.isfile(file) else None


def search_path() -> list[str]:
    """Our own `sys.path`, in words that mean the same in another folder."""
    return [os.path.abspath(place) for place in sys.path]


# -- in a worker -------------------------------------------------------------------

_importing: list[str] = []  #: files and modules whose import has begun


def refuse_at_import() -> None:
    """UsageError in a worker that has not even imported the processor yet."""
    if _importing:
        raise UsageError(
            f"{_importing[-1]} starts a session as soon as a worker of a session imports"
            ' it: put what it does under `if __name__ == "__main__":`'
        )


def run(task: dict[str, Any], caller: dict[str, Any]) -> object:
    """What a `call` task of a session calls: the processor, with this very task."""
    known = msgspec.convert(caller, Caller)
    name, _, number = os.environ.get(SLOT, "").rpartition("/")
    ours = name == known.name
    try:
        return _processed(task, known, int(number) if ours else known.worker_id)
    except (StoppedAtOnceError, TaskCancelledError):
        raise
    except BaseException:
        if ours:  # before the result is there, so that nothing is claimed after it
            signal.raise_signal(signal.SIGTERM)
        raise


def _processed(task: dict[str, Any], caller: Caller, worker_id: int) -> object:
    """What the processor returned, if JSON can hold it; TypeError says what it cannot."""
    function = _found(caller)
    if caller.folder is not None:
        os.chdir(caller.folder)
    returned = function(task, worker_id)
    if inspect.isawaitable(returned):
        returned = asyncio.run(_awaited(returned))
    if error := judged(returned).error:
        raise TypeError(error.message)
    return returned


async def _awaited(returned: Awaitable[object]) -> object:
    return await returned


def _found(caller: Caller) -> Processor:
    """Import what the caller named."""
    sys.argv = list(caller.argv) or sys.argv
    # Behind the project's own folder, as every other task of it expects.
    sys.path[1:1] = [place for place in caller.path if place not in sys.path]
    wanted = caller.function
    _importing.append(wanted.file or wanted.module)
    try:
        found: Any = _module(wanted)
    finally:
        _importing.pop()
    for part in wanted.function.split("."):
        found = getattr(found, part)
    function: Processor = found
    return function


def _module(wanted: Named) -> ModuleType:
    if wanted.file is None:
        forget_folders()  # the file may be younger than the last look
        return importlib.import_module(wanted.module)
    if there := sys.modules.get(wanted.file):
        return there
    # Under its path, which is nobody's name. Known while it runs: its classes ask.
    spec = spec_from_loader(wanted.file, SourceFileLoader(wanted.file, wanted.file))
    assert spec is not None, "its loader was given"  # noqa: S101 - for mypy
    module = sys.modules[wanted.file] = module_from_spec(spec)
    try:
        assert spec.loader is not None, "the same"  # noqa: S101 - for mypy
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[wanted.file]
        raise
    return module
