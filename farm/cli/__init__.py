"""The command line: parse, call one function, print.

A verb is a file here, loaded when it is asked for; `VERBS` lists them in order
of use. Results go to stdout, messages to stderr. A `FarmError` is printed as one
sentence and ends with its own exit code; a traceback means a bug in farm (70).
"""

import importlib
import os
import sys
import traceback

import click

from farm.cli.common import INTERRUPTED, PROJECT_OPTION, Place, example
from farm.errors import FarmError

VERBS = (
    "init",
    "add",
    "supervise",
    "worker",
    "status",
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
    "check",
    "schema",
    "completion",
    "help",
)  # in order of use
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
@click.version_option(package_name="dirfarm", prog_name="farm")
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
        code = main.main(args, prog_name="farm", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except FarmError as error:
        click.echo(f"farm: {error}", err=True)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - a bug must not look like "some task failed" (1)
        return _unforeseen(error)
    return code if isinstance(code, int) else 0


def _unforeseen(error: Exception) -> int:
    if isinstance(error, BrokenPipeError):  # `farm status | head`: end quietly
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    traceback.print_exception(error)
    return BUG
