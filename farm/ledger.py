"""The lock file of a task is its ledger: who works on it, what went wrong so far.

Order of calls: `Ledger.open(path)` (None: somebody else has it) -> `lines` and
`history()` -> `append(...)` -> `still_ours()` before anything final ->
`let_go(...)`, always.

What a reader may assume. The kernel's flock alone answers "is it held?": a
refused lock belongs to somebody alive (the owner, or a child that inherited the
descriptor) and is never broken. Lines are JSON, appended only by the holder and
believed only under the lock; `peek` reads without it, for display and to find
processes that are then checked by other means. A line that cannot be read is
ignored anywhere, because a crash can tear one.

What can go wrong. The file may be unlinked or replaced while we open it: the
path must name our inode after locking, else we hold nothing. A child may unlock
the shared description: `still_ours` locks again, and the size tells whether
anybody wrote since. Local file systems only unlink a ledger under its lock;
network ones keep it, ended by a `final` line: there an unlinked lock file was seen
to have two owners.
"""

import errno
import os
import stat
import threading
import time
from collections.abc import Iterable
from contextlib import suppress

import msgspec

from farm import disk
from farm.errors import LedgerError, MountError
from farm.flock import lock_descriptor, unlock_descriptor
from farm.process import Identity
from farm.result import Asked, Error, Usage
from farm.states import Status, Why

RELOCK_PATIENCE = 0.2  # seconds; a passer-by looks, is vetoed and lets go
_RELOCK_PAUSE = 0.005  # seconds
_FLAGS = (
    os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
)  # O_NONBLOCK: a FIFO at this path must not block us


class Claimed(msgspec.Struct, frozen=True, tag="claimed", tag_field="line"):
    """An attempt begins. Open until an `Ended` with its token follows."""

    task: str
    attempt: int
    token: str
    holder: str  #: the worker's name; its life lock vetoes
    who: Identity
    acquired_at: float  #: POSIX seconds
    sha256: str | None = None  #: of the bytes that run
    timeout: float | None = None  #: seconds


class Child(msgspec.Struct, frozen=True, tag="child", tag_field="line"):
    """The process group of a running command, for whoever must end it."""

    token: str
    group: int
    ticks: int


class Using(
    msgspec.Struct, frozen=True, omit_defaults=True, tag="using", tag_field="line"
):
    """Which key and which session an agent's attempt uses from now on."""

    token: str
    credential: str | None = None  #: the key's id
    session_id: str | None = None


class Ended(
    msgspec.Struct, frozen=True, omit_defaults=True, tag="ended", tag_field="line"
):
    """An attempt is over without a result; `not_before` delays the next one."""

    token: str
    attempt: int
    why: Why
    counted: bool
    finished: float  #: POSIX seconds
    not_before: float = 0.0  #: POSIX seconds
    exit_code: int | None = None
    signal: str | None = None
    error: Error | None = None
    stdout_path: str | None = None
    stderr_path: str | None = None
    asked: Asked | None = None
    usage: Usage | None = None


class Final(msgspec.Struct, frozen=True, tag="final", tag_field="line"):
    """A result lies beside the task; earlier lines no longer count."""

    status: Status


Line = Claimed | Child | Using | Ended | Final
_LINE = msgspec.json.Decoder(Line)


class Past(msgspec.Struct, frozen=True):
    """One attempt as the ledger tells it; `ended` is None while it is open."""

    claimed: Claimed
    ended: Ended | None
    child: Child | None = None
    using: Using | None = None


def parse(raw: bytes) -> list[Line]:
    """The readable lines since the last `final`."""
    lines: list[Line] = []
    for text in raw.splitlines():
        try:
            line = _LINE.decode(text)
        except disk.NO_JSON:
            continue  # torn or foreign: the module's promise
        if isinstance(line, Final):
            lines.clear()
        else:
            lines.append(line)
    return lines


def history(lines: Iterable[Line]) -> list[Past]:
    """The attempts in order, each with how it ended."""
    past: dict[str, Past] = {}
    for line in lines:
        if isinstance(line, Claimed):
            past[line.token] = Past(line, None)
        elif isinstance(line, Ended) and line.token in past:
            past[line.token] = msgspec.structs.replace(past[line.token], ended=line)
        elif isinstance(line, Child) and line.token in past:
            past[line.token] = msgspec.structs.replace(past[line.token], child=line)
        elif isinstance(line, Using) and line.token in past:
            past[line.token] = msgspec.structs.replace(past[line.token], using=line)
    return list(past.values())


def endings(past: Iterable[Past]) -> list[Ended]:
    """How these attempts ended, in order; an open one has not."""
    return [one.ended for one in past if one.ended]


def open_attempt(lines: Iterable[Line]) -> Past | None:
    """The last attempt if nothing says that it ended."""
    past = history(lines)
    return past[-1] if past and past[-1].ended is None else None


def peek(path: str) -> list[Line]:
    """The lines of a ledger whose lock is not ours; a hint, never the truth."""
    try:
        fd = disk.open_to_read(path)
    except OSError:
        return []  # gone, or no regular file: nothing to be seen
    try:
        return parse(disk.read_fd(fd)) if stat.S_ISREG(os.fstat(fd).st_mode) else []
    except OSError:
        return []  # longer than any ledger: its claim says so
    finally:
        os.close(fd)


