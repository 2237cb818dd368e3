"""What callables print: descriptors 1 and 2 of a worker, pointed at files.

What they read is nothing: descriptor 0 points at /dev/null, and what the worker was
started with is left to its shell.

A callable runs in the worker itself, so its output is caught at the level of
descriptors (what C code and child processes print is caught, too). Both point at
scratch files in `.farm/tmp` for the worker's whole life; after a task that
printed nothing they cost two `fstat`. What was printed is renamed to the
attempt's log. The worker's own messages go to the stderr it was started with.

If the worker dies, the scratch files keep its name, and whoever settles its open
attempt moves them to that attempt's logs (`inherit`).
"""

import errno
import faulthandler
import fcntl
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from farm import disk, middle
from farm.config import LEAST_OUTPUT
from farm.errors import FULL
from farm.project import Project

if TYPE_CHECKING:
    from farm.redact import Redactor

CANCELLED_IN = "cancelled in "  #: then a token: first line of stacks left by a cancel
ENDED_IN = "ended in "  #: then a token, a reason and a sentence: the same for others
_SUFFIXES = {1: "out", 2: "err"}
_NAMES = {1: "stdout", 2: "stderr"}
_HIDDEN = ".secret"  # of files that earlier versions left
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


class Capture:
    """Redirects this process's stdout and stderr from `begin` to `end`."""

    def __init__(self, project: Project, worker: str) -> None:
        self._paths = {
            fd: project.aside_path(worker, suffix) for fd, suffix in _SUFFIXES.items()
        }
        self._stacks_path = project.aside_path(worker, "stacks")
        self._saved: dict[int, int] = {}
        self._hidden: dict[int, int] = {}  # where it goes instead, in memory
        self._streams: dict[int, TextIO] = {1: sys.stdout, 2: sys.stderr}
        self._stdin = sys.stdin
        self._nothing = -1  # a descriptor of /dev/null
        self.stacks = -1  #: descriptor for the watchdog's last words

    def begin(self) -> None:
        """Point both descriptors at the scratch files."""
        for fd in _SUFFIXES:
            self._streams[fd].flush()
            self._saved[fd] = os.dup(fd)  # not inherited by children
            self._point(fd)
        self._saved[0] = os.dup(0)
        self._read_nothing()
        self.stacks = os.open(self._stacks_path, _FLAGS, disk.FILE_MODE)

    def hide(self) -> None:
        """Until the next `take`, what is printed may hold a secret: it is on no disk.

        It lies in memory, where it ends with us. A pipe would need a thread that
        reads, and C code that prints may let no thread run.
        """
        for fd in _SUFFIXES:
            self._hidden[fd] = os.memfd_create("farm-output", os.MFD_CLOEXEC)
            fcntl.fcntl(self._hidden[fd], fcntl.F_SETFL, os.O_APPEND)
            self._point(fd)

    def _show(self) -> None:
        while self._hidden:
            fd, hidden = self._hidden.popitem()
            os.close(hidden)
            self._point(fd)

    @contextmanager
    def opened(self) -> Iterator[list[int]]:
        """Descriptors of what was printed so far: stdout, stderr.

        Not 1 and 2: a callable may have pointed its stdout at a file of its own.
        """
        if self._hidden:
            fds = [os.dup(self._hidden[fd]) for fd in _SUFFIXES]
            try:
                yield fds
            finally:
                for fd in fds:
                    os.close(fd)
            return
        with disk.opened_to_cut(self._paths.values()) as logs:
            yield logs

    def leave_stacks(self, headline: str) -> None:
        """Write down, before we end, which attempt it was, and where all threads are."""
        os.write(self.stacks, f"{headline}\n".encode())
        faulthandler.dump_traceback(file=self.stacks)

    def _point(self, fd: int) -> None:
        if fd in self._hidden:
            os.dup2(self._hidden[fd], fd, inheritable=True)
            return
        scratch = os.open(self._paths[fd], _FLAGS, disk.FILE_MODE)
        os.dup2(scratch, fd, inheritable=True)
        os.close(scratch)

    def _read_nothing(self) -> None:
        """Whatever a callable did to stdin, the next one finds it empty."""
        try:
            os.dup2(self._nothing, 0)
        except OSError:  # not opened yet, or a task closed what is not its own
            self._nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            os.dup2(self._nothing, 0)
        if self._stdin.closed:
            self._stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - stays
        sys.stdin = self._stdin

    def take(
        self,
        log: Callable[[str], str],
        most: int,
        redactor: "Redactor | None" = None,
    ) -> dict[int, str]:
        """Move what was printed to `log("out")`, `log("err")`; the paths by descriptor.

        Of more than `most` bytes the middle is freed, and on a disk that it has filled
        nearly all of it: then others go on.
        None for one to which nothing was printed. Secrets are taken out on the way.
        OSError if the disk does not take it. It is dropped then, for it must not
        look as if the next task had printed it.
        """
        taken = {}
        try:
            self._read_nothing()
            sizes = {fd: self._mend_in_room(fd) for fd in _SUFFIXES}
            if sum(sizes.values()) > most:
                self._cut_to(most)
            for fd, suffix in _SUFFIXES.items():
                if sizes[fd] > 0:
                    taken[fd] = log(suffix)
                    self._move(fd, taken[fd], redactor)
        except OSError:
            self._drop()
            raise
        finally:
            self._show()
        return taken

    def _move(self, fd: int, path: str, redactor: "Redactor | None") -> None:
        """Give what was printed its name, and go on with a new scratch file.

        The new one is made first: if the disk has no inode left for it, nothing has
        changed.
        """
        if fd in self._hidden and redactor is not None:
            clean_copy(self._hidden[fd], path, f"{self._paths[fd]}.clean", redactor)
            return
        fresh = f"{self._paths[fd]}.new"
        scratch = os.open(fresh, _FLAGS, disk.FILE_MODE)
        try:
            os.replace(self._paths[fd], path)
            os.replace(fresh, self._paths[fd])
            os.dup2(scratch, fd, inheritable=True)
        except OSError:
            disk.unlink(fresh)
            raise
        finally:
            os.close(scratch)

    def _drop(self) -> None:
        """Forget what was printed, also what a stream could not write yet."""
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for fd in _SUFFIXES:
                os.dup2(null, fd, inheritable=True)
                self._streams[fd].flush()
                self._point(fd)  # anew: the old file may be called a log by now
                os.ftruncate(fd, 0)
        finally:
            os.close(null)

    def _mend_in_room(self, fd: int) -> int:
        """The same, also where it has filled the disk itself."""
        try:
            return self._mend(fd)
        except OSError as error:
            if error.errno not in FULL or not self._cut_to(LEAST_OUTPUT):
                raise
        return self._mend(fd)

    def _cut_to(self, most: int) -> bool:
        """Free the middle of what was printed; whether there was so much."""
        with self.opened() as logs:
            too_much = sum(map(middle.taken, logs)) > most
            if too_much:
                middle.cut_to(logs, most)
        return too_much

    def _mend(self, fd: int) -> int:
        """Flush a stream, which a callable may have replaced or closed; its bytes."""
        if self._streams[fd].closed:
            self._streams[fd] = _stream(fd)
        setattr(sys, _NAMES[fd], self._streams[fd])
        try:
            self._streams[fd].flush()
            now = os.fstat(fd)
            if stat.S_ISREG(now.st_mode):
                return now.st_size
        except OSError as error:
            if error.errno != errno.EBADF:
                raise  # a full disk, say
        # It closed the descriptor itself, or there was no room the last time.
        self._point(fd)
        return os.fstat(fd).st_size

    def say(self, text: str) -> None:
        """A line to the stderr that the worker was started with."""
        try:
            disk.write_all(self._saved.get(2, 2), f"{text}\n".encode())
        except OSError:
            return  # nobody listens any more; that must not end the work

    def end(self) -> None:
        """Point both descriptors where they pointed before."""
        for fd, saved in self._saved.items():
            with suppress(OSError):  # a task may have closed every descriptor
                if fd in _SUFFIXES:
                    self._mend(fd)
                os.dup2(saved, fd)
                os.close(saved)
        for path in self._paths.values():
            disk.unlink(path)
        self._saved = {}
        if self.stacks >= 0:
            with suppress(OSError):
                os.close(self.stacks)
            disk.unlink(self._stacks_path)
            self.stacks = -1


