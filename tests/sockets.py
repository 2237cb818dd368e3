"""Sockets that lie where a file is expected."""

import os
import stat
from pathlib import Path


def make_socket(path: Path) -> None:
    """A socket with this name; unlike `bind`, however long its path is."""
    os.mknod(path, stat.S_IFSOCK | 0o600)
