"""Archives as files: names that sort by time, lines that are checked."""

import gzip
import os
from pathlib import Path

import pytest

from farm import shelf
from farm.project import Project
from farm.shelf import ArchiveError, Pair

NOW = 1_763_700_000.25
PAIR = Pair("a", '{"run": "true"}\n', '{"status": "failed"}\n')


def make(project: Project, *pairs: Pair, now: float = NOW) -> str:
    """A new archive; its path."""
    path = shelf.moving_path(project, now)
    shelf.write(path, pairs, f"{project.tmp}/aside")
    final = shelf.publish(path)

    assert final is not None
    return final


def test_an_archive_is_named_by_its_time_in_utc(project: Project) -> None:
    assert make(project, PAIR).endswith("/archive/20251121T044000.250000Z.jsonl.gz")


def test_other_tools_can_read_it(project: Project) -> None:
    text = gzip.decompress(Path(make(project, PAIR)).read_bytes()).decode()

    assert text == (
        r'{"id":"a","task":"{\"run\": \"true\"}\n","result":"{\"status\": \"failed\"}\n"}'
        "\n"
    )


def test_it_is_readable_for_its_owner_alone(project: Project) -> None:
    assert Path(make(project, PAIR)).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("later", [0.0, -86_400.0, 1.0])
def test_a_later_archive_has_the_greater_name(project: Project, later: float) -> None:
    first = make(project, PAIR)
    second = make(project, PAIR, now=NOW + later)

    assert shelf.archives(project) == [first, second]


def test_one_under_way_has_a_name_as_well(project: Project) -> None:
    path = shelf.moving_path(project, NOW)
    shelf.write(path, [PAIR], f"{project.tmp}/aside")

    assert shelf.moving_path(project, NOW) > path
    assert (shelf.moving(project), shelf.archives(project)) == ([path], [])


def test_names_that_farm_did_not_give_are_in_nobodys_way(project: Project) -> None:
    mine = f"{project.root}/archive/mine.jsonl.gz"
    first = make(project, PAIR)
    os.link(first, mine)
    second = make(project, PAIR)

    assert shelf.archives(project) == [first, second, mine]


def test_without_lines_there_is_no_file(project: Project) -> None:
    path = shelf.moving_path(project, NOW)
    count = shelf.write(path, [], f"{project.tmp}/aside")

    assert (count, shelf.publish(path), shelf.archives(project)) == (0, None, [])


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"\xff",
        b'{"id":"a","task":null}',
        b'{"id":"a","task":null,"result":"no JSON"}',
        b'{"id":"a","task":null,"result":"{\\"status\\":\\"failed\\"}","more":1}',
        b'{"id":"../a","task":null,"result":"{\\"status\\":\\"failed\\"}"}',
    ],
)
def test_a_line_that_is_none_is_an_error_with_the_path(
    project: Project, line: bytes
) -> None:
    path = Path(make(project, PAIR))
    path.write_bytes(gzip.compress(line + b"\n"))

    with pytest.raises(ArchiveError, match=path.name):
        list(shelf.pairs(str(path)))
