"""Files whose middle is freed while they grow: what is printed without an end has room.

    keep_within(fds, most)     free the middle of files that take more than `most` bytes
    pieces(fd, start)          what is in such a file: bytes, and how many are left out

A command appends to its log without anything in between, so nothing else can bound it.
The kernel frees a part of a file in place (FALLOC_FL_PUNCH_HOLE): its size and all that
lies behind stay as they are, and whoever appends notices nothing. Where a file system
cannot do that, or does not tell where it has done so, `keep_within` raises OSError.
"""

import errno
import os
from collections.abc import Iterator, Sequence

LITTLE = 1 << 20  #: bytes; a disk with less room than this is full
_KEEP_SIZE, _PUNCH_HOLE = 0x01, 0x02  # of fallocate(2)
_CHUNK = 1 << 16  # bytes read at once
_PAGE = 4096  # bytes; no file system frees less
_MOST_BLOCK = 4 << 20  # bytes


def taken(fd: int) -> int:
    """How much of the disk an open file takes."""
    return os.fstat(fd).st_blocks * 512


def keep_within(fds: Sequence[int], most: int) -> None:
    """Let these files together take no more than `most` bytes; both their ends stay.

    OSError where that cannot be done.
    """
    sizes = [taken(fd) for fd in fds]
    total = sum(sizes)
    if total <= most:
        return
    for fd, size in zip(fds, sizes, strict=True):
        _free_middle(fd, max(most // len(fds), most - (total - size)))


def cut_to(fds: Sequence[int], most: int) -> None:
    """The same when nothing writes any more; where it cannot be done, ends are cut off."""
    try:
        keep_within(fds, most)
    except OSError:
        for fd in fds:
            if taken(fd) > most:
                os.ftruncate(fd, most)


def _free_middle(fd: int, most: int) -> None:
    now = os.fstat(fd)
    block = min(max(_PAGE, now.st_blksize), _MOST_BLOCK)  # a part of one is not freed
    begin = most // 2 // block * block
    end = (now.st_size - most // 2) // block * block
    if end <= begin:
        return
    _punch(fd, begin, end - begin)
    # Who only appends has no use for the offset that this moves.
    if os.lseek(fd, begin, os.SEEK_HOLE) >= end:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


def _punch(fd: int, begin: int, size: int) -> None:
    import ctypes  # noqa: PLC0415 - few tasks print so much

    fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    mode = _PUNCH_HOLE | _KEEP_SIZE
    places: tuple[ctypes.c_int64, ...] = (ctypes.c_int64(begin), ctypes.c_int64(size))
    if fallocate(fd, mode, *places) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


# -- reading -------------------------------------------------------------------------


def pieces(fd: int, start: int = 0) -> Iterator[bytes | int]:
    """What an open file holds from here on: its bytes, and the sizes of what was freed.

    RACE: a part may be freed between two looks at it; what is read then is nothing but
    NUL, so such bytes are believed only if they still lie there afterwards.
    """
    at = start
    while True:
        at, left_out = _next_data(fd, at)
        if left_out:
            yield left_out
        chunk = os.pread(fd, _CHUNK, at)
        if not chunk:
            return
        if b"\0" in chunk:
            chunk = chunk[: _data_end(fd, at) - at]
        if chunk:
            at += len(chunk)
            yield chunk


class Lines:
    """The lines of a file that grows; one that was cut by what was freed is passed over.

    So is one of more than `longest` bytes.
    """

    def __init__(self, fd: int, longest: int) -> None:
        self._fd = fd
        self._longest = longest
        self._at = 0  # bytes of the file that were read
        self._begun: list[bytes] = []  # of the line that has not ended
        self._size = 0  # of these
        self._whole = True  # whether that is all of it so far

    def new(self) -> Iterator[bytes]:
        """Those that have ended since the last time, without their ends."""
        for piece in pieces(self._fd, self._at):
            if isinstance(piece, int):
                self._at += piece
                self._begin(b"", whole=False)
                continue
            self._at += len(piece)
            first, *others = piece.split(b"\n")
            self._go_on(first)
            for line in others:
                if self._whole:
                    yield b"".join(self._begun)
                self._begin(line, whole=len(line) <= self._longest)

    def rest(self) -> Iterator[bytes]:
        """The one that has not ended, if no more will come."""
        if self._whole and self._size:
            yield b"".join(self._begun)

    def _go_on(self, part: bytes) -> None:
        if not self._whole:
            return
        self._size += len(part)
        if self._size > self._longest:
            self._begin(b"", whole=False)
        else:
            self._begun.append(part)

    def _begin(self, part: bytes, *, whole: bool) -> None:
        self._begun, self._size, self._whole = [part], len(part), whole


def lines(fd: int, longest: int) -> Iterator[bytes]:
    """All lines of a file to which nothing is added."""
    every = Lines(fd, longest)
    yield from every.new()
    yield from every.rest()


def _next_data(fd: int, at: int) -> tuple[int, int]:
    """Where data begins from here on, and how much was freed before.

    RACE: the file may grow between two calls. So its size is asked for first: what comes
    after that is new data, not a part that was freed.
    """
    size = os.fstat(fd).st_size
    try:
        begin = os.lseek(fd, at, os.SEEK_DATA)
    except OSError as error:
        if error.errno not in _NO_HOLES:
            raise
        # At the end, or behind it; or there is nothing but what was freed.
        begin = max(at, size) if error.errno == errno.ENXIO else at
    return begin, begin - at


def _data_end(fd: int, at: int) -> int:
    """Where the next part begins that was freed, or the file's end."""
    try:
        return os.lseek(fd, at, os.SEEK_HOLE)
    except OSError as error:
        if error.errno not in _NO_HOLES:
            raise
        return at if error.errno == errno.ENXIO else os.fstat(fd).st_size


_NO_HOLES = (errno.ENXIO, errno.EINVAL, errno.EOPNOTSUPP, errno.ESPIPE, errno.ENOSYS)


def left_out(fd: int) -> int:
    """How many bytes of an open file were freed; reads nothing."""
    at, size, found = 0, os.fstat(fd).st_size, 0
    while at < size:
        begin, freed = _next_data(fd, at)
        found += freed
        at = _data_end(fd, begin) if begin < size else size
    return found


def last_part(fd: int, size: int, start: int = 0) -> int:
    """Where the part begins that follows the last one that was freed from `start` on.

    `start` if none was.
    """
    begin = start
    while begin < size:
        hole = _data_end(fd, begin)
        if hole >= size:
            break
        begin, _ = _next_data(fd, hole)
    return begin
