"""A lock as people write it first: the storm must catch it, or the storm is worthless.

Python imports this file when it starts, if its folder is on PYTHONPATH: no line of it
is in farm. It takes the protocol's care out of the ledger's lock:

- the file is unlinked after the lock was given up, not before;
- nobody asks whether the path still names the file that was locked;
- a lock that was held for longer than `LONGEST` is broken, alive or not.
"""

import os
import time
from pathlib import Path

from farm import ledger
from farm.ledger import Claimed, Ledger, peek

LONGEST = 1.0  # seconds

_open_with_care = Ledger.open.__func__  # type: ignore[attr-defined]  # a classmethod has one


def _open(cls: type[Ledger], path: str, *, create: bool = True) -> Ledger | None:
    taken: Ledger | None = _open_with_care(cls, path, create=create)
    if taken is not None:
        return taken
    since = [line.acquired_at for line in peek(path) if isinstance(line, Claimed)]
    if since and time.time() - since[-1] > LONGEST:
        Path(path).unlink(missing_ok=True)
    return None


def _let_go(self: Ledger, *, unlink: bool = False) -> None:
    fd, self.fd = self.fd, -1
    if fd < 0:
        return
    os.close(fd)
    if unlink:
        Path(self.path).unlink(missing_ok=True)


Ledger.open = classmethod(_open)  # type: ignore[method-assign,assignment]  # the point
Ledger.let_go = _let_go  # type: ignore[method-assign]  # the point


def _names(path: str, inode: tuple[int, int]) -> bool:
    return True


ledger._names = _names
