"""`farm completion`: scripts for shells, and what ids can follow what was typed.

Only the folder that was typed so far is listed: a key press must not wait for a
walk over 100,000 tasks. No error may reach the shell's line, so what cannot be
read completes to nothing.
"""

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from farm.errors import FarmError, UsageError
from farm.project import RESULT, TASK, Project, find_project, id_fault

if TYPE_CHECKING:  # every verb imports this module, and hardly one completes
    from click.shell_completion import CompletionItem

MOST = 500  # suggestions; nobody reads more
SHELLS = ("bash", "zsh", "fish")

# Not by `example`: farm.cli.common imports this module.
_EXAMPLE = """\b
Example:
  echo 'source <(farm completion bash)' >> ~/.bashrc
  echo 'source <(farm completion zsh)' >> ~/.zshrc
  farm completion fish > ~/.config/fish/completions/farm.fish"""


@click.command(epilog=_EXAMPLE)
@click.argument("shell", type=click.Choice(SHELLS), metavar="bash|zsh|fish")
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print a script that completes verbs, options and ids of tasks.

    It calls farm by that name at every press of the tab key.
    """
    from click.shell_completion import (  # noqa: PLC0415 - see above
        get_completion_class,
    )

    kind = get_completion_class(shell)
    if kind is None:
        raise UsageError(f"this version of click does not know {shell}: update it")
    farm = context.find_root().command
    click.echo(kind(farm, {}, "farm", "_FARM_COMPLETE").source())


def complete_ids(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> "list[CompletionItem]":
    """Ids, and folders of ids, that begin with what was typed."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - see above

    try:
        tasks = f"{_root(context)}/tasks"
        return list(map(CompletionItem, sorted(_find(tasks, incomplete))[:MOST]))
    except (OSError, FarmError):
        return []


def complete_keys(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> "list[CompletionItem]":
    """Ids of keys, pools and endpoints that begin with what was typed."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - see above

    try:
        scopes = Project(_root(context)).scopes()
    except (OSError, FarmError):
        return []
    # Of a key there may be several values, with a fingerprint each.
    ids = {re.sub(r"\.[0-9a-f]{12}\Z", "", scope) for scope in scopes}
    return [CompletionItem(i) for i in sorted(ids) if i.startswith(incomplete)][:MOST]


def _find(tasks: str, incomplete: str) -> list[str]:
    found = list(_begin(tasks, incomplete))
    # A shell takes a single word for complete; a folder is not, what is in it may be.
    if len(found) == 1 and found[0].endswith("/") and found[0] != incomplete:
        return _find(tasks, found[0]) or found
    return found


def _root(context: click.Context) -> str:
    here: click.Context | None = context
    while here is not None:
        if named := here.params.get("project"):
            return str(named)
        here = here.parent
    return find_project(os.getcwd())


def _begin(tasks: str, incomplete: str) -> Iterator[str]:
    folder, _, start = incomplete.rpartition("/")
    prefix = f"{folder}/" if folder else ""
    with os.scandir(f"{tasks}/{folder}") as entries:
        for entry in entries:
            name = entry.name
            if name.startswith(".") or not name.startswith(start) or id_fault(name):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield f"{prefix}{name}/"
            elif name.endswith(TASK) and not name.endswith(RESULT):
                yield f"{prefix}{name[: -len(TASK)]}"
