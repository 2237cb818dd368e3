"""What the verbs share: which project is meant, its settings, plain text."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from farm.config import Settings, load_settings
from farm.errors import NoProjectError, UsageError
from farm.project import Project, find_project

Function = TypeVar("Function", bound=Callable[..., Any])

PROJECT_OPTION = click.option(
    "-C",
    "project",
    metavar="PROJECT",
    help="The project's folder  [default: the nearest one upwards]",
)
PROJECT_ARGUMENT = click.argument("project", required=False, metavar="[PROJECT]")

_CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC: titles, links
    r"|\x1b."
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


def example(*lines: str) -> str:
    """The block that ends a command's help, lines as they are typed."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def plain(text: str) -> str:
    """Text from a task, without what could steer a terminal; on one line."""
    return _CONTROL.sub("", text.replace("\r\n", "\n")).replace("\n", " ")


class Place:
    """The project that `-C` named before the verb, if any."""

    def __init__(self, named: str | None) -> None:
        self.named = named

    def find(self, named: str | None) -> str:
        """The folder that is meant; UsageError if it is named twice or is none."""
        if self.named is not None and named is not None:
            raise UsageError(
                f"the project is named twice, {self.named} and {named}: name it once"
            )
        chosen = named if named is not None else self.named
        if chosen is None:
            return find_project(Path.cwd())
        if not os.path.isdir(chosen):
            raise NoProjectError(
                f"there is no folder {chosen}: make it, or name another"
            )
        return os.path.abspath(chosen)


def read_project(root: str) -> Project:
    """A project to look at: nothing is made."""
    project = Project(root)
    if not os.path.isdir(project.tasks):
        raise NoProjectError(
            f"{root} has no tasks/ folder: name another project, or start this one"
            f" with: farm supervise {root}"
        )
    return project


def settings_of(project: Project, flags: Mapping[str, object]) -> Settings:
    """farm.toml, then FARM_* variables, then flags."""
    return load_settings(Path(project.settings), os.environ, flags)


def duration(seconds: float) -> str:
    """`0.31 s`, `42 s`, `3 min 12 s`, `2 h 5 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    if minutes:
        return f"{minutes} min {rest} s"
    return f"{seconds:.3g} s"
