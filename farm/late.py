"""Imports that farm puts off until it needs them, in a worker that has begun to work.

By then the project's folder stands first in `sys.path`, as for any script that lies
there, and the project may have a `logging.py` or a `locale.py` of its own.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def not_from(folder: str) -> Iterator[None]:
    """In here nothing is imported from this folder.

    RACE: nor by a thread that a callable has left behind, for as long as this takes.
    """
    before = sys.path.copy()
    sys.path[:] = [place for place in before if place != folder]
    try:
        yield
    finally:
        sys.path[:] = before
