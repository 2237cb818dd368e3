"""The life lock: a worker is alive exactly as long as it holds this file's lock.

`Life.begin(project)` makes `.farm/workers/<name>.lock`: locked in `.farm/tmp`
first and then linked into place, so that nobody ever finds it unlocked while we
live. `beat()` writes a counter *in place* (a rename would free the lock);
`end()` removes the file. The name is new at every start: a name used again would
veto its predecessor's tasks for ever.

Others ask `observe` (a shared lock, so that observers do not disturb each other)
and let `verdict` decide. Children never inherit the lock: it is closed on exec,
and a forked child closes it itself.

A counter is compared with what the observer saw before, by the observer's own
monotonic clock; clocks of two hosts are never compared. `farm.trial` refuses a
folder on which all this would be a lie.
"""

import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum

import msgspec

from farm import disk, process
from farm.errors import BusyError, MountError, UsageError
from farm.flock import lock_descriptor
from farm.process import Identity
from farm.project import Project

LONGEST_NAME = 100  # letters; room for suffixes in file names
_ODD = re.compile(r"[^A-Za-z0-9_-]")
_DIGITS = 20  # of the counter, at the beginning of the file
BEATS_TO_WAIT = 2.5  #: heartbeats after which a moving counter must have moved


class LifeLock(Enum):
    """What an observer sees of another worker's life lock."""

    HELD = "held"
    FREE = "free"
    MISSING = "missing"


class Owner(Enum):
    """What is known of the owner of an open attempt."""

    ALIVE = "alive"
    DEAD = "dead"


class LifeRecord(msgspec.Struct, frozen=True):
    """What a worker says about itself in its life file, once."""

    name: str
    who: Identity
    started: float  #: POSIX seconds
    heartbeat: float  #: seconds between two beats


def verdict(holder: str, me: str, lock: LifeLock, *, seen_running: bool) -> Owner:
    """Whether the owner of an open attempt lives, its ledger's lock being ours.

    `seen_running` vetoes for owners whose life file an operator removed. My own
    open attempt that I am not running is lost like any other.
    """
    if holder == me:
        return Owner.DEAD
    alive = lock is LifeLock.HELD or seen_running
    return Owner.ALIVE if alive else Owner.DEAD


def owner_of(project: Project, holder: str, who: Identity, me: str) -> Owner:
    """`verdict` on what the disk and the process table say now."""
    lock = observe(project, holder)
    return verdict(holder, me, lock, seen_running=process.is_alive(who))


def observe(project: Project, name: str) -> LifeLock:
    """Whether a worker's life lock is held; takes nothing, disturbs nobody."""
    if project.network:
        disk.drop_stale_names(project.workers)
    try:
        fd = _open_to_look(project, name)
    except FileNotFoundError:
        return LifeLock.MISSING
    except OSError as error:
        no_file = error.errno in (errno.ELOOP, errno.ENXIO)  # a link, a socket
        return LifeLock.MISSING if no_file else LifeLock.HELD  # in doubt, it lives
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return LifeLock.MISSING  # a folder, a FIFO: no worker's
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return LifeLock.HELD
    else:
        return LifeLock.FREE
    finally:
        os.close(fd)


def _open_to_look(project: Project, name: str) -> int:
    """A descriptor for a shared lock: no right to write, and a mount may be read-only."""
    return disk.open_to_read(project.life_path(name))


@contextmanager
def unburied(project: Project, name: str) -> Iterator[bool]:
    """Whether a dead worker's files lie there still; they stay as long as we are in here.

    Who buries it (`farm.rescue`) locks its life file for himself alone, and comes
    again later. Those who only observe are not disturbed.
    """
    try:
        fd = _open_to_look(project, name)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        there = os.lstat(project.life_path(name))
    except (BlockingIOError, FileNotFoundError):
        yield False
    else:
        yield os.path.samestat(there, os.fstat(fd))
    finally:
        os.close(fd)


def living(project: Project) -> list[str]:
    """The workers of a project that are alive, on any host."""
    try:
        names = project.worker_names()
    except FileNotFoundError:
        return []  # no worker was ever here
    return [name for name in names if observe(project, name) is LifeLock.HELD]


