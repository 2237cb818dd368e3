"""All verbs, as click knows them.

A verb is a file in this folder, loaded when it is asked for; `VERBS` lists them in
order of use.
"""

import os

import click

import farm
from farm.cli import imported
from farm.cli.common import PROJECT_OPTION, Place, example

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
    "keys",
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


class Verbs(click.Group):
    """Loads a verb's file when it is needed; lists all in order of use."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """In order of use, not of alphabet."""
        return list(VERBS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """The command of a verb's file."""
        if name not in VERBS:
            return None
        module = imported(f"farm.cli.{name}")
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


def read(words: list[str]) -> object:
    """Do what a command line says; what its verb returned."""
    return main.main(
        words, prog_name="farm", standalone_mode=False, terminal_width=_narrow()
    )


def _narrow() -> int | None:
    """The terminal's width if click would take it for wider; click's least is 50."""
    if "COLUMNS" not in os.environ and not os.isatty(1):
        return None  # a pipe has no width
    import shutil  # noqa: PLC0415 - only on a terminal

    columns = shutil.get_terminal_size().columns
    return columns if columns < CLICKS_LEAST else None
