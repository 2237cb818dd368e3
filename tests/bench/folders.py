"""Folders with much in them, as if a farm had worked there for a long time.

    finish(farm, 100_000)       so many succeeded tasks, with results and a journal
    mix(farm, 100_000)          tasks of all kinds: finished, failed, ready, waiting

Results are copies of one that farm wrote a moment ago, each with its own id; the
journal is written by farm's own writer.
"""

import time
from collections.abc import Iterator

from farm import disk
from farm.compact import compact
from farm.journal import Entry, note
from farm.project import Project
from farm.states import Status, Why
from tests.bench.farms import CALL, ENDING, Farm, GaveUpError, write_files

NEEDING = b'{"call": "quick:nothing", "needs": ["sample-fails"]}'
LATER = b'{"call": "quick:nothing", "not_before": "2999-01-01T00:00:00Z"}'
# Of each ten tasks so many; what waits needs a task that nobody has dropped.
SUCCEEDED, FAILED, READY, NEEDS, DELAYED = 6, 1, 1, 1, 1


def finish(farm: Farm, count: int) -> None:
    """So many tasks that have succeeded."""
    sample = _result_of(farm, "ok", CALL)
    farm.drop(count, CALL)
    _end(farm, [farm.name(n) for n in range(count)], Status.SUCCEEDED, sample)


def mix(farm: Farm, count: int) -> None:
    """Tasks of all kinds."""
    ok = _result_of(farm, "ok", CALL)
    failed = _result_of(farm, "fails", b'{"call": "quick:fail"}')
    tenth = count // 10
    kinds = ((CALL, SUCCEEDED + FAILED + READY), (NEEDING, NEEDS), (LATER, DELAYED))
    for raw, tenths in kinds:
        farm.drop(tenth * tenths, raw)
    names = [farm.name(n) for n in range(tenth * (SUCCEEDED + FAILED))]
    _end(farm, names[tenth:], Status.SUCCEEDED, ok)
    _end(farm, names[:tenth], Status.FAILED, failed)


def _result_of(farm: Farm, name: str, raw: bytes) -> bytes:
    """What farm itself writes for such a task; `sample-NAME` is its id."""
    (farm.tasks / f"sample-{name}.json").write_bytes(raw)
    farm.work(1)
    result = farm.tasks / f"sample-{name}{ENDING}"
    if not result.exists():
        raise GaveUpError(f"farm wrote no {result.name}")
    return result.read_bytes()


def _end(farm: Farm, names: list[str], status: Status, sample: bytes) -> None:
    """Results for all of them, and what the journal says of each."""
    before, _, after = sample.partition(b'"id":"')
    _, _, after = after.partition(b'"')
    parts = (before + b'"id":"', b'"' + after)
    results = ((f"{name}{ENDING}", name.encode().join(parts)) for name in names)
    write_files(farm.tasks, results)
    project = Project(str(farm.root))
    note(project, "bench", _entries(project, names, status))
    compact(project, at_rest=True)  # as workers do when nothing is left


def _entries(project: Project, names: list[str], status: Status) -> Iterator[Entry]:
    why = Why.SUCCEEDED if status is Status.SUCCEEDED else Why.FAILED
    for name in names:
        file = disk.identity_of(project.result_path(name))
        yield Entry(name, time.time(), "bench", why, status, 1, 0.001, file=file)