def clean_copy(raw: int, path: str, aside: str, redactor: "Redactor") -> None:
    """Put under `path` what is in the open file `raw`, without secrets."""
    stream = redactor.stream()
    try:
        disk.unlink(aside)
        copy = os.open(aside, _FLAGS | os.O_EXCL, disk.FILE_MODE)
        try:
            for piece in middle.pieces(raw):
                if isinstance(piece, int):  # the same is left out of the copy
                    disk.write_all(copy, stream.close())
                    os.ftruncate(copy, os.fstat(copy).st_size + piece)
                else:
                    disk.write_all(copy, stream.feed(piece))
            disk.write_all(copy, stream.close())
        finally:
            os.close(copy)
        os.replace(aside, path)
    except OSError:
        disk.unlink(aside)
        raise


def _stream(fd: int) -> TextIO:
    return open(fd, "w", encoding="utf-8", errors="backslashreplace", closefd=False)


def inherit(project: Project, dead: str, task_id: str, attempt: int) -> dict[int, str]:
    """Move what a dead worker's callable had printed to its attempt's logs.

    Returns the logs that hold something, by descriptor number.
    """
    moved = {}
    for fd, suffix in _SUFFIXES.items():
        path = project.aside_path(dead, suffix)
        disk.unlink(f"{path}{_HIDDEN}")
        log = project.log_path(task_id, attempt, suffix)
        if _size(path) and not _size(log):
            with suppress(IsADirectoryError):  # somebody's folder has the log's name
                os.replace(path, log)
        if _size(log):  # a command writes there by itself
            moved[fd] = log
    return moved


def _size(path: str) -> int:
    try:
        seen = os.lstat(path)
    except FileNotFoundError:
        return 0
    return seen.st_size if stat.S_ISREG(seen.st_mode) else 0
