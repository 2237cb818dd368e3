"""Which kind of file system a path lies on, by the kernel's mount table."""

import os
import re
from typing import NamedTuple

_NETWORK_TYPES = frozenset(  # as /proc/self/mountinfo names them
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "ceph",
        "lustre",
        "glusterfs",
        "fuse.glusterfs",
        "fuse.sshfs",
        "fuse.s3fs",
        "virtiofs",
        "afs",
        "gpfs",
        "beegfs",
        "fuse.juicefs",
    ]
)
_OCTAL = re.compile(r"\\([0-7]{3})")  # how the kernel writes a space in a path


class Mount(NamedTuple):
    """What the kernel says of a mounted file system."""

    kind: str  #: "ext4", "nfs4"; "" if it cannot be known
    options: frozenset[str]  #: "rw", "local_lock=none", ...

    @property
    def is_network(self) -> bool:
        """Whether other hosts may see it, too."""
        return self.kind in _NETWORK_TYPES


def mount_of(path: str) -> Mount:
    """The file system that `path` lies on, by the kernel's mount table."""
    return find_mount(os.path.realpath(path), _table())


def _table() -> str:
    try:
        with open("/proc/self/mountinfo", errors="replace") as file:
            return file.read()  # in parts: the kernel gives a page at a time
    except OSError:
        return ""


def find_mount(real: str, table: str) -> Mount:
    """The same, by a table like /proc/self/mountinfo, of a path without links."""
    best, found = "", Mount("", frozenset())
    for row in table.splitlines():
        left, _, right = row.partition(" - ")
        fields, (kind, _, *options) = left.split(), right.split()
        point = _OCTAL.sub(lambda octal: chr(int(octal[1], 8)), fields[4])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            every = ",".join([fields[5], *options]).split(",")
            best, found = point, Mount(kind, frozenset(every))
    return found


def is_network(path: str) -> bool:
    """Whether `path` lies on a network file system, by the kernel's mount table."""
    return mount_of(path).is_network
