"""Which kind of file system a path lies on, by the kernel's mount table."""

import os
import re
from pathlib import Path

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


def is_network(path: str) -> bool:
    """Whether `path` lies on a network file system, by the kernel's mount table."""
    try:
        table = Path("/proc/self/mountinfo").read_text(errors="replace")
    except OSError:
        return False
    best, kind = "", ""
    real = os.path.realpath(path)
    for row in table.splitlines():
        left, _, right = row.partition(" - ")
        point = _OCTAL.sub(lambda found: chr(int(found[1], 8)), left.split()[4])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, right.split()[0]
    return kind in _NETWORK_TYPES
