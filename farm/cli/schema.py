"""`farm schema`: what a task file may hold, for editors and other programs."""

import click
import orjson

from farm.cli.common import example
from farm.task import task_schema


@click.command(
    epilog=example(
        "farm schema > tasks/.schema.json",
        "farm schema | jq '.properties | keys'",
    ),
)
def command() -> None:
    """Print the JSON Schema of a task file.

    It is made from the types that check the file. farm init wires it for editors.
    """
    click.echo(text(), nl=False)


def text() -> bytes:
    """The schema as indented JSON, a line break at its end."""
    layout = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(task_schema(), option=layout)
