"""Dropping: one step, never over anything, and every line of a file is checked."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from farm import disk, drop
from farm.drop import Line
from farm.ledger import Ledger
from farm.listing import Listing
from farm.project import MAX_TASK_BYTES, Project

RAW = b'{"run":"true"}\n'
MS = 1_795_236_972_123  # 2026-11-21T04:56:12.123Z


def names(project: Project) -> list[str]:
    """Every file below `tasks/`."""
    found = Path(project.tasks).rglob("*")
    return sorted(str(p.relative_to(project.tasks)) for p in found if p.is_file())


def asides(project: Project) -> list[Path]:
    """What lies in `.farm/tmp`."""
    return list(Path(project.tmp).iterdir())


# -- one task ------------------------------------------------------------------------


def test_a_dropped_task_holds_the_bytes(project: Project) -> None:
    assert drop.drop(project, "a", RAW)
    assert project.read_task("a").raw == RAW


def test_folders_are_made_as_they_are_needed(project: Project) -> None:
    drop.drop(project, "t/u/a", RAW)

    assert names(project) == ["t/u/a.json"]


def test_a_project_without_its_own_folders_gets_them(tmp_path: Path) -> None:
    there = Project(tmp_path / "new")
    drop.drop(there, "a", RAW)

    assert names(there) == ["a.json"]


def test_a_task_that_exists_is_never_overwritten(project: Project) -> None:
    drop.drop(project, "a", RAW)

    assert not drop.drop(project, "a", b'{"run":"false"}\n')
    assert project.read_task("a").raw == RAW


@pytest.mark.parametrize("task_id", ["a", "t/a"])
def test_nothing_is_left_aside(project: Project, task_id: str) -> None:
    drop.drop(project, task_id, RAW)
    drop.drop(project, task_id, RAW)

    assert asides(project) == []


def test_a_task_has_its_name_only_when_it_is_whole(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, data: bytes) -> None:
        os.write(fd, data[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, "write_all", full)

    with pytest.raises(OSError, match="No space"):
        drop.drop(project, "a", RAW)
    assert (names(project), asides(project)) == ([], [])


def test_of_many_who_drop_the_same_id_one_wins(project: Project) -> None:
    ready = threading.Barrier(8)
    won: list[tuple[int, int]] = []

    def contend(me: int) -> None:
        ready.wait()
        raw = b'{"run":"%d"}' % me
        won.extend((t, me) for t in range(20) if drop.drop(project, f"t/{t}", raw))

    threads = [threading.Thread(target=contend, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    said = [(t, b'{"run":"%d"}' % n) for t, n in sorted(won)]
    assert said == [(t, project.read_task(f"t/{t}").raw) for t in range(20)]


def test_a_stamp_is_the_utc_time_with_milliseconds() -> None:
    assert drop.stamp(MS) == "20261121-045612-123"


def test_stamps_sort_by_time() -> None:
    stamps = [drop.stamp(MS + ms) for ms in (0, 1, 999, 60_000, 86_400_000)]

    assert stamps == sorted(stamps)


def drop_next(project: Project, stem: str, *archived: str) -> str:
    return drop.drop_next(project, RAW, stem, lambda: archived)


def test_the_first_of_its_name_is_number_one(project: Project) -> None:
    assert [drop_next(project, "make") for _ in range(3)] == [
        "make-1",
        "make-2",
        "make-3",
    ]


@pytest.mark.parametrize("name", ["make-7.json", "make-7.result.json"])
def test_the_next_number_is_above_all_that_lie_there(
    project: Project, name: str
) -> None:
    for other in (
        "make-2.json",
        "make-x.json",
        "make-007x.json",
        "remake-9.json",
        name,
    ):
        Path(project.tasks, other).touch()

    assert drop_next(project, "make") == "make-8"


def test_the_number_of_an_archived_task_does_not_come_back(project: Project) -> None:
    assert drop_next(project, "make", "make-12", "other-40", "make-3") == "make-13"


def test_a_number_that_another_has_just_taken_is_passed_over(project: Project) -> None:
    def meanwhile() -> list[str]:
        Path(project.task_path("make-1")).touch()
        return []

    assert drop.drop_next(project, RAW, "make", meanwhile) == "make-2"
    assert Path(project.task_path("make-1")).read_bytes() == b""


def test_a_number_that_nobody_can_count_on_from_is_a_name(project: Project) -> None:
    Path(project.tasks, f"make-{'9' * 60}.json").touch()

    assert drop_next(project, "make") == "make-1"


@pytest.mark.parametrize(
    ("task", "stem"),
    [
        ({"run": ["pytest", "-q"]}, "pytest"),
        ({"run": "make && make install"}, "make"),
        ({"run": "./bin/report.sh --all"}, "report"),
        ({"run": ["/usr/bin/python3.11", "x.py"]}, "python3"),
        ({"run": "A=1 B=two\tmake"}, "make"),
        ({"run": "(cd src && make)"}, "cd"),
        ({"run": "[ -e x ]"}, "e"),
        ({"run": ["..."]}, "task"),
        ({"run": "no.result.json"}, "no"),
        ({"call": "render:tile"}, "tile"),
        ({"call": "render:Scene.draw"}, "Scene"),
        ({"prompt": "Fix the failing test in tests/a.py"}, "fix-the-failing-test"),
        ({"prompt": "  \n# Über uns: schreibe"}, "über-uns-schreibe"),
        ({"prompt": "!?"}, "task"),
        ({"prompt": "x" * 5_000}, "x" * 40),
        ({"prompt": "\ud800 odd"}, "odd"),
    ],
    ids=ascii,
)
def test_a_task_is_called_by_what_it_does(task: dict[str, Any], stem: str) -> None:
    assert drop.stem_of(task) == stem
    assert drop.misnamed(f"{stem}-1") is None


def test_a_folder_by_time_is_a_new_one(project: Project) -> None:
    Path(project.tasks, "20261121-045612-123").mkdir()

    assert drop.free_folder(project, MS) == "20261121-045612-124"


# -- ids -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task_id", ["a", "t/a", "t/u/a b", "ä", "a%2Fb", "a.b", "results"]
)
def test_an_id_is_a_path_below_tasks(task_id: str) -> None:
    assert drop.misnamed(task_id) is None


@pytest.mark.parametrize(
    ("task_id", "why"),
    [
        ("", "empty part"),
        ("/a", "empty part"),
        ("a/", "empty part"),
        ("t//a", "empty part"),
        ("..", "begins with a dot"),
        ("../a", "begins with a dot"),
        ("t/../../a", "begins with a dot"),
        ("./a", "begins with a dot"),
        (".a", "begins with a dot"),
        ("t/.u/a", "begins with a dot"),
        ("a.json", "ends in .json"),
        ("t.json/a", "ends in .json"),
        ("a.result.json", "ends in .json"),
        ("a.result", "pass for a result"),
        ("a\nb", "control character"),
        ("a\udcff", "not UTF-8"),
        ("x" * 250, "too long"),
    ],
)
def test_an_id_that_no_task_can_have_is_refused(task_id: str, why: str) -> None:
    assert why in (drop.misnamed(task_id) or "")


@pytest.mark.parametrize("task_id", ["t.json/a", ".a", "t/.u/a", "a.result"])
def test_what_is_refused_would_never_be_listed(project: Project, task_id: str) -> None:
    drop.drop(project, task_id, RAW)
    listing = Listing(project)
    listing.refresh()

    assert task_id not in listing.tasks()


def test_a_free_id_is_not_refused(project: Project) -> None:
    assert drop.refusal(project, "t/u/a") is None


def test_an_id_that_exists_is_refused(project: Project) -> None:
    drop.drop(project, "t/a", RAW)

    assert "there is a task t/a already" in (drop.refusal(project, "t/a") or "")


def test_an_id_that_has_a_result_is_refused_and_says_what_to_do(
    project: Project,
) -> None:
    Path(project.result_path("a")).touch()

    assert "tasks/a.result.json is there already" in (drop.refusal(project, "a") or "")
    assert "remove it" in (drop.refusal(project, "a") or "")


def test_an_id_whose_earlier_task_still_runs_is_refused(project: Project) -> None:
    # Somebody deleted the file of a running task: its result is still to come.
    ledger = Ledger.open(project.ledger_path("t/a"))
    assert ledger is not None
    held = drop.refusal(project, "t/a")
    ledger.let_go(unlink=False)

    assert "an earlier task t/a still runs" in (held or "")
    assert drop.refusal(project, "t/a") is None


def test_no_ledger_is_made_by_asking(project: Project) -> None:
    drop.refusal(project, "t/a")

    assert project.ledger_names() == []


def test_a_file_where_a_folder_must_be_is_refused(project: Project) -> None:
    Path(project.tasks, "t").touch()

    assert "tasks/t is a file" in (drop.refusal(project, "t/u/a") or "")


def test_a_link_where_a_folder_must_be_is_refused(project: Project) -> None:
    # Nobody would ever look behind it: listings do not follow links.
    Path(project.tasks, "t").symlink_to(project.root)

    assert "tasks/t is a symbolic link" in (drop.refusal(project, "t/a") or "")


def test_a_folder_whose_name_is_too_long_is_refused(project: Project) -> None:
    assert "too long" in (drop.refusal(project, f"{'x' * 300}/a") or "")


# -- many tasks ----------------------------------------------------------------------


def faults(raw: bytes) -> list[str]:
    return [fault.located("f") for fault in drop.parse_lines(raw)[1]]


def lines(raw: bytes) -> list[Line]:
    found, wrong = drop.parse_lines(raw)
    assert wrong == []
    return found


def test_each_line_is_a_task_and_blank_ones_are_skipped() -> None:
    found = lines(b'\n{"run":"a"}\r\n   \n\t{"run": "b"}')

    assert [(line.number, line.raw) for line in found] == [
        (2, b'{"run":"a"}\n'),
        (4, b'{"run":"b"}\n'),
    ]


@pytest.mark.parametrize(
    "raw", [b'{"id":"\xff","run":"a"}', b'{"id":"x","run":"\xff"}']
)
def test_bytes_that_are_no_utf8_have_their_place(raw: bytes) -> None:
    (fault,) = faults(b'{"run":"a"}\n' + raw)

    assert fault.startswith(f"f:2:{raw.index(255) + 1}: the file is not UTF-8")


@pytest.mark.parametrize(
    "text",
    [
        '{"id":"x/y","run":"a"}',
        '{"run":"a","id":"x/y"}',
        '{ "run" : "a" , "id" : "x/y" }',
        '{ "id" : "x/y" , "run" : "a" }',
        r'{"run":"a","id":"x\u002fy"}',
        r'{"\u0069d":"x/y","run":"a"}',
    ],
)
def test_an_id_is_taken_out_of_the_line(text: str) -> None:
    (line,) = lines(text.encode())

    assert (line.id, line.raw) == ("x/y", b'{"run":"a"}\n')


def test_an_id_inside_a_value_is_none_of_the_line() -> None:
    (line,) = lines(b'{"call":"m:f","kwargs":{"id":"x"},"meta":"\\"id\\""}')

    assert line.id is None
    assert b'"kwargs":{"id":"x"}' in line.raw


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"runn": "a"}', "f:1:2: unknown key `runn`"),
        ('{"id": "x", "runn": "a"}', "f:1:13: unknown key `runn`"),
        ('{"timeout": "x", "id": "ä", "run": "a"}', "f:1:13: `timeout` must be"),
        ('{"id": "ä", "run": "a", "timeout": "x"}', "f:1:36: `timeout` must be"),
        ('{"run": "a", "id": "x", "run": "b"}', "f:1:25: `run` stands here for the"),
        ('{"id": "x", "run": "a", "id": "y"}', "f:1:25: `id` stands here for the se"),
        ('{"run": "a", "id": 3}', "f:1:20: `id` must be a string"),
        ('{"run": "a", "id": null}', "f:1:20: `id` must be a string"),
        ('{"id": "x"}', "f:1:1: there is nothing to do"),
        ('{"id": "x", "meta": 99999999999999999999, "run": "a"}', "f:1:21: this numb"),
        ('{"run": "a"', "f:1:12: the file ends in the middle"),
        ('{"id": "x", "run": a}', "f:1:20: this is not JSON"),
        (r'{"id": "\q", "run": "a"}', "f:1:9: this is not JSON"),
        ("[]", "f:1:1: a task is an object"),
    ],
)
def test_a_bad_line_has_the_place_and_the_words_of_a_bad_file(
    text: str, place: str
) -> None:
    (fault,) = faults(text.encode())

    assert fault.startswith(place)


def test_a_line_longer_than_any_task_file_is_refused() -> None:
    text = b'{"run":"a","meta":"%s"}' % (b"x" * MAX_TASK_BYTES)
    (fault,) = faults(text)

    assert "50 MB" in fault


def test_ids_are_the_numbers_of_the_lines() -> None:
    found = lines(b'{"run":"a"}\n\n{"run":"b"}')

    assert drop.ids_of(found, "now", above="") == ["now/00001", "now/00003"]


def test_more_lines_have_longer_numbers() -> None:
    last = Line(number=123_456, column=1, id=None, raw=RAW)
    first = Line(number=1, column=1, id=None, raw=RAW)

    assert drop.ids_of([first, last], "t", above="t/") == ["t/000001", "t/123456"]


@pytest.mark.parametrize(("above", "task_id"), [("", "x"), ("t/", "t/x")])
def test_an_id_of_its_own_lies_below_the_folder_that_was_named(
    above: str, task_id: str
) -> None:
    found = lines(b'{"run":"a","id":"x"}')

    assert drop.ids_of(found, "t", above) == [task_id]


def test_ids_that_cannot_be_are_faults_at_their_places(project: Project) -> None:
    drop.drop(project, "old", RAW)
    found = lines(
        b'{"run":"a","id":"x"}\n{"id":"x","run":"a"}\n'
        b'{"run":"a","id":"../y"}\n{"run":"a","id":"old"}'
    )
    wrong = drop.id_faults(project, found, drop.ids_of(found, "t", above=""))

    assert [(fault.line, fault.column) for fault in wrong] == [(2, 7), (3, 17), (4, 17)]
    assert "line 1 has the id x already" in wrong[0].message
