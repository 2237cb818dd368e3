"""One supervisor for each host name and project, by a lock of its own.

The lock is held as long as the supervisor lives, so everybody can ask who supervises
(`supervisors`), over a mount too. The file stays when it ends, which is harmless.
"""

import fcntl
import os

from farm import disk, poll, process
from farm.errors import BusyError
from farm.ledger import open_lock, try_lock
from farm.project import Project

PATIENCE = 0.3  # seconds


class Singleton:
    """The right to supervise a project on this host."""

    def __init__(self, project: Project) -> None:
        """Take it; BusyError if another has it."""
        who = process.identify()
        self._path = project.supervisor_path(who.host)
        self._fd, _ = open_lock(self._path)
        if not poll.until(self._try, PATIENCE):
            owner = os.pread(self._fd, 64, 0).decode(errors="replace").strip()
            os.close(self._fd)
            raise BusyError(
                f"{project.root} already has a supervisor on {who.host}: process"
                f" {owner}. Add workers with: farm worker {project.root}, or change"
                " how many it keeps with: farm scale N. If that process is in another"
                " container or on another machine, give this one a host name of its own"
            )
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{who.pid}\n".encode(), 0)

    def _try(self) -> bool | None:
        # RACE: one who asks who supervises holds a shared lock for a moment.
        return try_lock(self._fd, self._path) or None

    def release(self) -> None:
        """The next one may come."""
        os.close(self._fd)


def supervisors(project: Project) -> dict[str, str]:
    """The living supervisors of a project: host -> process id there."""
    return {
        host: pid
        for host in project.supervisor_hosts()
        if (pid := _living(project.supervisor_path(host))) is not None
    }


def _living(path: str) -> str | None:
    try:
        fd = disk.open_to_read(path)
    except OSError:
        return None  # removed in this moment, or another user's
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(fd, 64, 0).decode(errors="replace").strip()
    else:
        return None
    finally:
        os.close(fd)
