"""All verbs, as click knows them.

A verb is a file in this folder, loaded when it is asked for; `VERBS` lists them in
order of use.
"""

import os

import click

import farm
from farm.cli import imported
from farm.cli.common import PROJECT_OPTION, Place, example
from farm.locate import did_you_mean

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

#: What other programs call a verb, and what it is called here.
SYNONYMS = {
    "create": "init",
    "new": "init",
    "drop": "add",
    "enqueue": "add",
    "push": "add",
    "submit": "add",
    "exec": "add",
    "run": "supervise` or `add",
    "serve": "supervise",
    "start": "supervise",
    "up": "supervise",
    "jobs": "status",
    "list": "status",
    "ls": "status",
    "ps": "status",
    "queue": "status",
    "tasks": "status",
    "top": "status",
    "events": "watch",
    "follow": "watch",
    "monitor": "watch",
    "join": "wait",
    "cat": "show",
    "describe": "show",
    "get": "show",
    "info": "show",
    "inspect": "show",
    "result": "show",
    "explain": "why",
    "log": "logs",
    "output": "logs",
    "tail": "logs",
    "redo": "retry",
    "rerun": "retry",
    "restart": "retry",
    "abort": "cancel",
    "del": "cancel",
    "delete": "cancel",
    "kill": "cancel",
    "remove": "cancel",
    "rm": "cancel",
    "hold": "pause",
    "suspend": "pause",
    "continue": "resume",
    "unpause": "resume",
    "credentials": "keys",
    "down": "drain",
    "quit": "drain",
    "shutdown": "drain",
    "stop": "drain",
    "release": "unlock",
    "clean": "archive",
    "pack": "archive",
    "purge": "archive",
    "unarchive": "restore",
    "lint": "check",
    "validate": "check",
    "diagnose": "doctor",
    "guide": "help",
    "man": "help",
    "version": "--version",
}


class Verbs(click.Group):
    """Loads a verb's file when it is needed; lists all in order of use."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """In order of use, not of alphabet."""
        return list(VERBS)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; without any word it is the help that is asked for."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; a word that is none of the verbs is answered with one that is."""
        word = args[0]
        is_slip = word not in VERBS and not word.startswith("-")
        if is_slip and not ctx.resilient_parsing:
            known = f", did you mean `{SYNONYMS[word]}`?" if word in SYNONYMS else ""
            near = known or did_you_mean(word, VERBS)
            ctx.fail(f"there is no command `{word}`{near}")
        return super().resolve_command(ctx, args)

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
