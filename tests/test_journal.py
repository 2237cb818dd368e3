"""The journal: a cache that may be torn, deleted or foreign."""

from pathlib import Path

import msgspec
import pytest

from farm import journal as module
from farm.journal import REBUILT, Entry, Journal, Reader, note
from farm.project import Project
from farm.states import Status, Why


def entry(task_id: str, at: float = 1.0, status: Status | None = None) -> Entry:
    return Entry(task_id, at, "ada", why=Why.FAILED, status=status)


def write(project: Project, worker: str, *entries: Entry) -> None:
    journal = Journal(project, worker)
    for item in entries:
        journal.append(item)
    journal.close()


def test_a_journal_is_made_with_its_first_line(project: Project) -> None:
    journal = Journal(project, "ada")
    before = Path(project.journal_path("ada")).exists()
    journal.append(entry("a"))
    journal.close()

    assert (before, Path(project.journal_path("ada")).exists()) == (False, True)


def test_a_line_holds_only_what_was_the_case(project: Project) -> None:
    write(project, "ada", Entry("a", 1.0, "ada", status=Status.SKIPPED))

    raw = Path(project.journal_path("ada")).read_bytes()

    assert raw == b'{"id":"a","at":1.0,"worker":"ada","status":"skipped"}\n'


def test_a_reader_sees_every_line_of_every_worker_once(project: Project) -> None:
    reader = Reader(project, Entry)
    write(project, "ada", entry("a"), entry("b"))
    write(project, "bob", entry("c"))
    first = reader.poll()
    write(project, "ada", entry("d"))

    assert sorted(e.id for e in first) == ["a", "b", "c"]
    assert [[e.id for e in reader.poll()] for _ in range(2)] == [["d"], []]


def test_each_workers_lines_keep_their_order(project: Project) -> None:
    write(project, "ada", *[entry(i) for i in "dacb"])

    assert [e.id for e in Reader(project, Entry).poll()] == list("dacb")


def test_a_journal_of_many_chunks_is_read_whole(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 100)
    names = [f"t{n}" for n in range(50)]
    write(project, "ada", *map(entry, names))
    torn = msgspec.json.encode(entry("torn"))
    path = Path(project.journal_path("ada"))
    reader = Reader(project, Entry)
    with path.open("ab") as journal:
        journal.write(torn[:-9])
        journal.flush()
        early = reader.poll()
        journal.write(torn[-9:] + b"\n")

    assert [e.id for e in early] == names
    assert [e.id for e in reader.poll()] == ["torn"]


def test_a_reader_from_now_on_sees_nothing_older(project: Project) -> None:
    write(project, "ada", entry("a"))
    reader = Reader(project, Entry, from_now=True)
    write(project, "ada", entry("b"))
    write(project, "bob", entry("c"))

    assert sorted(e.id for e in reader.poll()) == ["b", "c"]


def test_a_line_that_is_half_written_is_read_when_it_is_whole(
    project: Project,
) -> None:
    path = Path(project.journal_path("ada"))
    raw = msgspec.json.encode(entry("a")) + b"\n"
    reader = Reader(project, Entry)
    path.write_bytes(raw[:10])
    early = reader.poll()
    path.write_bytes(raw)

    assert early == []
    assert [e.id for e in reader.poll()] == ["a"]


@pytest.mark.parametrize(
    "garbage", [b"", b"{", b"[]", b'{"id": 1}', b"\xff\0", b'{"status": "new"}']
)
def test_a_line_that_cannot_be_read_is_ignored(
    project: Project, garbage: bytes
) -> None:
    good = msgspec.json.encode(entry("a"))
    path = Path(project.journal_path("ada"))
    path.write_bytes(b"\n".join([garbage, good, garbage, good, b""]))

    assert [e.id for e in Reader(project, Entry).poll()] == ["a", "a"]


def test_bad_lines_among_many_cost_no_other_and_no_order(project: Project) -> None:
    lines = [msgspec.json.encode(entry(f"t{n}")) for n in range(100)]
    bad = (0, 33, 34, 99)
    for number in bad:
        lines[number] = lines[number][:-5]
    Path(project.journal_path("ada")).write_bytes(b"\n".join([*lines, b""]))
    good = [f"t{n}" for n in range(100) if n not in bad]

    assert [e.id for e in Reader(project, Entry).poll()] == good


def test_a_deleted_journal_is_no_error(project: Project) -> None:
    write(project, "ada", entry("a"))
    reader = Reader(project, Entry)
    Path(project.journal_path("ada")).unlink()
    Path(project.journal).rmdir()

    assert reader.poll() == []


def test_a_journal_is_rebuilt_from_results(project: Project) -> None:
    told = [Entry("a", 5.0, REBUILT, status=Status.FAILED, duration=0.5)]
    note(project, REBUILT, told)

    assert Reader(project, Entry).poll() == told


def test_a_journal_that_cannot_be_written_is_no_error(project: Project) -> None:
    Path(project.journal).rmdir()
    note(project, REBUILT, [Entry("a", 5.0, REBUILT)])

    assert Reader(project, Entry).poll() == []
