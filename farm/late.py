"""Imports that farm puts off until it needs them, in a worker that has begun to work.

By then the project's folder stands first in `sys.path`, as for any script that lies
there, and the project may have a `logging.py` or a `locale.py` of its own. No .pyc is
written either, as those of a project would lie; ours may be, or each worker compiled anew.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def not_from(folder: str) -> Iterator[None]:
    """In here nothing is imported from this folder, and .pyc files are kept as usual.

    RACE: so it is for a thread that a callable has left behind, as long as this takes.
    """
    path, no_files = sys.path.copy(), sys.dont_write_bytecode
    sys.path[:] = [place for place in path if place != folder]
    sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)
    try:
        yield
    finally:
        sys.path[:], sys.dont_write_bytecode = path, no_files
