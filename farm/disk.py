"""Bytes on disk: read them, and write them so that nobody sees half a file.

A file gets its name in one step, by `link_new` (fails if the name is taken:
one winner) or `replace` (last writer wins). Readers see the old bytes, the new
bytes or no file; never a part. With `sync=True` the bytes and then the folder
are on the platter before the call returns: without it a power cut leaves
*empty* files under final names (measured: 6,231 of 10,914).

JSON of people's files is read and written by orjson; farm's own records by msgspec.

This is also the one reader: no other module opens a file of a project to read it
(`tests/test_reader.py`). Others may write there, so at any path may lie a file of 256 GB,
a FIFO, a device, a link, or JSON that is nested without end. `open_to_read` waits for
nothing and follows no link, `read_fd` ends at `most` bytes with an OSError that says why,
who reads lines bounds each of them, and who decodes JSON catches `NO_JSON`.
"""

import errno
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

import msgspec
import orjson

from farm import middle

MOST = 128 << 20  #: bytes of a file that is read as a whole: a result, a ledger
SMALL = 1 << 16  #: bytes of an order, a life file and such
LONGEST_LINE = 1 << 20  #: bytes of a line of a journal
#: what a decoder of msgspec raises; RecursionError where it is nested too deep
NO_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_CHUNK = 1 << 16  # bytes; nearly every file here is read by one call
_TO_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO must not block us
_COARSE_CLOCK = 5  # Linux' CLOCK_REALTIME_COARSE, which Python does not name
LONGEST_TICK_NS = 2_000_000_000  #: of FAT; servers are given as long
_GRAINS_NS = (100_000_000, 10_000_000, 1_000_000, 100_000)  # parts of a second
_SECOND_NS = 1_000_000_000
_LEAST_ROOM = 1 << 12  # bytes; what most file systems give out at once
_OWN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
MOST_LOG = 4 << 20  #: bytes of a log of farm's own; then the next one begins
FILE_MODE = 0o600  # a result may hold what its task printed: the owner's business
FOLDER_MODE = 0o700
SHOWN_MODE = 0o755  # of folders for people; under umask 0, too, only ours to write


def encode(value: object) -> bytes:
    """One line of JSON, newline included; text that is no UTF-8 raises TypeError."""
    try:
        return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        return b"".join((*_encoded(value), b"\n"))


def _encoded(value: object) -> Iterator[bytes]:
    """The same in parts: orjson reads 1,024 levels of nesting, but writes only 254."""
    todo: list[object] = [value]  # bytes are ready, all else is a value
    while todo:
        now = todo.pop()
        if isinstance(now, bytes):
            yield now
        elif isinstance(now, list) and now:
            todo.append(b"]")
            for item in reversed(now):
                todo += (item, b",")
            todo[-1] = b"["
        elif isinstance(now, dict) and now:
            todo.append(b"}")
            for key, item in reversed(now.items()):
                todo += (item, _key(key) + b":", b",")
            todo[-1] = b"{"
        else:
            yield orjson.dumps(now)


def _key(key: object) -> bytes:
    orjson.dumps({key: None})  # TypeError for what is not a text
    return orjson.dumps(key)


def decode(raw: bytes) -> object:
    """The JSON value in `raw`, or ValueError, also if it is nested too deep."""
    return orjson.loads(raw)


# -- reading -------------------------------------------------------------------------


def open_to_read(path: str | os.PathLike[str], *, follow: bool = False) -> int:
    """A descriptor of what lies there; never a wait, and a link only if told so."""
    return os.open(path, _TO_READ | (0 if follow else os.O_NOFOLLOW))


def read_fd(fd: int, most: int = MOST) -> bytes:
    """Everything in an open file from its beginning, wherever its offset is.

    OSError (EOVERFLOW) if that is more than `most` bytes, or never ends.
    """
    first = os.pread(fd, _CHUNK, 0)
    return first if len(first) < _CHUNK else first + _rest(fd, len(first), most)


def _rest(fd: int, offset: int, most: int) -> bytes:
    now = os.fstat(fd)
    if now.st_size > most or stat.S_ISCHR(now.st_mode) or stat.S_ISBLK(now.st_mode):
        raise OSError(errno.EOVERFLOW, too_long(most))
    parts = [os.pread(fd, _CHUNK, offset)]
    while parts[-1]:  # a file below /proc may give less than was asked for
        offset += len(parts[-1])
        if offset > most:  # it grows while we read
            raise OSError(errno.EOVERFLOW, too_long(most))
        parts.append(os.pread(fd, _CHUNK, offset))
    return b"".join(parts)


def too_long(most: int) -> str:
    """What is wrong with a file that holds more than farm reads there."""
    size = f"{most >> 20} MiB" if most >= 1 << 20 else f"{most >> 10} KiB"
    return f"it holds more than {size}, and farm reads no file of that size here"


