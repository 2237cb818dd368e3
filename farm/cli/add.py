"""`farm add`: drop tasks, one from the command line or many from a file."""

import os
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, BinaryIO

import click
import orjson

from farm import disk, drop, duration, life, locate
from farm.cli.common import PROJECT_OPTION, Place, example, open_project
from farm.cli.completion import complete_ids
from farm.errors import FarmError, TaskFileError, UsageError
from farm.locate import shown
from farm.project import Project
from farm.result import rfc3339
from farm.task import parse_task
from farm.words import counted, plain

MOST_FAULTS = 20  # bad lines shown; the rest is counted

#: What people type for a key, where it is not `--` and the key.
_FLAGS = {
    "run": "COMMAND",
    "prompt": "-p",
    "not_before": "--after",
    "env_from": "--env-from",
}

_NOTHING = (
    "there is nothing to do: give a command after --, or --call M:F, or -p TEXT, or"
    " -f FILE; farm add --help has examples"
)


class _Add(click.Command):
    """Takes all from the first word of COMMAND on as it is, but no slip.

    `farm add 'make' --retries 2` would run a program with the option --retries; who
    means that says so with `--`.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; UsageError for an option of farm that stands too late."""
        given = ["", *args]  # click empties the other list
        rest = super().parse_args(ctx, args)
        words = ctx.params.get("run") or ()
        options = {name for param in self.params for name in param.opts}
        slips = [word for word in words[1:] if word.partition("=")[0] in options]
        if slips and given[-len(words) - 1] != "--" and not ctx.resilient_parsing:
            raise UsageError(
                f"{slips[0]} stands behind the command: put it before the command, or"
                " -- before a command that has such an option itself"
            )
        return rest


@click.command(
    cls=_Add,
    context_settings={"allow_interspersed_args": False},
    epilog=example(
        "farm add -- pytest -q",
        "farm add 'make && make install'",
        "farm add --call render:tile --kwargs '{\"x\": 0}' --retries 2",
        "farm add -p 'Fix the failing test' --needs build",
        "farm add -p - < prompt.txt",
        "farm add --name nightly --after 10m -- ./report.sh",
        "farm add -f tasks.jsonl --name tiles",
    ),
)
@PROJECT_OPTION
@click.option("--call", metavar="M:F", help="A Python function, module:function.")
@click.option("--args", metavar="JSON", help="Its arguments, as a JSON list.")
@click.option("--kwargs", metavar="JSON", help="Its named arguments, a JSON object.")
@click.option(
    "-p", "--prompt", metavar="TEXT", help="What an agent is asked to do; - is stdin."
)
@click.option("--agent", metavar="NAME", help="Which agent is asked.")
@click.option(
    "-f",
    "--file",
    type=click.File("rb"),
    metavar="FILE",
    help="Many tasks: one JSON object a line; - is stdin.",
)
@click.option(
    "--name",
    metavar="ID",
    help="The task's id; with -f the folder of the ids  [default: the first word of"
    " what it does and the next number, as pytest-1; with -f the time]",
)
@click.option(
    "--needs",
    multiple=True,
    metavar="ID|GLOB",
    shell_complete=complete_ids,
    help="Wait until this has succeeded. May be repeated.",
)
@click.option("--after", metavar="T", help="Not before so long from now: 90s, 10m.")
@click.option("--priority", type=int, metavar="N", help="Higher goes first.")
@click.option("--retries", metavar="N", help="Extra attempts after the first.")
@click.option("--timeout", metavar="T", help="End it after so long: 90s, 1h30m.")
@click.option("--cwd", metavar="FOLDER", help="Where to run, seen from the project.")
@click.option(
    "--env", multiple=True, metavar="K=V", help="Set a variable. May be repeated."
)
@click.option(
    "--env-from",
    multiple=True,
    metavar="K",
    help="Pass on a variable of the worker's, a secret too. May be repeated.",
)
@click.argument("run", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND...]")
@click.pass_obj
def command(
    place: Place,
    /,
    project: str | None,
    file: BinaryIO | None,
    name: str | None,
    **given: Any,
) -> None:
    """Drop a task, or many; print their ids.

    COMMAND in several words is executed as it is; one word is a line for the shell
    (sh -c). It runs in the project's folder. Put options of farm before it.

    A line of FILE is what a task file holds; it may say its own "id" besides. If one
    line is wrong, nothing is dropped (exit code 1). Else the id is the number of the
    line, in a folder named by --name.
    """
    now = time.time()
    root = place.find(project)
    if name is not None:
        name = name.removesuffix("/") if file is not None else name
        if why := drop.misnamed(name):
            raise UsageError(f"--name: {why}")
    if file is not None:
        _refuse_beside_file(given)
        there = _add_file(root, file, name, now)
    else:
        task = _task(given, now)
        there = _add_one(root, _encoded(task), name, drop.stem_of(task))
    if sys.stderr.isatty() and not life.living(there):
        hint = f"no worker is running here: farm supervise {plain(there.root)}"
        click.echo(hint, err=True)


# -- one task ------------------------------------------------------------------------


def _add_one(root: str, raw: bytes, name: str | None, stem: str) -> Project:
    project = open_project(root)
    if name is None:
        click.echo(drop.drop_next(project, raw, stem, partial(_archived, project)))
        return project
    if why := drop.refusal(project, name):
        raise FarmError(why)
    _drop(project, name, raw)
    click.echo(name)
    return project


def _archived(project: Project) -> Collection[str]:
    """The ids that are archived."""
    if not os.path.isdir(project.archive):
        return ()
    from farm import shelf  # noqa: PLC0415 - most projects have no archive

    return shelf.ids(project)


