"""What a storm's record proves: pure functions from what was noted to violations.

`Record` holds what tasks noted of themselves, what the storm did to each and what
lies in the folder at the end; `violations` compares them. Nothing is believed that
farm says of itself but the results, which are what is judged; `farm status` by them.
"""

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

STATUSES = frozenset(
    {"succeeded", "failed", "timed_out", "cancelled", "skipped", "invalid", "lost"}
)


class Note(NamedTuple):
    """One line that a task wrote of itself."""

    attempt: int
    token: str
    at: float  #: POSIX seconds
    pid: int
    word: str  #: begin, fail or done


class Record(NamedTuple):
    """Everything that is known when a storm is over."""

    dropped: frozenset[str]
    notes: Mapping[str, list[Note]]
    results: Mapping[str, bytes]
    cancelled: frozenset[str]  #: the storm, or a need, may have kept it from its end
    seen: list[str]  #: what tasks caught themselves, a sentence each
    broken: list[str]  #: acknowledged results that vanished or changed, likewise
    left: list[str]  #: processes and files that nobody should have left behind
    counts: Mapping[str, int]  #: how many have ended how, as `farm status` says it


def read_notes(marks: Path) -> dict[str, list[Note]]:
    """Every task's own log; a line that a killed task left unfinished is skipped."""
    notes = {}
    for path in marks.glob("*.log"):
        lines = (line.split() for line in path.read_text().splitlines())
        notes[path.stem] = [
            Note(int(w[0]), w[1], float(w[2]), int(w[3]), w[4])
            for w in lines
            if len(w) == 5
        ]
    return notes


def parsed(raw: bytes) -> dict[str, Any] | None:
    """A result, or None if these bytes are none."""
    try:
        value = json.loads(raw)
    except ValueError:
        return None
    if not isinstance(value, dict) or value.get("status") not in STATUSES:
        return None
    return value


def read_archives(root: Path) -> dict[str, dict[str, str]]:
    """The newest line of each id in a project's archives, also of unfinished ones."""
    lines = {}
    folder = root / "archive"
    for path in sorted(folder.glob("*.gz*"), key=lambda path: path.name.lstrip(".")):
        for line in gzip.decompress(path.read_bytes()).splitlines():
            pair = json.loads(line)
            lines[pair["id"]] = pair
    return lines


def violations(record: Record) -> list[str]:
    """Every promise that was broken, as a sentence; none is the purpose."""
    found = [*record.seen, *record.broken]
    found += [f"left behind: {what}" for what in record.left]
    for task_id in sorted(record.dropped):
        notes = record.notes.get(task_id, [])
        found += _of_task(task_id, notes, record.results.get(task_id), record)
    for task_id in sorted(record.results.keys() - record.dropped):
        found.append(f"{task_id} has a result, and nobody dropped it")
    return [*found, *_of_counts(record)]


def _of_counts(record: Record) -> Iterable[str]:
    ended = map(parsed, record.results.values())
    there = Counter(result["status"] for result in ended if result)
    for status in sorted(STATUSES):
        said = record.counts.get(status, 0)
        if said != there[status]:
            yield f"farm status says {said} {status}, and {there[status]} results do"


def _of_task(
    task_id: str, notes: list[Note], raw: bytes | None, record: Record
) -> Iterable[str]:
    result = None if raw is None else parsed(raw)
    if result is None:
        yield f"{task_id} was lost: it has no result"
        return
    begun = [note.token for note in notes if note.word == "begin"]
    if len(set(begun)) != len(begun):
        yield f"{task_id}: one attempt ran twice"
    status = result["status"]
    if status == "succeeded":
        done = {note.token for note in notes if note.word == "done"}
        if result.get("token") not in done:
            yield f"{task_id} has succeeded without having come to its end"
    elif task_id not in record.cancelled:
        said = (result.get("error") or {}).get("message", "")
        yield f"{task_id} ended {status} and should have succeeded: {said}"


def rescues(notes: Mapping[str, list[Note]], kills: Mapping[int, float]) -> list[float]:
    """Seconds from the kill of a worker to the next beginning of what it ran.

    `kills` is process id -> POSIX seconds. A task that was cancelled or that had come
    to its end does not begin again, and is not counted.
    """
    waits = []
    for lines in notes.values():
        for note, following in pairwise(lines):
            killed = kills.get(note.pid, 0.0)
            if note.word == "begin" and note.at <= killed <= following.at:
                waits.append(following.at - killed)
    return sorted(waits)


def percentile(values: list[float], share: float) -> float:
    """The value below which that share of sorted values lies; 0.0 of none."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0
