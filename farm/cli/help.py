"""`farm help`: the longer guide, one topic at a time; or a verb's own help.

A topic is a Markdown file in `farm/topics/`; its first sentence stands in the list.
A terminal gets it rendered, a pipe as it is.
"""

import os
from importlib import resources
from typing import TYPE_CHECKING

import click

from farm.cli.common import example
from farm.cli.terminal import width
from farm.errors import UsageError
from farm.locate import did_you_mean

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

TOPICS = (
    "tasks",
    "results",
    "agents",
    "keys",
    "claiming",
    "faults",
    "settings",
    "control",
    "changes",
)
WIDEST = 88  # columns; longer lines are hard to read
NARROW = 60  # columns; on fewer the cells of a table would be cut


def _complete(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> "list[CompletionItem]":
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - when a shell asks

    words = (*TOPICS, *_verbs(context))
    return [CompletionItem(word) for word in words if word.startswith(incomplete)]


@click.command(
    short_help="Read the guide, or the help of a command.",
    epilog=example(
        "farm help",
        "farm help tasks",
        "farm help control | less",
    ),
)
@click.argument("topic", required=False, metavar="[TOPIC]", shell_complete=_complete)
@click.pass_context
def command(context: click.Context, topic: str | None) -> None:
    """Read the guide, one topic at a time.

    The topics are tasks, results, agents, keys, claiming, faults, settings, control
    and changes. Without TOPIC, says what each is about. The name of a command shows its help.
    """
    if topic is None:
        _show(_overview())
    elif topic in TOPICS:
        _show(page(topic))
    else:
        click.echo(_help_of(context, topic))


def page(topic: str) -> str:
    """The Markdown of one of `TOPICS`."""
    file = resources.files("farm") / "topics" / f"{topic}.md"
    return file.read_text(encoding="utf-8")


def _overview() -> str:
    lines = [f"- `{topic}`: {_first_sentence(page(topic))}" for topic in TOPICS]
    return "\n".join([*lines, "", "Read one with `farm help TOPIC`.", ""])


def _first_sentence(text: str) -> str:
    paragraph = text.split("\n\n")[1].replace("\n", " ")
    return paragraph.partition(". ")[0].removesuffix(".") + "."


def _verbs(context: click.Context) -> list[str]:
    farm = context.find_root().command
    return farm.list_commands(context) if isinstance(farm, click.Group) else []


def _help_of(context: click.Context, verb: str) -> str:
    """What `farm VERB --help` prints; UsageError if there is no such verb."""
    root = context.find_root()
    farm = root.command
    found = farm.get_command(root, verb) if isinstance(farm, click.Group) else None
    if found is None:
        near = did_you_mean(verb, (*TOPICS, *_verbs(context)))
        hint = near or f"; topics are {', '.join(TOPICS)}"
        raise UsageError(f"there is no topic and no command {verb}{hint}")
    with click.Context(found, info_name=verb, parent=root) as inner:
        return found.get_help(inner)


def _show(markdown: str) -> None:
    columns = width()
    if columns is None:
        click.echo(markdown, nl=False)
        return
    from rich.console import Console  # noqa: PLC0415 - only on a terminal
    from rich.markdown import Markdown  # noqa: PLC0415 - the same

    plain = bool(os.environ.get("NO_COLOR"))
    console = Console(
        width=min(columns, WIDEST), color_system=None if plain else "auto"
    )
    text = markdown if columns >= NARROW else _without_tables(markdown)
    console.print(Markdown(text, code_theme="ansi_dark"))


def _without_tables(markdown: str) -> str:
    """The same with each row of a table as an entry of a list."""
    lines = [line for line in markdown.splitlines() if not line.startswith("|---")]
    return "\n".join(
        _as_entry(line) if line.startswith("|") else line for line in lines
    )


def _as_entry(row: str) -> str:
    cells = (cell.strip() for cell in row.strip("|").split("|"))
    return "- " + " · ".join(filter(None, cells))
