"""Put task files into `tasks/`, each in one step, so that none is ever seen half.

    parse_lines(raw)            many tasks from JSON lines: all are checked, nothing is
                                written
    misnamed(id), refusal(project, id)      words if no task can be dropped so; else None
    drop(project, id, raw)      written aside in `.farm/tmp`, then linked into place

What lies there is never overwritten: `drop` answers False if somebody was first.
`refusal` finds what would answer for a new task, so that it never runs: a result that
lies there already, or an earlier task that still runs although its file is gone.

Nothing is synced: after a power cut a task that was just dropped may be gone, or be
empty and end as `invalid`. Errors of the disk are raised as they come (OSError).
"""

import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from farm import disk, locate
from farm.errors import LedgerError, TaskFileError
from farm.ledger import Ledger
from farm.locate import shown
from farm.project import MAX_TASK_BYTES, RESULT, TASK, Project, id_fault
from farm.task import parse_task

_MOST_DIGITS = 18  # of a number that is counted on from; others are names
_MOST_WORDS = 4  # of a prompt in an id
_LONGEST_STEM = 40  # letters
_LONGEST_TEXT = 1_000  # letters of a prompt in which words are looked for
_WORD = re.compile(r"[^\W_]+(?:[-_][^\W_]+)*")
_ASSIGNMENT = re.compile(r"\w+=")  # of a variable, before a command
_RESULT_STEM = RESULT.removesuffix(TASK)
_FEWEST_DIGITS = 5  # of a line's number in an id, so that ids sort like lines
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"')

# -- one task ----------------------------------------------------------------------


def drop(project: Project, task_id: str, raw: bytes) -> bool:
    """Make the task file of an id; False if one lies there already.

    The id must have passed `misnamed`. Folders are made as they are needed.
    """
    path = project.task_path(task_id)
    try:
        return lay(project, path, raw)
    except FileNotFoundError:
        # Asking first would cost every task of a folder what only one needs.
        project.make_folders()
        disk.make_folders(os.path.dirname(path))
        return lay(project, path, raw)


def lay(project: Project, path: str, raw: bytes) -> bool:
    """Give a new file its name in one step; False if something has that name.

    FileNotFoundError if its folder, or `.farm/tmp`, is not there.
    """
    # RACE: hosts that share the folder may share process ids, never these digits.
    aside = project.aside_path(f"drop-{os.urandom(8).hex()}", "new")
    disk.write_aside(aside, raw)
    try:
        return disk.link_new(aside, path)
    finally:
        disk.unlink(aside)


def drop_next(
    project: Project, raw: bytes, stem: str, archived: Callable[[], Iterable[str]]
) -> str:
    """Drop a task under `<stem>-<number>`; its id. `archived` gives the ids that are.

    The number is the next above all of that stem in `tasks/` and `archive/`, so that
    none comes back.

    RACE: of two who take the same number one gets its link, and the other the next.
    Tasks move into archives: so these are looked through last.
    """
    here = _names(project.tasks, f"{stem}-")
    number = next_number(stem, [*here, *archived()])
    while True:
        task_id = f"{stem}-{number}"
        if not refusal(project, task_id) and drop(project, task_id, raw):
            return task_id
        number += 1


def next_number(stem: str, ids: Iterable[str]) -> int:
    """One more than the greatest number that follows this stem in any of these ids."""
    ends = (i[len(stem) + 1 :] for i in ids if i.startswith(f"{stem}-"))
    numbers = (int(end) for end in ends if end.isdecimal() and len(end) <= _MOST_DIGITS)
    return 1 + max(numbers, default=0)


def _names(folder: str, start: str) -> list[str]:
    """The ids of tasks and results directly in a folder that begin so."""
    names = [name for name in os.listdir(folder) if name.startswith(start)]
    return [name.removesuffix(TASK).removesuffix(_RESULT_STEM) for name in names]


def stem_of(task: Mapping[str, Any]) -> str:
    """What to call a task that was given no name: by the first words of what it does."""
    run, call = task.get("run"), task.get("call")
    if run is not None:
        words = run.split() if isinstance(run, str) else run
        named = (_program(word) for word in words if not _ASSIGNMENT.match(word))
        stem = next(filter(None, named), "")
    elif call is not None:
        stem = _legible(str(call).rpartition(":")[2], 1)
    else:
        stem = _legible(str(task.get("prompt", "")).lower(), _MOST_WORDS)
    return stem or "task"


def _program(word: str) -> str:
    """`./bin/report.sh` is called report."""
    return _legible(os.path.basename(word).partition(".")[0], 1)


def _legible(text: str, most: int) -> str:
    """The first words of a text, as a part of an id."""
    words = _WORD.findall(text[:_LONGEST_TEXT])[:most]
    stem = "-".join(words)[:_LONGEST_STEM].strip("-_")
    return "" if id_fault(stem) else stem


def free_folder(project: Project, ms: int) -> str:
    """The first `stamp` from `ms` on that is no folder of tasks yet."""
    while os.path.lexists(f"{project.tasks}/{stamp(ms)}"):
        ms += 1
    return stamp(ms)


def stamp(ms: int) -> str:
    """Milliseconds since 1970 as an id that sorts by time: `20261121-045612-123`."""
    seconds, rest = divmod(ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y%m%d-%H%M%S}-{rest:03d}"


# -- ids ---------------------------------------------------------------------------


