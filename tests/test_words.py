"""Text for people's terminals."""

import sys
from datetime import UTC, datetime

import pytest

from farm.words import about, clean, counted, duration, frequency, moment, plain

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC).timestamp()
HOUR = 3600.0


# -- nothing steers a terminal -----------------------------------------------------


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[38;2;1;2;3mtrue colour", "true colour"),
        ("\x1b[?1049hother screen", "other screen"),
        ("\x1b[2Jcleared\x1b[H", "cleared"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;never ends\nnext line", "\nnext line"),
        ("\x1bcreset", "reset"),
        ("bell\x07 back\x08 null\x00", "bell back null"),
        ("del\x7f", "del"),
        ("\x9b31m", "31m"),
        ("cut \x1b", "cut "),
    ],
    ids=lambda text: ascii(text)[1:-1],
)
def test_what_could_steer_a_terminal_is_left_out(text: str, left: str) -> None:
    assert clean(text) == left


@pytest.mark.parametrize("cut", range(1, 11))
def test_half_a_sequence_steers_nothing(cut: int) -> None:
    sequence = "\x1b[38;5;196m"

    assert "\x1b" not in clean(sequence[:cut]) + clean(sequence[cut:])


def test_lines_and_tabs_stay() -> None:
    assert clean("a\tb\nc\r\nd") == "a\tb\nc\nd"


def test_every_other_letter_stays() -> None:
    text = "caf\u00e9 \u6771\u4eac \U0001f680"

    assert clean(text) == text


def test_nothing_that_is_printable_is_left_out() -> None:
    printable = "".join(filter(str.isprintable, map(chr, range(sys.maxunicode + 1))))

    assert clean(printable) == printable


def test_plain_is_one_line() -> None:
    assert plain("a\nb\r\nc\x1b[1m") == "a b c"


# -- numbers -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ms"),
        (0.0314, "31.4 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1 s"),
        (1.0, "1 s"),
        (42.44, "42.4 s"),
        (59.4, "59.4 s"),
        (59.6, "1 min 0 s"),
        (192.0, "3 min 12 s"),
        (3599.6, "1 h 0 min"),
        (2 * HOUR + 300, "2 h 5 min"),
        (100 * HOUR, "100 h 0 min"),
    ],
)
def test_a_duration_in_a_few_letters(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.005, "~1 s"),
        (7.31, "~7 s"),
        (12.0, "~10 s"),
        (44.0, "~45 s"),
        (58.0, "~1 min"),
        (61.0, "~1 min"),
        (725.0, "~12 min"),
        (3590.0, "~1 h"),
        (2 * HOUR + 400, "~2 h 10 min"),
        (23.9 * HOUR, "~23 h 50 min"),
        (23.99 * HOUR, "~1 d"),
        (30 * HOUR, "~1 d 6 h"),
        (200 * HOUR, "~8 d 8 h"),
    ],
)
def test_a_guess_has_no_more_digits_than_it_is_worth(seconds: float, text: str) -> None:
    assert about(seconds) == text


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (569.3, "569/s"),
        (2.0, "2/s"),
        (2.54, "2.5/s"),
        (0.399, "24/min"),
        (0.02, "1.2/min"),
        (0.001, "3.6/h"),
    ],
)
def test_a_rate_has_the_unit_that_makes_it_a_number(rate: float, text: str) -> None:
    assert frequency(rate) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 tasks"), (1, "1 task"), (2, "2 tasks")]
)
def test_one_is_not_many(count: int, text: str) -> None:
    assert counted(count, "task") == text


# -- the time of day ---------------------------------------------------------------


@pytest.mark.usefixtures("zone")
def test_a_time_of_day_is_local() -> None:
    assert moment(NOON - HOUR, NOON - HOUR) == "23:45:00"


@pytest.mark.usefixtures("zone")
def test_another_local_day_has_its_date() -> None:
    assert moment(NOON, NOON - HOUR) == "2026-11-22 00:45:00"


@pytest.mark.usefixtures("zone")
def test_another_day_in_greenwich_may_be_today() -> None:
    """00:45 and 14:45 of one local day, either side of Greenwich's midnight."""
    assert moment(NOON + 14 * HOUR, NOON) == "14:45:00"


@pytest.mark.usefixtures("zone")
def test_the_last_second_that_a_task_may_name_has_a_time_of_day() -> None:
    """Here it is the year 10000 already."""
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()

    assert moment(last, NOON).startswith(("9999-12-31", "10000-01-01"))