def read(project: Project, name: str) -> tuple[int, LifeRecord] | None:
    """A worker's counter and record; None if it cannot be read (any more).

    Opened anew each time: on NFS a `stat` would show a beat a minute late.
    """
    try:
        raw = disk.read_file(project.life_path(name), disk.SMALL)
        counter, _, record = raw.partition(b"\n")
        return int(counter), msgspec.json.decode(record, type=LifeRecord)
    except (OSError, ValueError, *disk.NO_JSON):
        return None


class Life:
    """This worker's own life lock."""

    def __init__(self, project: Project, record: LifeRecord, fd: int) -> None:
        self.name = record.name
        self.record = record
        self._project = project
        self._fd = fd
        self._inode = (os.fstat(fd).st_dev, os.fstat(fd).st_ino)
        self._counter = 0

    @classmethod
    def begin(
        cls, project: Project, name: str | None, now: float, heartbeat: float
    ) -> "Life":
        """Be born; BusyError if a living worker has this name already."""
        who = process.identify()
        record = LifeRecord(name or default_name(who), who, now, heartbeat)
        aside = project.aside_path(record.name, f"{os.urandom(4).hex()}.life")
        fd = os.open(
            aside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, disk.FILE_MODE
        )
        try:
            _lock_new(fd, aside)
            text = b"%0*d\n%s\n" % (_DIGITS, 0, msgspec.json.encode(record))
            disk.write_all(fd, text)
            _link_life(project, record.name, aside)
        except BaseException:
            os.close(fd)
            raise
        finally:
            disk.unlink(aside)
        life = cls(project, record, fd)
        os.register_at_fork(after_in_child=life.forget)
        return life

    def beat(self) -> None:
        """Say "alive" once more."""
        self._counter += 1
        # RACE: a task may close every descriptor it finds, and another file may
        # get this number: never write into that.
        now = os.fstat(self._fd)
        if (now.st_dev, now.st_ino) != self._inode:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        os.pwrite(self._fd, b"%0*d" % (_DIGITS, self._counter), 0)

    def in_place(self) -> bool:
        """Whether our file lies there still: an operator may delete all of `.farm`."""
        try:
            there = os.lstat(self._project.life_path(self.name))
        except FileNotFoundError:
            return False
        except OSError:
            return True  # not to be seen just now, which proves nothing
        return (there.st_dev, there.st_ino) == self._inode

    def forget(self) -> None:
        """In a forked child: close the lock, which stays the parent's."""
        fd, self._fd = self._fd, -1
        with suppress(OSError):  # on NFS: a beat that its server did not take
            if fd >= 0:
                os.close(fd)

    def end(self) -> None:
        """Die tidily: the file goes before the lock, so nobody sees it unlocked.

        Before it goes all that is found by it: we may be killed in the middle.
        """
        if self._fd < 0:
            return
        disk.unlink(self._project.health_path(self.name))
        disk.unlink(self._project.life_path(self.name))
        self.forget()


def _lock_new(fd: int, path: str) -> None:
    if not lock_descriptor(fd):
        raise MountError(f"cannot lock {path}, which nobody else can know")


def default_name(who: Identity) -> str:
    """Host, process id and four random hex digits."""
    host = _ODD.sub("-", who.host)
    return f"{host}-{who.pid}-{os.urandom(2).hex()}"


def was_born_in(who: Identity, name: str) -> bool:
    """Whether a worker of this default name is, or was, the one of this process.

    A worker that starts afresh in its process only has new digits at the end.
    """
    return name.rpartition("-")[0] == default_name(who).rpartition("-")[0]


def check_name(name: str) -> None:
    """Raise UsageError if a worker's name could be mistaken in a file's name."""
    if not name or _ODD.search(name) or len(name) > LONGEST_NAME:
        raise UsageError(
            f"a worker's name has letters, digits, - and _ only, and at most"
            f" {LONGEST_NAME} of them: {name!r} is none"
        )


def _link_life(project: Project, name: str, aside: str) -> None:
    if disk.link_new(aside, project.life_path(name)):
        return
    if observe(project, name) is LifeLock.HELD:
        raise BusyError(
            f"a worker named {name} lives already: take another --name, or none"
        )
    raise BusyError(
        f"a worker named {name} died here, and its tasks are still being given"
        " back: take another --name, or none"
    )
