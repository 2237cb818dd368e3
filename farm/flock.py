"""The kernel's lock on an open file: what every promise of farm rests on.

It belongs to the open file, not to a process or a descriptor: who opens the path anew
has another, a child that inherits the descriptor has the same, and the kernel frees it
when the last of them is closed, however that came about. `filelock.lock_descriptor`
does the same; its import takes longer than `python -c pass`.
"""

import errno
import fcntl


def lock_descriptor(fd: int) -> bool:
    """Whether the whole file is locked for us alone now; False if it is another's.

    It waits for nobody. OSError where the file system has no such locks.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):  # as some mounts say it
            return False
        raise
    return True


def unlock_descriptor(fd: int) -> None:
    """Free it, whoever else has this open file."""
    fcntl.flock(fd, fcntl.LOCK_UN)
