"""Look at an attempt while it runs: how much it prints, whether it still does anything.

    guard = Guard(limits, logs, signs)
    verdict = guard.look(tick)        at each heartbeat -> None, or why it must end

What it prints stays within `max_output`: of more the middle is freed in place
(`farm.middle`). What shows no sign of work for `idle_timeout` is ended. Signs are a
matter of what runs (`Signs`): an agent's events, or whatever a command prints; what
computes is at work as well. Time in which nobody looked, because the whole machine
stood still, is not silence.
"""

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

import msgspec

from farm import disk, middle, process
from farm.config import LEAST_OUTPUT
from farm.process import Mark
from farm.result import Error
from farm.states import Why
from farm.words import duration, plain

IDLE = "idle"  #: the kind of the error of an attempt that was silent for too long
OUTPUT = "output"  #: the kind of the error of one that has printed too much
SHARE = 0.01  # of its time must be computed by what says nothing and is at work
QUIET = 60.0  #: seconds without a sign of work, after which people are told of it
_QUIET_SHARE = 4  # ... or this part of what it may be silent
_LAST_BYTES = 300  # of what was printed, to find its last line
_LONGEST_LAST = 120  # letters of what was said last
_CANNOT = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV, errno.EPERM)
_PART = 8  # who takes this part of a disk that is full has filled it
_PART_OF_OUTPUT = 16  # ... or, on a large one, this part of what it may print


class Limits(msgspec.Struct, frozen=True):
    """What an attempt may do."""

    most_output: int  #: bytes
    idle: float | None  #: seconds; None: as long as it likes
    heartbeat: float  #: seconds between two looks


class Verdict(msgspec.Struct, frozen=True):
    """An attempt must end."""

    why: Why
    error: Error


class Signs(Protocol):
    """Where signs of work are seen."""

    is_final: bool  #: whether the last one says that all has been done

    @property
    def last(self) -> str:
        """What was said last."""

    def seen(self) -> bool:
        """Whether there was one since the last time."""

    def computing(self) -> Callable[[], float] | None:
        """Processor seconds that count as work; None while they do not."""


class Quiet:
    """Since when the attempt that runs has shown no sign of work, for people."""

    def __init__(self) -> None:
        self.callable: object = None  #: the job of a callable that runs
        self.since = 0.0  #: POSIX seconds; 0.0 if it shows some
        self.last = ""  #: what it said then

    def note(self, guard: "Guard", now: float) -> None:
        """As it is after a look; `now` is POSIX seconds."""
        if not guard.is_quiet:
            self.over()
            return
        self.since = self.since or now - guard.silent
        self.last = guard.last

    def over(self) -> None:
        """It shows signs of work, or it has ended."""
        self.since, self.last = 0.0, ""


class Guard:
    """Looks at one attempt; see the module's docstring. `tick` is monotonic seconds."""

    def __init__(
        self, limits: Limits, logs: Sequence[int], signs: Signs, tick: float
    ) -> None:
        self._limits = limits
        self._logs = logs
        self._signs = signs
        self._looked = tick
        self.silent = 0.0  #: seconds without a sign of work
        self._computed: float | None = None  # when that was counted first
        self._asked = 0.0  # how long it was silent at the last count

    @property
    def last(self) -> str:
        """What it said last, on one line."""
        return plain(self._signs.last)[:_LONGEST_LAST]

    @property
    def is_quiet(self) -> bool:
        """Whether people should be told."""
        idle = self._limits.idle
        return self.silent >= (min(QUIET, idle / _QUIET_SHARE) if idle else QUIET)

    @property
    def is_final(self) -> bool:
        """Whether it has said that all has been done."""
        return self._signs.is_final

    def look(self, tick: float) -> Verdict | None:
        """Why it must end; None if it may go on."""
        return self._too_much() or self._too_quiet(tick)

    # -- what it prints ----------------------------------------------------------

    def _too_much(self) -> Verdict | None:
        most = self._limits.most_output
        try:
            middle.keep_within(self._logs, most)
        except OSError as error:
            if error.errno in _CANNOT:
                return Verdict(Why.FAILED, Error(OUTPUT, cannot_drop(most)))
            return None  # a full disk, say: it is tried again
        if is_flood(self._logs, most):
            size = sum(map(middle.taken, self._logs))
            return Verdict(Why.FAILED, filled(size))
        return None

    # -- whether it does anything --------------------------------------------------

    def _too_quiet(self, tick: float) -> Verdict | None:
        passed = min(tick - self._looked, 3 * self._limits.heartbeat)
        self._looked = tick
        self.silent = 0.0 if self._signs.seen() else self.silent + max(0.0, passed)
        idle = self._limits.idle
        if self.silent == 0.0 or not idle:
            self._computed = None
            return None
        if self._computes(idle):
            self.silent, self._computed = 0.0, None
        if self.silent < idle:
            return None
        last = f", last: {self.last}" if self.last else ""
        message = f"no sign of work for {duration(idle)}{last} (`idle_timeout`)"
        return Verdict(Why.TIMED_OUT, Error(IDLE, message))

    def _computes(self, idle: float) -> bool:
        """Whether it has used enough processor time since it fell silent.

        To count that takes a look at all processes, so it is not done at every look.
        """
        count = self._signs.computing()
        if count is None:
            self._computed = None
            return False
        if self._computed is None:
            self._computed, self._asked = count(), self.silent
            return False
        if self.silent < min(idle, self._asked + idle / 20):
            return False
        self._asked = self.silent
        return count() - self._computed >= SHARE * idle


