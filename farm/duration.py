"""How people write a length of time: seconds, or `"90s" "15m" "1h30m" "2d"`.

Task files and settings share this grammar: numbers, whole or decimal, each with
its unit, days before hours before minutes before seconds. A number alone is
seconds; a text needs units. Nothing here is negative or endless, and true is no
number.
"""

import re

LONGEST = 1e9  #: seconds, 31 years: clocks and timers can still count it

_UNITS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}  # seconds
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"

#: A duration in words, as JSON Schema and Python's `re` both read it.
PATTERN = "^(?=[0-9])" + "".join(f"(?:({_NUMBER}){unit})?" for unit in _UNITS) + "$"
_MUST_BE = 'must be a number of seconds or a duration such as "90s" "15m" "1h30m"'
_AT_LEAST = "must be at least 0 seconds"
_AT_MOST = f"must be at most {LONGEST:.0f} seconds"


def seconds(value: object) -> float:
    """The seconds that a number or a text means, from 0 to `LONGEST`.

    Raises ValueError for everything else, in words that follow a name:
    "must be ...".
    """
    number = _in_words(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ValueError(_MUST_BE)  # noqa: TRY004 - one error for all of them
    if number < 0:
        raise ValueError(_AT_LEAST)
    if not number <= LONGEST:  # also nan, of which nothing is true
        raise ValueError(_AT_MOST)
    return float(number)


def _in_words(text: str) -> float:
    found = re.fullmatch(PATTERN, text)  # compiled when the first one is read
    if found is None:
        raise ValueError(_MUST_BE)
    counts = zip(found.groups(), _UNITS.values(), strict=True)
    return sum(float(count) * unit for count, unit in counts if count)