def read_file(path: str | os.PathLike[str], most: int = MOST) -> bytes:
    """Everything in a regular file; OSError as the disk says, never a FIFO's wait."""
    fd = open_to_read(path)
    try:
        return read_fd(fd, most)
    except OSError as error:
        error.filename = path  # the kernel was only given a descriptor
        raise
    finally:
        os.close(fd)


def read_tail(path: str | os.PathLike[str], limit: int) -> tuple[bytes, int]:
    """The last `limit` bytes of a file and its whole size; (b"", 0) if missing."""
    try:
        fd = open_to_read(path)
    except FileNotFoundError:
        return b"", 0
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b"", 0  # nobody's output
        return tail_of(fd, limit)
    finally:
        os.close(fd)


def left_out(path: str) -> int:
    """How many bytes of a log's middle were freed; 0 if it is gone, or is no log."""
    try:
        fd = open_regular(path)
    except OSError:
        return 0
    try:
        return middle.left_out(fd)
    finally:
        os.close(fd)


@contextmanager
def opened_to_cut(paths: Iterable[str]) -> Iterator[list[int]]:
    """Descriptors of logs of ours, to look at them and to free their middles."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    fds: list[int] = []
    try:
        fds.extend(os.open(path, flags) for path in paths)
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


def tail_of(fd: int, limit: int) -> tuple[bytes, int]:
    """The same of an open file; nothing that lies before a hole (`farm.middle`)."""
    size = os.fstat(fd).st_size
    start = max(0, size - limit)
    raw = os.pread(fd, limit, start)
    if b"\0" in raw:  # what was freed reads as NUL
        raw = raw[max(0, middle.last_part(fd, size, start) - start) :]
    return raw, size


def open_regular(path: str) -> int:
    """A descriptor of a regular file; OSError, as the disk says, if it is none."""
    fd = open_to_read(path)
    try:
        check_regular(fd)
    except OSError as error:
        os.close(fd)
        error.filename = path
        raise
    return fd


def open_file(path: str) -> BinaryIO:
    """The same as a stream."""
    return open(open_regular(path), "rb")


def check_regular(fd: int) -> None:
    """OSError for a folder, a FIFO, a device."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is not a regular file")


def open_to_append(path: str, most: int | None = None) -> int:
    """A file of ours that grows, made if it is not there; never through a link.

    One of more than `most` bytes is called `<path>.1` from now on, and a new one begins.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    if most is not None and _is_larger(path, most):
        # RACE: another may do so in this moment; then the older part is lost.
        move(path, f"{path}.1")
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, FILE_MODE)


def set_aside(path: str, most: int) -> None:
    """The same while somebody has it open to append: what is in it is copied, and cut.

    What is written in between is lost. OSError if there is no room for the copy; it is
    cut all the same.
    """
    if not _is_larger(path, most):
        return
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    fd = os.open(path, flags)
    try:
        replace(f"{path}.1", tail_of(fd, 2 * most)[0], f"{path}.new")
    finally:
        os.ftruncate(fd, 0)
        os.close(fd)


def _is_larger(path: str, most: int) -> bool:
    try:
        return os.stat(path, follow_symlinks=False).st_size > most
    except FileNotFoundError:
        return False


def write_all(fd: int, data: bytes) -> None:
    """Write every byte; a short write goes on where it stopped."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_aside(path: str, data: bytes, *, sync: bool = False) -> None:
    """Make the new file `path` (not yet its final name) with these bytes.

    Closed before it returns: on NFS that is what sends the bytes to the server.
    A file that an interrupted call left there is removed first, not truncated: it
    may have got its final name already. Leaves nothing behind on error.
    """
    fd = _open_new(path)
    try:
        try:
            write_all(fd, data)
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)  # on NFS this may be what fails
    except BaseException:
        os.unlink(path)
        raise


def try_room(path: str) -> None:
    """OSError if the disk takes no new file of a few bytes now; leaves none."""
    write_aside(path, bytes(_LEAST_ROOM))
    os.unlink(path)


def _open_new(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, FILE_MODE)
    except FileExistsError:
        os.unlink(path)
        return os.open(path, flags, FILE_MODE)


def link_new(aside: str, final: str) -> bool:
    """Give `aside` the name `final`; False if that name is taken by another file.

    `aside` keeps its own name too; the caller unlinks it.
    """
    try:
        os.link(aside, final)
    except OSError:
        # RACE: an NFS server may do the link and lose the reply; the repeat then
        # fails although we won. Only the inode tells.
        if same_file(aside, final):
            return True
        if os.path.lexists(final):
            return False
        raise
    return True


def same_file(one: str, other: str) -> bool:
    """Whether two names belong to one inode; False if either is missing."""
    try:
        return os.path.samestat(os.lstat(one), os.lstat(other))
    except FileNotFoundError:
        return False


