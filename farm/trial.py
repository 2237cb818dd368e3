"""A trial of the folder: refuse it where farm's promises would be lies.

`check_mount` tries in a moment whether locks, links and reading beside a lock
work. `check_shared` finds hosts whose locks this mount does not share: it may wait
for a few heartbeats, but only if there is a reason to suspect one.
"""

import os
import secrets

from filelock import lock_descriptor

from farm import disk, life, process
from farm.bell import Bell
from farm.errors import MountError
from farm.life import BEATS_TO_WAIT, LifeLock
from farm.project import CHECK, Project


def check_mount(project: Project) -> None:
    """Raise MountError unless locks, links and reading beside a lock work here."""
    mine = project.aside_path(f"check-{os.getpid()}-{secrets.token_hex(4)}", "lock")
    # In tasks/, where results are linked to: it may be another file system.
    other = f"{project.tasks}/{CHECK}{os.path.basename(mine)}"
    disk.write_aside(mine, b"canary")
    try:
        if not disk.link_new(mine, other):
            raise MountError(_refusal(project, "hard links do not work"))
        _check_lock(project, mine, other)
    except OSError as error:
        raise MountError(_refusal(project, f"{error.strerror}")) from error
    finally:
        disk.unlink(mine)
        disk.unlink(other)


def _check_lock(project: Project, mine: str, other: str) -> None:
    held = os.open(mine, os.O_RDWR | os.O_CLOEXEC)
    beside = os.open(other, os.O_RDWR | os.O_CLOEXEC)
    try:
        if not lock_descriptor(held, blocking=False):
            raise MountError(_refusal(project, "a new file cannot be locked"))
        if lock_descriptor(beside, blocking=False):
            raise MountError(_refusal(project, "two owners get the same lock"))
        if disk.read_fd(beside) != b"canary":
            raise MountError(_refusal(project, "a locked file cannot be read"))
    finally:
        os.close(held)
        os.close(beside)


def _refusal(project: Project, what: str) -> str:
    return (
        f"{project.farm}: {what}. farm needs flock and hard links there: use a local"
        " disk, or NFS mounted with locks (no `nolock`, no `local_lock`)"
    )


def check_shared(project: Project, bell: Bell) -> None:
    """Raise MountError if a lock that its owner holds elsewhere is free here.

    Every life lock that can be taken belongs to the dead. If the counter in one
    still moves, its owner lives behind a mount whose locks we do not share.
    Waits a few heartbeats, and only if such a file of another boot is there.
    """
    suspects = {}
    for name in project.worker_names():
        seen = life.read(project, name)
        foreign = seen is not None and not process.is_here(seen[1].who)
        if seen and foreign and life.observe(project, name) is LifeLock.FREE:
            suspects[name] = seen
    if not suspects:
        return
    bell.wait(BEATS_TO_WAIT * max(r.heartbeat for _, r in suspects.values()))
    for name, (counter, record) in suspects.items():
        again = life.read(project, name)
        if (
            again
            and again[0] != counter
            and life.observe(project, name) is LifeLock.FREE
        ):
            raise MountError(
                f"the worker {name} on host {record.who.host} is alive, but its lock"
                f" is free here: {project.root} is mounted without shared locks."
                " Mount it with locks on every host (NFS without `nolock` and"
                " `local_lock`; no overlay or virtiofs without remote locks)"
            )
