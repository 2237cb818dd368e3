"""The command line: parse, call one function, print.

A verb is a file here, loaded when it is asked for; `VERBS` lists them in order
of use. Results go to stdout, messages to stderr. A `FarmError` is printed as one
sentence and ends with its own exit code; a traceback means a bug in farm (70).
"""

import errno
import importlib
import os
import sys

import click

import farm
from farm.cli.common import INTERRUPTED, PROJECT_OPTION, Place, example
from farm.errors import FarmError
from farm.words import clean, plain

VERBS = (
    "init",
    "add",
    "supervise",
    "worker",
    "status",
    "watch",
    "wait",
    "show",
    "why",
    "logs",
    "retry",
    "cancel",
    "pause",
    "resume",
    "workers",
    "scale",
    "drain",
    "unlock",
    "archive",
    "restore",
    "check",
    "doctor",
    "schema",
    "completion",
    "help",
)  # in order of use
CLICKS_LEAST = 52  # columns
_TODO = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EROFS: "mount it read-write",
    errno.EACCES: "give yourself the right to",
    errno.EPERM: "give yourself the right to",
}
BUG = 70  # EX_SOFTWARE


class Verbs(click.Group):
    """Loads a verb's file when it is needed; lists all in order of use."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """In order of use, not of alphabet."""
        return list(VERBS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """The command of a verb's file."""
        if name not in VERBS:
            return None
        module = importlib.import_module(f"farm.cli.{name}")
        command: click.Command = module.command
        return command


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 88},
    epilog=example(
        "farm supervise ./project         # keep workers going; Ctrl-C stops",
        'echo \'{"run": "make -j4"}\' > project/tasks/build.json',
        "farm status ./project",
    ),
)
@PROJECT_OPTION
@click.version_option(farm.__version__, prog_name="farm")
@click.pass_context
def main(ctx: click.Context, project: str | None) -> None:
    """Run the task files in a folder with many worker processes.

    Drop tasks/build.json into a project; tasks/build.result.json appears beside it.

    Exit codes: 0 all well, 1 a task did not succeed or farm could not go on,
    2 wrong usage, 130 interrupted.
    """
    ctx.obj = Place(project)


def run(args: list[str] | None = None) -> int:
    """The whole command line; the exit code."""
    try:
        code = main.main(
            args, prog_name="farm", standalone_mode=False, terminal_width=_narrow()
        )
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("farm: interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:  # `farm status | head`: end quietly
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 - a bug must not look like "some task failed" (1)
        return _told(error)
    return code if isinstance(code, int) else 0


def _narrow() -> int | None:
    """The terminal's width if click would take it for wider; click's least is 50."""
    if "COLUMNS" not in os.environ and not os.isatty(1):
        return None  # a pipe has no width
    import shutil  # noqa: PLC0415 - only on a terminal

    columns = shutil.get_terminal_size().columns
    return columns if columns < CLICKS_LEAST else None


def _told(error: Exception) -> int:
    """Say what went wrong; the exit code."""
    if isinstance(error, click.UsageError):
        verb = error.ctx.command_path if error.ctx else "farm"
        click.echo(f"farm: {plain(error.format_message())} ({verb} --help)", err=True)
        return error.exit_code
    if isinstance(error, FarmError):
        click.echo(f"farm: {plain(str(error))}", err=True)
        return error.exit_code
    if isinstance(error, OSError):  # a full or read-only disk, say: no bug of ours
        where = error.filename or "cannot write into the project"
        todo = _TODO.get(error.errno or 0, "mend that")
        said = f"{where}: {error.strerror or error}: {todo}, and try again"
        click.echo(f"farm: {plain(said)}", err=True)
        return 1
    import traceback  # noqa: PLC0415 - only for a bug

    click.echo(clean("".join(traceback.format_exception(error))), nl=False, err=True)
    return BUG
