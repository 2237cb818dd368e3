"""The table of faults in `farm help faults` and the tests that it names agree."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
PAGE = TESTS.parent / "farm" / "topics" / "faults.md"
CASES = range(1, 54)
ROW = re.compile(r"^\| (\d+) \| .* \| (?P<shown>[^|]+) \|$", re.MULTILINE)
MARK = re.compile(r"pytest\.mark\.fault\(([\d, ]+)\)")
REASON = "none: "  # how a row says why no test shows it


def rows() -> dict[int, str]:
    """The last column, by the number of the case."""
    return {int(row[1]): row["shown"] for row in ROW.finditer(PAGE.read_text())}


def named(shown: str) -> set[str]:
    """The test files that a row names."""
    return set(re.findall(r"`([\w/]+\.py)`", shown))


def marked() -> dict[int, set[str]]:
    """The test files that provoke a case, by its number, as their marks say."""
    found: dict[int, set[str]] = {}
    for path in TESTS.rglob("test_*.py"):
        for mark in MARK.finditer(path.read_text()):
            for number in mark[1].split(","):
                files = found.setdefault(int(number), set())
                files.add(str(path.relative_to(TESTS)))
    return found


def test_every_case_has_one_row() -> None:
    assert sorted(rows()) == list(CASES)


@pytest.mark.parametrize("number", CASES)
def test_a_row_names_tests_that_provoke_it_or_says_why_there_are_none(
    number: int,
) -> None:
    shown = rows()[number]

    assert named(shown) or shown.startswith(REASON)
    assert named(shown) <= marked().get(number, set())


def test_no_mark_is_of_a_case_that_is_not_in_the_table() -> None:
    assert marked().keys() <= set(CASES)