def _task(given: Mapping[str, Any], now: float) -> dict[str, Any]:
    """The task that the options describe, with only the keys that were given."""
    words = given["run"]
    task = {
        "run": words[0] if len(words) == 1 else list(words) or None,
        "call": given["call"],
        "args": _json("--args", given["args"]),
        "kwargs": _json("--kwargs", given["kwargs"]),
        "prompt": _prompt(given["prompt"]),
        "agent": given["agent"],
        "cwd": given["cwd"],
        "env": dict(map(_pair, given["env"])) or None,
        "env_from": list(given["env_from"]) or None,
        "timeout": _number_or_text(given["timeout"]),
        "retries": _number_or_text(given["retries"]),
        "priority": given["priority"],
        "needs": list(given["needs"]) or None,
        "not_before": _after(given["after"], now),
    }
    if all(task[kind] is None for kind in ("run", "call", "prompt")):
        raise UsageError(_NOTHING)
    return {key: value for key, value in task.items() if value is not None}


def _prompt(text: str | None) -> str | None:
    """The text of `-p`; `-` means what stdin holds, without the last line's end."""
    if text != "-":
        return text
    try:
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise UsageError(
            f"stdin is not UTF-8 (byte {error.start + 1}): a prompt is a text"
        ) from None
    if not text.strip():
        message = "stdin holds no text, and -p - reads the prompt from it"
        raise UsageError(message)
    return text.removesuffix("\n")


def _json(flag: str, text: str | None) -> object:
    """What a flag says in JSON; UsageError with the place if it is none."""
    if text is None:
        return None
    raw = text.encode(errors="surrogateescape")
    try:
        value = disk.decode(raw)
    except orjson.JSONDecodeError as error:
        fault = locate.broken_json(raw, error)
        told = fault.located(flag).replace("the file", "the text")
        raise UsageError(told) from None
    if place := locate.wide_integer(text):
        message = "this number needs more than 64 bits: write it as a string"
        raise UsageError(TaskFileError(message, *place).located(flag))
    return value


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(
            f"--env takes NAME=VALUE, not {shown(text)}: to pass on a variable that"
            f" the worker has, use --env-from"
        )
    return key, value


def _number_or_text(text: str | None) -> object:
    """`30` and `0.5` are numbers, all else is a text, as in a task file."""
    if text is None:
        return None
    try:
        value = disk.decode(text.encode(errors="surrogateescape"))
    except orjson.JSONDecodeError:
        return text
    return value if type(value) in (int, float) else text


def _after(text: str | None, now: float) -> str | None:
    if text is None:
        return None
    try:
        return rfc3339(now + duration.seconds(_number_or_text(text)))
    except ValueError as error:
        raise UsageError(f"--after {error}, not {shown(text)}") from None


def _encoded(task: dict[str, Any]) -> bytes:
    """The task file's bytes; UsageError in a worker's words, with the flag's name."""
    for key, value in task.items():
        try:
            disk.encode(value)
        except TypeError as error:  # bytes that are no UTF-8, a huge number
            flag = _flag(key)
            raise UsageError(f"{flag} cannot be written as JSON: {error}") from None
    raw = disk.encode(task)
    try:
        parse_task(raw)
    except TaskFileError as fault:
        message = fault.message
        for key in task:
            message = message.replace(f"`{key}`", _flag(key))
        raise UsageError(message) from None
    return raw


def _flag(key: str) -> str:
    return _FLAGS.get(key, f"--{key}")


# -- many tasks ----------------------------------------------------------------------


def _refuse_beside_file(given: Mapping[str, Any]) -> None:
    for key, value in given.items():
        if value is not None and value != ():
            raise UsageError(
                f"{_flag(key)} cannot stand beside -f: write it into the lines"
            )


def _add_file(root: str, file: BinaryIO, name: str | None, now: float) -> Project:
    """Check every line, then drop every task."""
    lines, faults = drop.parse_lines(file.read())
    project = Project(root)
    if name is None:
        ids = drop.ids_of(lines, drop.free_folder(project, _ms(now)), above="")
    else:
        ids = drop.ids_of(lines, name, above=f"{name}/")
    faults += drop.id_faults(project, lines, ids)
    if faults:
        _tell(faults, file.name)
        bad = counted(len(faults), "line")
        raise FarmError(f"nothing was dropped: mend {bad} of {file.name}")
    if not lines:
        click.echo(f"{file.name} holds no task, so nothing was dropped", err=True)
    project = open_project(root)
    _drop_all(project, [(i, line.raw) for i, line in zip(ids, lines, strict=True)])
    return project


def _tell(faults: Sequence[TaskFileError], where: str) -> None:
    """One line for each fault, in their order."""
    order = sorted(faults, key=lambda fault: (fault.line, fault.column))
    for fault in order[:MOST_FAULTS]:
        click.echo(plain(fault.located(where)), err=True)
    if len(faults) > MOST_FAULTS:
        click.echo(f"and {len(faults) - MOST_FAULTS} more", err=True)


def _drop_all(project: Project, tasks: Sequence[tuple[str, bytes]]) -> None:
    """Drop them in order and print each id when its task lies there."""
    dropped = 0
    try:
        for task_id, raw in tasks:
            _drop(project, task_id, raw)
            dropped += 1
            click.echo(task_id)
    finally:
        # Also for Ctrl-C, and for a reader of our ids who went away.
        if dropped < len(tasks):
            count = f"{dropped} of {counted(len(tasks), 'task')}"
            click.echo(f"dropped {count}: those whose ids were printed", err=True)


# -- both ----------------------------------------------------------------------------


def _drop(project: Project, task_id: str, raw: bytes) -> None:
    # RACE: the id was free a moment ago.
    if not drop.drop(project, task_id, raw):
        raise FarmError(f"somebody else has just dropped a task {task_id}")


def _ms(now: float) -> int:
    return int(now * 1000)
