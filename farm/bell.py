"""Sleep until something happens.

A `Bell` is a pipe. Signal handlers, other threads and the kernel (through
`signal.set_wakeup_fd`) may ring it at any time; one thread waits on it, together
with descriptors of its own such as a child's pidfd. A ring before the wait is
not lost.
"""

import os
import select
from collections import Counter

LONGEST_WAIT = 86_400.0  # seconds; poll counts milliseconds in 32 bits


class Bell:
    """Wakes one waiting thread; may be rung from anywhere, also from signals."""

    def __init__(self) -> None:
        self.fd, self.write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        #: how often each signal has written its number (`signal.set_wakeup_fd`)
        self.signals: Counter[int] = Counter()

    def ring(self) -> None:
        """Wake the waiter, or the next one."""
        try:
            os.write(self.write, b"!")
        except BlockingIOError:
            return  # a full pipe wakes as well as a fuller one

    def wait(self, timeout: float | None, *fds: int) -> bool:
        """Until a ring, input on one of `fds` or `timeout` seconds; True if rung."""
        poll = select.poll()
        for fd in (self.fd, *fds):
            poll.register(fd, select.POLLIN)
        limit = None if timeout is None else min(max(0.0, timeout), LONGEST_WAIT) * 1000
        rung = self.fd in {fd for fd, _ in poll.poll(limit)}
        if rung:
            self.drain()
        return rung

    def close(self) -> None:
        """Give its pipe back; nobody may ring it any more."""
        os.close(self.fd)
        os.close(self.write)

    def drain(self) -> None:
        """Forget all rings; for who waits on `fd` by other means."""
        try:
            while rings := os.read(self.fd, 4096):
                self.signals.update(rings)
        except BlockingIOError:
            return  # empty: the purpose
