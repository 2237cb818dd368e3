"""Call a Python function: a `call` task, in the worker's own process.

That is what makes callables quick, and why the worker guards itself: `env` and
`cwd` are set around the call and restored, and so is what else the callable did to
the process (`farm.process_state`); output is caught (`farm.capture`); at the deadline
a signal raises `DeadlineError` in the main thread, once a second until it gets
through; a callable that lets no Python run (C code) is ended with the whole worker
by `faulthandler`, which needs no interpreter lock. Its last words then lie in
`<worker>.stacks`, and whoever settles the attempt calls it timed out
(`farm.claim.vanished`).

Must run in the main thread, as signals only arrive there.
"""

import faulthandler
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import msgspec

from farm.errors import MACHINE, TaskFileError
from farm.job import Job, run_variables, task_variables, working_folder
from farm.reload import forget_folders
from farm.result import CANCELLED, Error, Outcome, ends_of
from farm.states import Why
from farm.stop import DeadlineError, StoppedAtOnceError, TaskCancelledError
from farm.value import judged, plain_text

_FARM = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")
_FARM_NAME = __name__.partition(".")[0]  # a session's tasks call a function of it
_ENDS_PROGRAM = (
    ", so it ends the program that imports it:"
    ' put what it does besides under `if __name__ == "__main__":`'
)
_LONGEST_PART = 1_000  # letters of one frame of a traceback, or of what was raised


def run(job: Job) -> Outcome:
    """Call the function of a claimed task and judge what it returned."""
    given = job.secrets.given(job.claim.task.env_from)
    if given:
        job.capture.hide()
    try:
        job.quiet.callable = job
        outcome = _run(job)
    except DeadlineError:
        outcome = _timed_out(job)
    except TaskCancelledError:
        verdict = job.stop.verdicts.get(job.claim.opened.token)
        outcome = Outcome(Why.CANCELLED, error=CANCELLED)
        if verdict is not None:
            outcome = Outcome(verdict.why, error=verdict.error)
    except StoppedAtOnceError:
        message = f"interrupted because its worker was told to stop ({job.stop.reason})"
        outcome = Outcome(Why.DRAINED, error=Error("drained", message))
    finally:
        job.quiet.callable = None
        _disarm(job)
        job.state.put_back()
        job.stop.listen_again()  # an event loop may have taken the signals
    redactor = job.secrets.redactor if given else None
    taken = job.capture.take(job.log, job.most_output, redactor)
    return msgspec.structs.replace(outcome, stdout=taken.get(1), stderr=taken.get(2))


def _timed_out(job: Job) -> Outcome:
    message = f"timed out after {job.claim.opened.timeout:g} s"
    return Outcome(Why.TIMED_OUT, error=Error("timeout", message))


def _run(job: Job) -> Outcome:
    try:
        with _surroundings(job):
            try:
                _arm(job)
                returned = _called(job)
            finally:
                _disarm(job)
    except TaskFileError as fault:
        return Outcome(Why.FAILED, error=Error("environment", str(fault)))
    except (DeadlineError, StoppedAtOnceError, TaskCancelledError):
        raise
    except NoThreadError:
        return Outcome(Why.FAULT, error=Error("machine", "cannot start a thread"))
    except CannotImportError as error:
        cause = error.__cause__ or error
        if isinstance(cause, OSError) and cause.errno in MACHINE:
            words = f"could not import: {cause.strerror}"
            return Outcome(Why.FAULT, error=Error("machine", words))
        return Outcome(Why.FAILED, error=_described("import", cause, str(error)))
    except BaseException as error:  # noqa: BLE001 - a task may raise anything, also SystemExit
        return Outcome(Why.FAILED, error=_described("exception", error, _said(error)))
    return judged(returned)


def _called(job: Job) -> object:
    """Import, call, await; what was forked in there never comes back from here."""
    me, task = os.getpid(), job.claim.task
    try:
        modules = len(sys.modules)
        function = _imported(task.call or "", job.project.root)
        if len(sys.modules) != modules:
            job.state.remember()
        returned = function(*task.args, **task.kwargs)
        return _awaited(returned) if inspect.isawaitable(returned) else returned
    finally:
        if os.getpid() != me:  # a forked child fell out of the function
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0 if sys.exc_info()[0] in (None, SystemExit) else 1)


def _awaited(returned: Awaitable[object]) -> object:
    import asyncio  # noqa: PLC0415 - a worker starts a fifth sooner without it

    async def wait() -> object:
        return await returned

    return asyncio.run(wait())


# -- around the call -------------------------------------------------------------