class Ledger:
    """A ledger whose lock this process holds."""

    def __init__(self, path: str, fd: int, identity: os.stat_result) -> None:
        self.path = path
        self.fd = fd
        self.inode = _inode(identity)
        raw = _all_of(path, fd)
        self.size = len(raw)
        self._torn = bool(raw) and not raw.endswith(b"\n")
        self.lines = parse(raw)

    @classmethod
    def open(cls, path: str, *, create: bool = True) -> "Ledger | None":
        """Lock a ledger; None if another holds it or it was moved meanwhile.

        Raises FileNotFoundError with `create=False` if there is none, LedgerError
        if something else lies at this path, MountError where flock does not work,
        OSError for what else the disk says.
        """
        fd, identity = open_lock(path, create=create)
        ledger = None
        try:
            # RACE: between open and lock another may unlink the file (it was
            # final): then we hold a lock that nobody else can see.
            if try_lock(fd, path) and _names(path, _inode(identity)):
                ledger = cls(path, fd, identity)
        finally:
            if ledger is None:
                os.close(fd)
        return ledger

    def append(self, line: Line) -> None:
        """Add one line; OSError means it may be torn: do not act upon it."""
        data = msgspec.json.encode(line) + b"\n"
        if self._torn:
            data = b"\n" + data  # RACE: never glue a line to a torn one
        self._torn = True
        try:
            disk.write_all(self.fd, data)
        except OSError:
            self.size = os.fstat(self.fd).st_size  # a part of it is ours, too
            raise
        self._torn = False
        self.size += len(data)
        self.lines.append(line)

    def sync(self) -> None:
        """Put the lines on the platter (a task may crash its whole host)."""
        os.fdatasync(self.fd)

    def still_ours(self) -> bool:
        """Whether nobody else can have worked on the task since we locked it.

        On NFS locking again asks the server: a client that was cut off for
        longer than its lease learns here that it lost the lock.
        """
        try:
            return self._locks_again() and self._untouched()
        except OSError:
            return False  # EIO: the server has given our lock away

    def _untouched(self) -> bool:
        now = os.fstat(self.fd)
        return now.st_size == self.size and _names(self.path, self.inode)

    def _locks_again(self) -> bool:
        until = time.monotonic() + RELOCK_PATIENCE
        while not try_lock(self.fd, self.path):
            # RACE: a child did LOCK_UN and a passer-by holds the lock for a
            # moment; unless it wrote, it will be vetoed and let go.
            if os.fstat(self.fd).st_size != self.size or time.monotonic() > until:
                return False
            threading.Event().wait(_RELOCK_PAUSE)
        return True

    def let_go(self, *, unlink: bool = False) -> None:
        """Free the lock, if asked after removing the file under it.

        Unlocked explicitly: a daemon that the task left behind may still hold
        the descriptor. May be called twice, and raises nothing: a ledger that
        cannot be removed is swept later, and a descriptor that a task has closed
        holds no lock.
        """
        fd, self.fd = self.fd, -1
        if fd < 0:
            return
        with suppress(OSError):
            if unlink and _names(self.path, self.inode):
                disk.unlink(self.path)
        with suppress(OSError):
            unlock_descriptor(fd)
        with suppress(OSError):
            os.close(fd)

    def abandon(self) -> None:
        """After an error: close, but leave the lock to whoever inherited it.

        If nothing of the attempt runs any more, this frees it as well. If
        something does, the lock still tells, and rescue can find it.
        """
        fd, self.fd = self.fd, -1
        with suppress(OSError):
            if fd >= 0:
                os.close(fd)


def _all_of(path: str, fd: int) -> bytes:
    try:
        return disk.read_fd(fd)
    except OSError as error:
        if error.errno != errno.EOVERFLOW:
            raise
        raise LedgerError(path, f"holds more than {disk.MOST >> 20} MiB") from None


def open_lock(path: str, *, create: bool = True) -> tuple[int, os.stat_result]:
    """A lock file, and which file it is; LedgerError if something else lies there."""
    try:
        fd = os.open(path, _FLAGS | (os.O_CREAT if create else 0), disk.FILE_MODE)
    except OSError as error:
        if error.errno in (errno.EISDIR, errno.ELOOP, errno.ENXIO):
            raise LedgerError(path) from None
        raise
    identity = os.fstat(fd)
    if not stat.S_ISREG(identity.st_mode):
        os.close(fd)
        raise LedgerError(path)
    return fd, identity


def try_lock(fd: int, path: str) -> bool:
    """Whether the lock is ours now; MountError where flock does not work."""
    try:
        return lock_descriptor(fd)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        message = f"cannot lock {path}: {error.strerror}"
        raise MountError(
            f"{message}; farm needs a file system with working flock (a local disk,"
            " or NFS mounted with locks)"
        ) from error


def _names(path: str, inode: tuple[int, int]) -> bool:
    """Whether this path still names that file."""
    try:
        return _inode(os.lstat(path)) == inode
    except FileNotFoundError:
        return False


def _inode(seen: os.stat_result) -> tuple[int, int]:
    return seen.st_dev, seen.st_ino
