"""`farm init`: start a project, or add what one lacks."""

import os
from collections.abc import Mapping

import click

from farm import disk, drop
from farm.cli import schema
from farm.cli.common import Place, about_project, example
from farm.config import SETTINGS_HELP, Help
from farm.errors import FolderError
from farm.project import Project
from farm.words import plain

#: What farm.toml may say where the default is no value.
EXAMPLES = {
    "workers": "4",
    "timeout": '"2h"',
    "idle_timeout": '"20m"',
    "default_agent": '"ask"',
    "hooks.on_failure": '"./failed.sh"',
    "hooks.on_done": '["./done.py"]',
}

_GITIGNORE = """\
# what a farm leaves here
/.farm/
/tasks/**/*.result.json
"""
_VSCODE = """\
{
  "json.schemas": [
    {
      "fileMatch": ["/tasks/**/*.json", "!*.result.json", "!.*.json"],
      "url": "./tasks/.schema.json"
    }
  ]
}
"""
_HELLO = """\
{
  "$schema": ".schema.json",
  "run": "echo hello from $FARM_TASK_ID"
}
"""


@click.command(
    short_help="Start a project: folders, settings, schema, an example.",
    epilog=example(
        "farm init",
        "farm init ./project && farm supervise ./project",
    ),
)
@about_project
@click.pass_obj
def command(place: Place, project: str | None) -> None:
    """Start a project: folders, settings, schema for editors, an example task.

    PROJECT is made if it is not there  [default: the current folder]. What is there
    stays as it is. Prints the paths it made.
    """
    named = place.named_once(project) or "."
    try:
        made, left = start(named)
    except OSError as error:
        raise FolderError(error) from error
    for name in made:
        click.echo(plain(_shown(named, name)))
    for name in left:
        click.echo(f"left as it is: {plain(_shown(named, name))}", err=True)
    click.echo(f"next: {_next(named)}", err=True)


def _shown(named: str, name: str) -> str:
    """A path of the project as it is seen from where the command was typed."""
    return name if named == "." else os.path.join(named, name)


def _next(named: str) -> str:
    where = "" if named == "." else f" {plain(named)}"
    tasks = plain(_shown(named, "tasks/"))
    return f"farm supervise{where}     (it runs what lies in {tasks})"


def start(root: str) -> tuple[list[str], list[str]]:
    """Make what a project lacks; what was made and what was there, below `root`.

    OSError or FolderError if something cannot be made.
    """
    project = Project(root)
    folders = {"": project.root, "tasks/": project.tasks, ".farm/": project.farm}
    there = {name for name, path in folders.items() if os.path.lexists(path)}
    files = _files(is_used=_is_used(project))
    Project.open(root)
    made = [name for name in folders if name not in there]
    left: list[str] = []
    for name, text in files.items():
        path = f"{project.root}/{name}"
        disk.make_folders(os.path.dirname(path))
        (made if drop.lay(project, path, text) else left).append(name)
    return made, left


def _is_used(project: Project) -> bool:
    """Whether somebody has put anything into `tasks/` already."""
    try:
        return any(not name.startswith(".") for name in os.listdir(project.tasks))
    except FileNotFoundError:
        return False


def _files(*, is_used: bool) -> Mapping[str, bytes]:
    """What lies in a new project, by name; an example only if there is no task."""
    files = {
        "farm.toml": settings_text().encode(),
        ".gitignore": _GITIGNORE.encode(),
        "tasks/.schema.json": schema.text(),
        ".vscode/settings.json": _VSCODE.encode(),
    }
    return files if is_used else files | {"tasks/hello.json": _HELLO.encode()}


# -- farm.toml -----------------------------------------------------------------------


def settings_text() -> str:
    """A farm.toml that says every default, each in a comment of its own."""
    lines = [
        "# What farm does where nothing else is said: remove a # to change it.",
        "",
    ]
    table = ""
    for row in SETTINGS_HELP.values():
        outer, _, name = row.name.rpartition(".")
        if outer != table:
            lines += ["", f"[{outer}]"]
            table = outer
        value = EXAMPLES.get(row.name) or _in_toml(row.default)
        lines.append(f"# {f'{name} = {value}':30}  # {_meaning(row)}")
    return "\n".join([*lines, ""])


def _in_toml(default: str) -> str:
    return (
        default if default in ("true", "false") or default.isdigit() else f'"{default}"'
    )


def _meaning(row: Help) -> str:
    said = f"{row.meaning} (default: {row.default})"
    return said if row.name in EXAMPLES else row.meaning