def misnamed(task_id: str) -> str | None:
    """Why no task can ever have this id, as a sentence; None if one can."""
    parts = task_id.split("/")
    if "" in parts:
        why = "has an empty part: write it as tiles/0-3"
    elif any(part.startswith(".") for part in parts):
        why = "has a part that begins with a dot, and such names are never tasks"
    elif any(part.endswith(TASK) for part in parts):
        why = "has a part that ends in .json: ids are written without it"
    elif f"{task_id}{TASK}".endswith(RESULT):
        why = "ends in .result, so its file would pass for a result: name it otherwise"
    elif fault := id_fault(task_id):
        return fault
    else:
        return None
    return f"the id {shown(task_id)} {why}"


def refusal(project: Project, task_id: str) -> str | None:
    """Why no task can be dropped under this id now, as a sentence; None if one can."""
    if os.path.lexists(project.task_path(task_id)):
        return f"there is a task {task_id} already: take another name"
    # RACE: an earlier task may end just now. So its ledger first, then its result.
    if _is_held(project, task_id):
        return (
            f"an earlier task {task_id} still runs, though its file is gone, and its"
            " result would pass for yours: wait for it, or take another name"
        )
    result = project.result_path(task_id)
    if os.path.lexists(result):
        return (
            f"{project.relative(result)} is there already, from an earlier task of"
            " this name, so a new one would never run: remove it, or take another name"
        )
    return _blocked(project, task_id)


def _is_held(project: Project, task_id: str) -> bool:
    """Whether somebody holds the ledger of an id."""
    try:
        ledger = Ledger.open(project.ledger_path(task_id), create=False)
    except (FileNotFoundError, LedgerError):
        return False
    if ledger is not None:
        ledger.let_go(unlink=False)
    return ledger is None


def _blocked(project: Project, task_id: str) -> str | None:
    """What lies where a folder must be."""
    folder = project.tasks
    for part in task_id.split("/")[:-1]:
        folder = f"{folder}/{part}"
        try:
            mode = os.lstat(folder).st_mode
        except FileNotFoundError:
            return None  # it will be made, and so will those below it
        except OSError as error:
            return f"cannot use {project.relative(folder)}: {error.strerror}"
        if not stat.S_ISDIR(mode):
            kind = "symbolic link" if stat.S_ISLNK(mode) else "file"
            where = project.relative(folder)
            return f"{where} is a {kind}, and tasks lie in real folders: move it away"
    return None


# -- many tasks --------------------------------------------------------------------


class Line(msgspec.Struct, frozen=True):
    """One good task of a file of JSON lines."""

    number: int  #: of its line, from 1
    column: int  #: where its id stands, from 1
    id: str | None  #: None if it says none
    raw: bytes  #: what its task file will hold


def parse_lines(raw: bytes) -> tuple[list[Line], list[TaskFileError]]:
    """Every line that is a task, and the faults of all others; blank ones are neither.

    A line is what a task file is, and may say its `id` besides.
    """
    lines, faults = [], []
    for number, text in enumerate(raw.split(b"\n"), 1):
        if text and not text.isspace():
            try:
                lines.append(_parse_line(text, number))
            except TaskFileError as fault:
                column = fault.column or 1
                faults.append(TaskFileError(fault.message, number, column))
    return lines, faults


def ids_of(lines: Sequence[Line], folder: str, above: str) -> list[str]:
    """The id of each line: `<folder>/00017` for line 17, or `<above><its own>`."""
    most = max((line.number for line in lines), default=0)
    width = max(_FEWEST_DIGITS, len(str(most)))
    return [
        f"{folder}/{line.number:0{width}}" if line.id is None else f"{above}{line.id}"
        for line in lines
    ]


def id_faults(
    project: Project, lines: Sequence[Line], ids: Sequence[str]
) -> list[TaskFileError]:
    """Which lines cannot be dropped under their ids, each with its place."""
    faults = []
    first: dict[str, int] = {}
    for line, task_id in zip(lines, ids, strict=True):
        if task_id in first:
            why: str | None = f"line {first[task_id]} has the id {task_id} already"
        else:
            why = misnamed(task_id) or refusal(project, task_id)
        if why:
            faults.append(TaskFileError(why, line.number, line.column))
        first.setdefault(task_id, line.number)
    return faults


def _parse_line(text: bytes, number: int) -> Line:
    if len(text) > MAX_TASK_BYTES:
        message = "a task may have 50 MB: put its data into another file"
        raise TaskFileError(message)
    task_id, column, rest = _take_id(text)
    parse_task(rest)
    return Line(number, column, task_id, disk.encode(disk.decode(rest)))


def _take_id(line: bytes) -> tuple[str | None, int, bytes]:
    """A line's own id, its column, and the line with blanks in its place.

    Blanks, so that what is wrong in the rest is found at its place. A line that is
    no JSON is left as it is, for `parse_task` to say so.
    """
    try:
        data = disk.decode(line)
    except ValueError:
        return None, 1, line
    if not isinstance(data, dict) or "id" not in data:
        return None, 1, line
    text = line.decode()
    begin = locate.key_place(text, ("id",)).column - 1
    start = locate.value_place(text, ("id",)).column - 1
    value = _STRING.match(text, start)
    if value is None:
        message = "`id` must be a string"
        raise TaskFileError(message, 1, start + 1)
    rest = _blanked(text, begin, value.end())
    if locate.key_place(rest, ("id",)) != locate.NOWHERE:
        message = "`id` stands here for the second time: keep one of them"
        raise TaskFileError(message, 1, begin + 1)
    return data["id"], start + 1, rest.encode()


def _blanked(text: str, begin: int, end: int) -> str:
    """Blanks for an entry of an object, and for the comma that sets it apart."""
    if text[end:].lstrip().startswith(","):
        end = text.index(",", end) + 1
    elif text[:begin].rstrip().endswith(","):
        begin = text.rindex(",", 0, begin)
    return text[:begin] + " " * (end - begin) + text[end:]
