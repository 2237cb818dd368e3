"""A trial of the folder: refuse it where farm's promises would be lies.

`check_folder` is all that a worker checks of its folder at its start. `check_mount`
tries in a moment whether locks, links and reading beside a lock work. `check_shared`
finds hosts whose locks this mount does not share: it may wait for a few heartbeats, but
only if there is a reason to suspect one. `farm.doctor` makes each of `CHECKS` with the
same functions, on the same names of a canary (`two_names`): what makes a worker refuse a
folder, the doctor says.
"""

import os
import re
from typing import Self

from farm import disk, life, process
from farm.bell import Bell
from farm.errors import MACHINE, MountError
from farm.flock import lock_descriptor
from farm.life import BEATS_TO_WAIT, LifeLock
from farm.process import Identity
from farm.project import CHECK, Project

_CANARY = b"canary"
_NAME = re.compile(r"check-([0-9a-f-]{36})-(\d+)-(\d+)-(\d+)-")
NEEDS = (
    "farm needs flock and hard links there: use a local disk, or NFS mounted with"
    " locks (no `nolock`, no `local_lock`)"
)


class Bench:
    """Names for the files of a trial, in `.farm/tmp` and in `tasks/`.

    As a context manager it removes whatever was made under the names it gave. The
    names say whose it is (`maker`): a worker that is killed in a trial has no life
    lock yet, by which one could see that it is dead.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        me = process.identify()
        whose = f"{me.boot}-{me.pidns}-{me.pid}-{me.ticks}"
        self._name = f"check-{whose}-{os.urandom(4).hex()}"
        self._given: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for path in self._given:
            disk.unlink(path)

    def aside(self, what: str) -> str:
        """A name in `.farm/tmp`, where farm writes files."""
        return self._give(self._project.aside_path(self._name, what))

    def final(self, what: str) -> str:
        """A name in `tasks/`, where results are linked to."""
        return self._give(f"{self._project.tasks}/{CHECK}{self._name}.{what}")

    def _give(self, path: str) -> str:
        self._given.append(path)
        return path

    def file(self, what: str) -> str:
        """A new file in `.farm/tmp`."""
        path = self.aside(what)
        disk.write_aside(path, _CANARY)
        return path


def maker(name: str) -> Identity | None:
    """Who made a file of this name for a trial; None if it is for something else."""
    found = _NAME.match(name)
    if found is None:
        return None
    boot, pidns, pid, ticks = found.groups()
    return Identity("", boot, int(pidns), int(pid), int(ticks))


def check_mount(project: Project, _bell: Bell | None = None) -> None:
    """Raise MountError unless locks, links and reading beside a lock work here."""
    with Bench(project) as bench:
        mine, other = two_names(bench)
        try:
            fault = link_fault(mine, other) or lock_fault(mine, other)
        except OSError as error:
            if error.errno in MACHINE:
                raise  # says nothing about the mount
            fault = f"{error.strerror}"
    if fault:
        raise MountError(f"{project.farm}: {fault}. {NEEDS}")


def two_names(bench: Bench) -> tuple[str, str]:
    """A canary, and a second name that it may be given.

    The second is in `tasks/`, which may be another file system; and two names of one
    file do not share a lock on every one (FUSE).
    """
    return bench.file("lock"), bench.final("lock")


def link_fault(mine: str, other: str) -> str | None:
    """What is wrong with giving a file a second name; None if nothing is."""
    return None if disk.link_new(mine, other) else "hard links do not work"


def lock_fault(mine: str, other: str) -> str | None:
    """What is wrong with locks on a canary, by two of its names; None if nothing is."""
    held = os.open(mine, os.O_RDWR | os.O_CLOEXEC)
    beside = os.open(other, os.O_RDWR | os.O_CLOEXEC)
    try:
        if not lock_descriptor(held):
            return "a new file cannot be locked"
        if lock_descriptor(beside):
            return "two owners get the same lock"
        if disk.read_fd(beside) != _CANARY:
            return "a locked file cannot be read"
    finally:
        os.close(held)
        os.close(beside)
    return None


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


CHECKS = (check_mount, check_shared)


def check_folder(project: Project, bell: Bell) -> None:
    """Raise MountError where a worker refuses to work."""
    for check in CHECKS:
        check(project, bell)
