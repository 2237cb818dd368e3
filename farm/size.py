"""How people write a number of bytes: a number, or `"16 KiB"`, `"1 GiB"`.

Task files and settings share this grammar.
"""

import re

UNITS = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}  #: bytes

#: A size in words, as JSON Schema and Python's `re` both read it.
PATTERN = "^([0-9]{1,9}) ?(KiB|MiB|GiB|TiB)$"


def number(value: object, most: str = "TiB") -> int:
    """The bytes that a number or a text means, up to one of the unit `most`.

    Raises ValueError for everything else, in words that follow a name: "must be ...".
    """
    found = re.fullmatch(PATTERN, value) if isinstance(value, str) else None
    size = int(found[1]) * UNITS[found[2]] if found else value
    if isinstance(size, bool) or not isinstance(size, int):
        size = -1
    if not 0 <= size <= UNITS[most]:
        raise ValueError(
            f'must be a number of bytes or a size such as "16 KiB", at most 1 {most}'
        )
    return size
