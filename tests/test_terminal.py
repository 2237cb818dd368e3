"""What fits on a terminal."""

import sys

import pytest

from farm.cli.terminal import cells, fit, padded, styled, table, width

WIDE = "\u6771\u4eac"  # two letters, four columns


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("", 0),
        ("ascii", 5),
        ("caf\u00e9", 4),
        ("cafe\u0301", 4),
        (WIDE, 4),
        ("\U0001f680", 2),
    ],
    ids=["nothing", "ascii", "accent", "combining accent", "wide", "emoji"],
)
def test_wide_letters_take_two_columns(text: str, columns: int) -> None:
    assert cells(text) == columns


# -- one line ----------------------------------------------------------------------


@pytest.mark.parametrize("line", ["", "short", "x" * 40, WIDE * 10])
def test_what_fits_is_left_whole(line: str) -> None:
    assert fit(line, 40) == line


def test_what_is_too_long_ends_in_an_ellipsis() -> None:
    assert fit("x" * 41, 40) == "x" * 39 + "\u2026"


@pytest.mark.parametrize("before", range(4))
def test_a_cut_line_never_takes_more_columns_than_there_are(before: int) -> None:
    cut = fit("x" * before + WIDE * 40, 40)

    assert cells(cut) <= 40
    assert cut.endswith("\u2026")


def test_no_wide_letter_is_cut_in_half() -> None:
    """39 columns are left for 4-column words: the 20th letter would need the 40th."""
    assert fit(WIDE * 40, 40) == f"{(WIDE * 10)[:19]}\u2026"


def test_a_cut_at_a_blank_leaves_no_blank() -> None:
    assert fit("abc " + "x" * 40, 5) == "abc\u2026"


def test_without_a_terminal_nothing_is_cut() -> None:
    assert fit("x" * 1000, None) == "x" * 1000


def test_without_a_terminal_there_is_no_width(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert width() is None


def test_the_width_of_a_terminal_is_its_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    assert width() == 40


# -- columns -----------------------------------------------------------------------


def test_columns_are_aligned() -> None:
    assert table([("a", "1", "x"), ("long", "22", "y")]) == [
        "a     1   x",
        "long  22  y",
    ]


def test_columns_with_wide_letters_are_aligned_by_what_they_take() -> None:
    assert table([(WIDE, "x"), ("abcde", "y")]) == [f"{WIDE}   x", "abcde  y"]


def test_a_column_that_is_empty_takes_no_room() -> None:
    assert table([("a", "", "x"), ("b", "", "y")]) == ["a  x", "b  y"]


def test_an_empty_cell_keeps_its_column() -> None:
    assert table([("a", "1", "x"), ("b", "", "y")]) == ["a  1  x", "b     y"]


def test_no_line_ends_in_blanks() -> None:
    assert table([("a", "long"), ("b", "")]) == ["a  long", "b"]


def test_no_rows_are_no_lines() -> None:
    assert table([]) == []


def test_a_text_is_padded_to_its_columns() -> None:
    assert padded(WIDE, 6) == f"{WIDE}  "
    assert padded("longer", 3) == "longer"


# -- colour ------------------------------------------------------------------------


def test_no_color_means_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    assert styled("a", bold=True) == "a"


def test_an_empty_no_color_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "")

    assert styled("a", bold=True) == "\x1b[1ma\x1b[0m"