@contextmanager
def _surroundings(job: Job) -> Iterator[None]:
    """The task's folder and variables; what was there before comes back."""
    folder, own = working_folder(job), task_variables(job)
    # Encoded, as Python keeps it: os.environ itself decodes all of it at each look,
    # which costs more than the whole claim.
    environ = os.environ._data  # type: ignore[attr-defined] # noqa: SLF001 - see above
    try:
        for name, value in (own | run_variables(job)).items():
            os.environ[name] = value
        as_called = environ.copy()
        os.chdir(folder)
        yield
    finally:
        os.chdir(job.project.root)
        if own or environ != as_called:  # else only farm's own, which the next sets
            _restore_environ(job.environ)


def _restore_environ(before: Mapping[str, str]) -> None:
    """Undo what the task set, and what its function did to the rest."""
    now = os.environ.copy()
    for name in now.keys() - before.keys():
        del os.environ[name]
    for name, value in before.items() - now.items():
        os.environ[name] = value


def _arm(job: Job) -> None:
    """Interrupt at the deadline, and end the whole worker a grace later.

    RACE: the signal may come at any moment until it is disarmed, also after the
    function returned. Then the deadline has passed all the same; `run` says so, and
    disarms once more whatever was interrupted.
    """
    timeout, token = job.claim.opened.timeout, job.claim.opened.token
    if timeout is not None:
        try:
            job.stop.deadline.set(token, timeout)
            faulthandler.dump_traceback_later(
                timeout + job.settings.grace, exit=True, file=job.capture.stacks
            )
        except RuntimeError as error:
            raise NoThreadError from error
    job.stop.interruptible = token
    if job.stop.expired == token:  # RACE: it was told of before that
        raise DeadlineError


def _disarm(job: Job) -> None:
    job.stop.interruptible = ""
    if job.claim.opened.timeout is not None:
        job.stop.deadline.clear()
    faulthandler.cancel_dump_traceback_later()  # a callable may have set one itself


# -- the function ----------------------------------------------------------------


class NoThreadError(Exception):
    """The machine gives no thread that could watch the deadline."""


class CannotImportError(Exception):
    """The module or the function of a `call` cannot be imported."""


@lru_cache(maxsize=1024)
def _imported(call: str, root: str) -> Callable[..., object]:
    name, _, path = call.partition(":")
    forget_folders()  # the file may be younger than the last look
    try:
        found: Any = importlib.import_module(name)
    except (DeadlineError, StoppedAtOnceError, TaskCancelledError):
        raise
    except BaseException as error:
        message = f"cannot import {name}: {_shadowed(name, root) or _said(error)}"
        if isinstance(error, SystemExit):
            message += _ENDS_PROGRAM
        raise CannotImportError(message) from error
    if fault := _shadowed(name, root):
        raise CannotImportError(f"cannot import {name}: {fault}")
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            message = f"{name} has no {path}: correct the task, or write it"
            raise CannotImportError(message) from error
    if not callable(found):
        raise CannotImportError(f"{call} is {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]  # callable() does not narrow Any


def _shadowed(name: str, root: str) -> str | None:
    """Which other module has the name of one in the project; None if none has."""
    top = name.partition(".")[0]
    files = (os.path.join(root, f"{top}.py"), os.path.join(root, top, "__init__.py"))
    mine = next((file for file in files if os.path.isfile(file)), None)
    other = sys.modules.get(top)
    if mine is None or other is None or top == _FARM_NAME:
        return None
    file = getattr(other, "__file__", None)
    if file and os.path.realpath(file) == os.path.realpath(mine):
        return None
    return (
        f"another module of that name is already loaded ({file or 'built into Python'}),"
        f" so {mine} cannot be: rename that file"
    )


def _described(kind: str, error: BaseException, message: str) -> Error:
    return Error(
        kind,
        plain_text(message),
        type=plain_text(type(error).__name__),
        traceback=plain_text(_own_traceback(error)) or None,
    )


def _said(error: BaseException) -> str:
    """The exception's class and words; a class may fail to say any."""
    name = type(error).__name__
    if isinstance(error, MemoryError):
        name = f"out of memory: {name}"
    try:
        return f"{name}: {error}" if str(error) else name
    except Exception:  # noqa: BLE001 - its own __str__ is broken
        return name


def _own_traceback(error: BaseException) -> str:
    """The traceback as Python prints it, without farm's own frames."""
    top = traceback.TracebackException.from_exception(error)
    seen: set[int] = set()
    todo: list[traceback.TracebackException | None] = [top]
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        kept = [
            f for f in one.stack if not f.filename.startswith((_FARM, "<frozen imp"))
        ]
        one.stack = traceback.StackSummary.from_list(kept)
        todo += [one.__cause__, one.__context__, *(one.exceptions or ())]
    # What was raised is the error's message; here a long one would stand once more.
    return "".join(ends_of(part, _LONGEST_PART) for part in top.format())