def replace(path: str, data: bytes, aside: str) -> None:
    """Put these bytes under `path` in one step, whatever lay there before.

    Leaves no `aside` behind on error.
    """
    write_aside(aside, data)
    try:
        os.replace(aside, path)
    except BaseException:
        unlink(aside)
        raise


def move(path: str, new: str) -> bool:
    """Rename, over whatever lay there; False if `path` was gone."""
    try:
        os.replace(path, new)
    except FileNotFoundError:
        return False
    return True


def unlink(path: str) -> bool:
    """Remove a file; False if it was not there, which is what was asked for."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def clear(path: str) -> None:
    """Remove whatever lies there, a folder with all that is in it, too."""
    try:
        unlink(path)
    except OSError:
        if not os.path.isdir(path):
            raise
        import shutil  # noqa: PLC0415 - hardly ever needed, and slow to import

        shutil.rmtree(path)


def has_settled(changed: int, *, network: bool = False) -> bool:
    """Whether all that changes from now on in a file or folder will show in its times.

    `changed` is the time it has now, in nanoseconds: a folder's mtime, a file's ctime
    (people may set its mtime). Whatever believes that something has not changed, because
    its time has not, must ask this when it looks.

    RACE: it may change again within one tick of the clock that its file system
    writes down, and nobody sees it by the time alone. The kernel's own stamps are of its
    coarse clock or later, so what comes after a tick of that is told apart, however
    long a busy host keeps the ticks of a virtual machine back. Servers have clocks of
    their own, and some file systems write less than that clock says (`grain_of`).
    """
    grain = LONGEST_TICK_NS if network else grain_of(changed)
    return time.clock_gettime_ns(_COARSE_CLOCK) > changed + grain


def grain_of(stamp: int) -> int:
    """The nanoseconds between two times that a file system writes, as far as one tells.

    Of a clock that goes in nanoseconds one stamp in ten thousand passes for a coarser
    one, and is believed so much later. 0 where the kernel's own tick is all there is.
    """
    if stamp % _SECOND_NS == 0:
        return LONGEST_TICK_NS
    return next((grain for grain in _GRAINS_NS if stamp % grain == 0), 0)


def identity(seen: os.stat_result) -> int:
    """One number for a file as it is: other bytes, or another file, have another.

    It is made of inode, size and the time of the last write, which are one on all hosts
    that share a folder. Another build of Python may number otherwise.
    """
    return hash((seen.st_ino, seen.st_size, seen.st_mtime_ns))


def identity_of(path: str) -> int:
    """The same of what lies under a path; 0 if nothing does, or we may not know."""
    try:
        return identity(os.lstat(path))
    except OSError:
        return 0


def is_old(entry: os.DirEntry[str], before: float) -> bool:
    """Whether this is a file that was last written before a time."""
    try:
        now = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False  # RACE: its maker, or another who sweeps, removes it just now
    return stat.S_ISREG(now.st_mode) and now.st_mtime < before


def make_folders(path: str, mode: int = SHOWN_MODE) -> None:
    """Make a folder, and those above it that are missing, with no more than `mode`.

    `os.makedirs` leaves those above to the umask, and with umask 0 everybody could
    write them.
    """
    try:
        os.mkdir(path, mode)
    except FileNotFoundError:
        make_folders(os.path.dirname(path), mode)
        make_folders(path, mode)
    except OSError:  # it is there, or the disk has another reason to refuse
        if not os.path.isdir(path):
            raise


@contextmanager
def opened_folder(path: str, flags: int = 0, above: int | None = None) -> Iterator[int]:
    """A descriptor of a folder, for calls with `dir_fd`: its path may change meanwhile."""
    fd = os.open(
        path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | flags, dir_fd=above
    )
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def own_folder(path: str, above: int, mode: int) -> Iterator[int]:
    """The last folder of `path`, in the open folder `above`, made if it is missing.

    Its descriptor. OSError if a symbolic link lies there: what we write would land
    somewhere else.
    """
    fd = _open_own(path, above, mode)
    try:
        yield fd
    finally:
        os.close(fd)


def _open_own(path: str, above: int, mode: int) -> int:
    name = os.path.basename(path)
    try:
        with suppress(FileExistsError):
            os.mkdir(name, mode, dir_fd=above)
        return os.open(name, _OWN_FOLDER, dir_fd=above)
    except OSError as error:
        if os.path.islink(path):
            raise OSError(errno.ELOOP, "this is a symbolic link", path) from None
        error.filename = path  # the kernel was only given its last part
        raise


def sync_folder(path: str) -> None:
    """Put a folder's names on the platter."""
    with opened_folder(path) as fd:
        os.fsync(fd)


def drop_stale_names(folder: str) -> None:
    """Make an NFS client forget which names are *missing* in this folder.

    A cached "no such name" is believed for up to a minute (missed 60 of 60 new
    files in the lab; after opening the folder 0 of 60).
    """
    try:
        with opened_folder(folder):
            return
    except FileNotFoundError:
        return  # no folder, so no names in it either
