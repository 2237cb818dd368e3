"""`farm show`: everything about one task."""

import os
import time
from typing import TYPE_CHECKING, Any

import click
import msgspec

from farm import disk
from farm.cli.common import (
    ID_ARGUMENT,
    JSON_OPTION,
    PROJECT_OPTION,
    Place,
    archived_sentence,
    example,
    is_here,
    one_task,
    read_project,
)
from farm.cli.status import progress
from farm.cli.terminal import styled, table
from farm.errors import TaskFileError
from farm.explain import Explanation, explain, explain_archived
from farm.history import History, history_of, numbers, output, read_history
from farm.project import Project
from farm.report import Survey
from farm.result import MOST_SAID, Asked, Usage, ends_of, posix
from farm.words import clean, duration, moment, plain

if TYPE_CHECKING:
    from farm.shelf import Pair

TAIL_LINES, TAIL_BYTES = 10, 4096  # of output; `farm logs` has all of it
_OWN = ("run", "call", "prompt", "prompt_file")  # keys that say what a task does

HIDDEN = "(not shown)"  # a value of `env`: people do put secrets there


@click.command(
    short_help="Show a task, its attempts, output and what is next.",
    epilog=example(
        "farm show build",
        "farm show tiles/0-3 --json | jq .value",
    ),
)
@PROJECT_OPTION
@ID_ARGUMENT
@JSON_OPTION
@click.pass_obj
def command(place: Place, project: str | None, task_id: str, *, as_json: bool) -> None:
    """Show a task: what it does, its attempts, the end of its output, what is next.

    Takes no lock and writes nothing.
    """
    there = read_project(place.find(project))
    if not is_here(there, task_id) and (pair := _archived(there, task_id)):
        _show_archived(there, pair, as_json=as_json)
        return
    survey = Survey(there)
    one_task(survey.project, task_id)
    survey.look(time.time(), time.monotonic())
    now = time.time()
    found, past = explain(survey, task_id, now), read_history(there, task_id)
    task = _said(there, task_id)
    tails = {
        name: _tail(there, past, suffix)
        for name, suffix in (("stdout", "out"), ("stderr", "err"))
    }
    run = survey.running(task_id)
    far = [f"  progress: {said}"] if run and (said := progress(run)) else []
    if as_json:
        click.echo(msgspec.json.encode(_facts(found, past, task, tails)))
        return
    lines = [*_head(found), *far, *_rest(past, task, tails, now)]
    _print(lines)


def _archived(project: Project, task_id: str) -> "Pair | None":
    if not os.path.isdir(project.archive):
        return None
    from farm import shelf  # noqa: PLC0415 - hardly ever needed

    return shelf.newest(project, task_id)


def _show_archived(project: Project, pair: "Pair", *, as_json: bool) -> None:
    """What an archive holds of a task; its longer output may still lie in the logs."""
    past = history_of(pair.id, pair.result.encode())
    assert past is not None, "a line is checked as it is read"  # noqa: S101 - for mypy
    now, said = time.time(), archived_sentence(project, pair.id)
    found = explain_archived(past, said, now)
    task = _without_env(pair.task.encode() if pair.task is not None else b"")
    tails = {
        "stdout": _tail(project, past, "out"),
        "stderr": _tail(project, past, "err"),
    }
    if as_json:
        click.echo(msgspec.json.encode(_facts(found, past, task, tails)))
        return
    _print([*_head(found), *_rest(past, task, tails, now)])


def _rest(past: History, task: Any, tails: dict[str, str], now: float) -> list[str]:
    """All that follows the head."""
    lines = [*_task(task), *_attempts(past, now), *_value(past)]
    for name, text in tails.items():
        lines += _block(f"{name}, its end", text) if text else []
    return lines


def _print(lines: list[str]) -> None:
    for line in lines:
        click.echo(line)  # a terminal wraps what is long; nothing is cut off


