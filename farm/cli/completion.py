"""Completion in shells: what ids can follow what was typed.

Only the folder that was typed so far is listed: a key press must not wait for a
walk over 100,000 tasks. No error may reach the shell's line, so what cannot be
read completes to nothing.
"""

import os
from collections.abc import Iterator

import click
from click.shell_completion import CompletionItem

from farm.errors import FarmError
from farm.project import RESULT, TASK, find_project

MOST = 500  # suggestions; nobody reads more


def complete_ids(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Ids, and folders of ids, that begin with what was typed."""
    try:
        tasks = f"{_root(context)}/tasks"
        return sorted(_items(tasks, incomplete), key=_value)[:MOST]
    except (OSError, FarmError):
        return []


def _value(item: CompletionItem) -> str:
    return str(item.value)


def _root(context: click.Context) -> str:
    named = context.params.get("project")
    if named is None and context.parent is not None:
        named = context.parent.params.get("project")
    return named or find_project(os.getcwd())


def _items(tasks: str, incomplete: str) -> Iterator[CompletionItem]:
    folder, _, start = incomplete.rpartition("/")
    prefix = f"{folder}/" if folder else ""
    with os.scandir(f"{tasks}/{folder}") as entries:
        for entry in entries:
            name = entry.name
            if name.startswith(".") or not name.startswith(start):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield CompletionItem(f"{prefix}{name}/")
            elif name.endswith(TASK) and not name.endswith(RESULT):
                yield CompletionItem(f"{prefix}{name[: -len(TASK)]}")