def filled(size: int) -> Error:
    """What an attempt says that printed until the disk was full."""
    message = f"it filled the disk: it had printed {size} bytes when no room was left"
    return Error(OUTPUT, message)


def cannot_drop(most: int) -> str:
    """What an attempt says whose output cannot be bounded otherwise."""
    return (
        f"it printed more than `max_output` ({most} bytes), and this file system cannot"
        " drop the middle of a file: let it print less, or raise `max_output`"
    )


def is_flood(logs: Sequence[int], most: int) -> bool:
    """Whether the disk is full, and what this attempt printed has filled it."""
    there = os.fstatvfs(logs[0])
    free = there.f_bfree if os.geteuid() == 0 else there.f_bavail
    if not there.f_blocks or free * there.f_frsize >= middle.LITTLE:
        return False  # what lies in memory is on no disk
    size = sum(map(middle.taken, logs))
    return is_share(size, there.f_blocks * there.f_frsize, most)


def drained(paths: Sequence[str], most: int) -> int:
    """Free the middle of logs that have filled the disk; their size, 0 if they did not."""
    with suppress(FileNotFoundError), disk.opened_to_cut(paths) as logs:
        if logs and is_flood(logs, most):
            size = sum(map(middle.taken, logs))
            middle.cut_to(logs, LEAST_OUTPUT)
            return size
    return 0  # or somebody has taken logs away


def is_share(size: int, total: int, most: int) -> bool:
    """Whether so much output is what fills a disk of this size."""
    large = max(most // _PART_OF_OUTPUT, middle.LITTLE)
    return size >= max(middle.LITTLE, min(total // _PART, large))


class Computed:
    """Processor seconds of all that carry an attempt's token and began at a time or later.

    What has ended counts as well, if it was seen, or its parent has waited for it.
    """

    def __init__(self, token: str, since: int = 0) -> None:
        """`since` in ticks, as `process.ticks_now` tells them."""
        self._mark = Mark(token)
        self._since = since
        self._seen: dict[tuple[int, int], int] = {}
        self._ticks = 0

    def __call__(self) -> float:
        """Up to now."""
        for pid in process.find(self._counts):
            if (now := process.stat(pid)) is not None:
                before = self._seen.get((pid, now.ticks), 0)
                self._seen[pid, now.ticks] = now.cpu_ticks
                self._ticks += max(0, now.cpu_ticks - before)
        return self._ticks / os.sysconf("SC_CLK_TCK")

    def _counts(self, pid: int) -> bool:
        now = process.stat(pid)
        if now is None or now.ticks < self._since:
            return False
        return process.carries(pid, self._mark)


class Printed:
    """Signs of a command: whatever it prints, its progress, and that it computes."""

    is_final = False

    def __init__(
        self, logs: Sequence[int], progress: str, computed: Callable[[], float]
    ) -> None:
        self._logs = logs
        self._progress = progress
        self._computed = computed
        self._seen = self._look()

    @property
    def last(self) -> str:
        """The last line that it printed."""
        for fd in reversed(self._logs):
            tail, _ = disk.tail_of(fd, _LAST_BYTES)
            if lines := tail.decode(errors="replace").strip().splitlines():
                return lines[-1].strip()
        return ""

    def seen(self) -> bool:
        """Whether anything was written."""
        before, self._seen = self._seen, self._look()
        return before != self._seen

    def computing(self) -> Callable[[], float]:
        """All that it computes."""
        return self._computed

    def _look(self) -> tuple[int, ...]:
        try:
            progress = os.stat(self._progress).st_mtime_ns
        except OSError:
            progress = 0
        return (progress, *(os.fstat(fd).st_size for fd in self._logs))
