"""Carry what a command prints into its logs, without the secrets that it was given.

    with Pump([out_fd, err_fd], redactor) as pump:
        ...start a command that writes to pump.ends, wait for it, end it...

Only for commands that were given a secret: all others write into their logs
themselves. A thread reads; at the end of the `with`, when nothing of the command runs
any more, what is in the pipes by then is carried as well, and the pipes are closed. So
a daemon that the command left behind is not waited for, and can print no more. A log
that the disk refuses is not written on, but its pipe is read all the same, that the
command goes on as it would; the error is raised at the end.
"""

import array
import errno
import fcntl
import os
import select
import termios
import threading
from typing import Self

from farm import disk
from farm.redact import Redactor

_CHUNK = 1 << 16  # bytes; a pipe holds as many


class _Line:
    """One pipe and the log that it ends in."""

    def __init__(self, log: int, redactor: Redactor) -> None:
        self.source, self.end = os.pipe2(os.O_CLOEXEC)
        self._log = log
        self._stream = redactor.stream()
        self.error: OSError | None = None

    def carry(self, size: int) -> int:
        """Read up to so many bytes and pass them on; how many there were."""
        chunk = os.read(self.source, size)
        self._write(self._stream.feed(chunk))
        return len(chunk)

    def finish(self) -> None:
        """Carry what is there now, and no more: somebody may write for ever."""
        waiting = array.array("i", [0])
        fcntl.ioctl(self.source, termios.FIONREAD, waiting)
        left = waiting[0]
        while left > 0:
            left -= self.carry(min(left, _CHUNK))
        self._write(self._stream.close())

    def _write(self, data: bytes) -> None:
        if self.error is not None:
            return
        try:
            disk.write_all(self._log, data)
        except OSError as error:
            self.error = error


class Pump:
    """See the module's docstring."""

    def __init__(self, logs: list[int], redactor: Redactor) -> None:
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._lines: list[_Line] = []
        try:
            self._lines += (_Line(log, redactor) for log in logs)
        except OSError:
            self._close()
            raise
        self._thread = threading.Thread(target=self._carry, name="farm-pump")

    @property
    def ends(self) -> list[int]:
        """What the command is to write to, in the order of the logs."""
        return [line.end for line in self._lines]

    def __enter__(self) -> Self:
        try:
            self._thread.start()
        except RuntimeError as error:
            self._close()
            raise OSError(errno.EAGAIN, str(error)) from error
        return self

    def __exit__(self, *_error: object) -> None:
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        try:
            for line in self._lines:
                line.finish()
        finally:
            self._close()
        for line in self._lines:
            if line.error is not None:
                raise line.error

    def _carry(self) -> None:
        """In its own thread. Our own writing ends stay open, so no pipe ever ends."""
        poll = select.poll()
        for fd in (self._stop, *(line.source for line in self._lines)):
            poll.register(fd, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if self._stop in ready:
                return
            for line in self._lines:
                if line.source in ready:
                    line.carry(_CHUNK)

    def _close(self) -> None:
        for line in self._lines:
            os.close(line.source)
            os.close(line.end)
        os.close(self._stop)
