"""The command line: parse, call one function, print.

Click reads it (`farm.cli.verbs`), but for a plain `farm worker PROJECT`: importing
click would be a quarter of that one's start. Results go to stdout, messages to stderr.
A `FarmError` is printed as one sentence and ends with its own exit code, and so is
what the system refuses; a traceback means a bug in farm (70), and nothing else does.
"""

import errno
import gc
import importlib
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple, TextIO

from farm.cli import streams
from farm.errors import FULL, FarmError

#: take a worker's secrets out of what is said, also of the traceback of a bug
cleaners: list[Callable[[str], str]] = []
#: told the exit code, they see to it that nothing keeps the process from ending with it
leavers: list[Callable[[int], None]] = []
INTERRUPTED = 130  # as a shell says it of a program that SIGINT ended
BUG = 70  # EX_SOFTWARE
_TODO = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EROFS: "mount it read-write",
    errno.EACCES: "give yourself the right to",
    errno.EPERM: "give yourself the right to",
}


class Order(NamedTuple):
    """What a worker is told on its command line."""

    name: str | None = None
    supervisor: int | None = None  #: process id of its parent
    until_done: bool = False
    secrets: int | None = None  #: the descriptor from which it reads them


def plain_order(words: list[str]) -> tuple[str, Order] | None:
    """The project and the order of a plain worker, as a supervisor starts it.

    None if a command line says anything else: then click reads it.
    """
    match words:
        case ["worker", project, *rest] if not project.startswith("-"):
            order = Order()
        case _:
            return None
    while rest:
        match rest:
            case ["--until-done", *rest]:
                order = order._replace(until_done=True)
            case ["--supervisor", pid, *rest] if pid.isdecimal():
                order = order._replace(supervisor=int(pid))
            case ["--secrets", fd, *rest] if fd.isdecimal():
                order = order._replace(secrets=int(fd))
            case _:
                return None
    return (project, order) if os.path.isdir(f"{project}/tasks") else None


def run(args: list[str] | None = None) -> int:
    """The whole command line; the exit code."""
    try:
        code = _started(sys.argv[1:] if args is None else args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:  # `farm status | head`: end quietly
        streams.give_up()
        return 1
    except SystemExit as end:  # click ends so then, too, and after a completion
        streams.give_up()
        return end.code if isinstance(end.code, int) else 1
    except Exception as error:  # noqa: BLE001 - a bug must not look like "some task failed" (1)
        return _told(error)
    return code if isinstance(code, int) else 0


def _started(words: list[str]) -> object:
    if plain := plain_order(words):
        return imported("farm.cli.plain").work(*plain)
    return imported("farm.cli.verbs").read(words)


def imported(name: str) -> ModuleType:
    """A module of farm, and all that it imports, which never is garbage.

    To look for some in it all the same would take a fifth of the time.
    """
    if name in sys.modules:
        return sys.modules[name]
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        gc.enable()


def say(text: str, end: str = "\n") -> None:
    """Text for people on stderr, if there is one, as `click.echo` writes it."""
    for clean_text in cleaners:
        text = clean_text(text)
    stderr: TextIO | None = sys.stderr
    if stderr is not None:
        stderr.write(f"{text}{end}")


def clean_threads() -> None:
    """Tell what ends a thread as it is told of the main one: cleaned."""
    import threading  # noqa: PLC0415 - for workers alone

    def told(ended: threading.ExceptHookArgs) -> None:
        if ended.exc_value is not None and ended.exc_type is not SystemExit:
            name = ended.thread.name if ended.thread else "?"
            say(f"Exception in thread {name}:\n{_trace(ended.exc_value)}", end="")

    threading.excepthook = told


def _interrupted() -> int:
    say("farm: interrupted")
    return INTERRUPTED


def _told(error: Exception) -> int:
    """Say what went wrong; the exit code."""
    from farm.words import plain  # noqa: PLC0415 - only if something did

    if isinstance(error, FarmError):
        say(f"farm: {plain(str(error))}")
        return error.exit_code
    if isinstance(error, OSError):  # a full or read-only disk, say: no bug of ours
        say(f"farm: {plain(_refused(error))}")
        return 1
    if isinstance(error, MemoryError):
        say("farm: the machine has no memory left for this: free some, and try again")
        return 1
    import click  # noqa: PLC0415 - see this module's docstring

    if isinstance(error, click.exceptions.Abort):
        return _interrupted()
    if isinstance(error, click.ClickException):
        ctx = error.ctx if isinstance(error, click.UsageError) else None
        verb = ctx.command_path if ctx else "farm"
        say(f"farm: {plain(error.format_message())} ({verb} --help)")
        return error.exit_code
    say(_trace(error), end="")
    return BUG


def _refused(error: OSError) -> str:
    """What the system did not let us do, and what to do about it."""
    why = error.strerror or str(error)
    if error.filename == streams.STDOUT:
        streams.give_up()
        why = "it is closed" if error.errno == errno.EBADF else why
        return f"cannot write to stdout: {why}: not all of the output is there"
    nowhere = "the system does not let farm go on"
    if error.errno in FULL:
        nowhere = "cannot write into the project"
    todo = _TODO.get(error.errno or 0, "set that right")
    return f"{error.filename or nowhere}: {why}: {todo}, and try again"


def _trace(error: BaseException) -> str:
    import traceback  # noqa: PLC0415 - only for a bug

    from farm.words import clean  # noqa: PLC0415 - the same

    return clean("".join(traceback.format_exception(error)))