def _said(project: Project, task_id: str) -> Any:
    """What the task's file says, but no value of `env`; None if it is gone or no JSON."""
    try:
        return _without_env(project.read_task(task_id).raw)
    except (FileNotFoundError, TaskFileError):
        return None


def _without_env(raw: bytes) -> Any:
    try:
        task = disk.decode(raw)
    except ValueError:
        return None
    if isinstance(task, dict) and isinstance(task.get("env"), dict):
        task["env"] = dict.fromkeys(task["env"], HIDDEN)
    return task


def _facts(
    found: Explanation, past: History, task: Any, tails: dict[str, str]
) -> dict[str, Any]:
    opened = past.open.claimed if past.open and past.alive else None
    return {
        **msgspec.structs.asdict(found),
        "task": msgspec.Raw(disk.encode(task).strip()),  # as deep as it is read
        "attempts": past.ended,
        "running": opened,
        "value": (past.result.value if past.result else b"") or None,
        "text": past.result.text if past.result else None,
        "usage": past.result.usage if past.result else None,
        "asked": past.result.asked if past.result else None,
        **tails,
    }


def _head(found: Explanation) -> list[str]:
    word = found.status.words if found.status else found.state
    name = styled(plain(found.id), bold=True)
    lines = [f"{name}  {word}", *(f"  {plain(why)}" for why in found.why)]
    return [*lines, f"  next: {plain(found.next)}"]


def _task(task: Any) -> list[str]:
    """What it does first, then the other keys in the order of its file."""
    if not isinstance(task, dict):
        return []
    keys = [key for key in _OWN if key in task] + [k for k in task if k not in _OWN]
    shown = [
        (f"  {plain(key)}", plain(disk.encode(task[key]).decode())) for key in keys
    ]
    return ["", styled("task", bold=True), *table(shown)]


def _attempts(past: History, now: float) -> list[str]:
    rows = []
    for one in past.ended:
        began = posix(one.started)
        took = duration(max(0.0, posix(one.finished) - began))
        why = one.why.replace("_", " ")
        said = plain(ends_of(one.error.message, MOST_SAID)) if one.error else ""
        number, worker = f"  {one.attempt}", plain(one.worker)
        rows.append((number, why, moment(began, now), took, worker, said))
    if past.open and past.alive:
        opened = past.open.claimed
        began, took = opened.acquired_at, duration(max(0.0, now - opened.acquired_at))
        number = f"  {opened.attempt}"
        worker = plain(opened.holder)
        rows.append((number, "running", moment(began, now), took, worker, ""))
    return ["", styled("attempts", bold=True), *table(rows)] if rows else []


def _value(past: History) -> list[str]:
    told = past.result
    if told is None:
        return []
    value = bytes(told.value).decode()
    lines = _block("value", value) if value else []
    lines += _block("answer", told.text) if told.text else []
    lines += _told_of("asked", told.asked) + _told_of("usage", told.usage)
    trace = told.error.traceback if told.error else None
    return lines + (_block("traceback", ends_of(trace, TAIL_BYTES)) if trace else [])


def _told_of(name: str, record: Asked | Usage | None) -> list[str]:
    """What is told of an agent's answer: `model m`, `input tokens 12`."""
    said = msgspec.structs.asdict(record) if record is not None else {}
    rows = [
        (f"  {key.replace('_', ' ')}", plain(f"{value}"))
        for key, value in said.items()
        if value
    ]
    return ["", styled(name, bold=True), *table(rows)] if rows else []


def _tail(project: Project, past: History, suffix: str) -> str:
    """The last lines of the last attempt's output."""
    there = numbers(past)
    if not there:
        return ""
    source = output(project, past, there[-1], suffix)
    raw = source.text.encode()
    if source.path is not None:
        raw, _ = disk.read_tail(source.path, TAIL_BYTES)
    lines = raw.decode(errors="replace").splitlines()
    return "\n".join(lines[-TAIL_LINES:])


def _block(name: str, text: str) -> list[str]:
    inside = [f"  {plain(line)}" for line in clean(text).splitlines()]
    return ["", styled(name, bold=True), *inside]
