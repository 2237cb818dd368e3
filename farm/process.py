"""Who a process is, and how to end exactly the one that was meant.

A process id is a number that repeats, and means nothing in another container
or on another host. So an owner is recorded as `Identity`: host, boot, process
id namespace, id and start ticks. Such a record can *veto* (that very process
is still here) and find somebody to signal; it is never proof of death.

Signals to processes that are not our children go through a pidfd that is
opened first and checked again after opening (`kill`), so that a number that is
reused in between is never hit.

Linux only: it reads /proc. Where /proc belongs to another namespace
(`proc_is_ours()` is False) nothing here finds or vetoes anything.
"""

import os
import re
import select
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

import msgspec

from farm import disk

# Gone, or another user's: not ours to end. Any other error (no descriptors left,
# say) must not look like "nobody there".
_NOT_TO_BE_SEEN = (FileNotFoundError, ProcessLookupError, PermissionError)
_FEW_IDS = 1000  # to ask the kernel of each is quicker than to list all processes
_EXITING = 0x4  # PF_EXITING in include/linux/sched.h: runs no more user code

# RACE: a process that a thread of ours starts has all our descriptors, also the lock
# of the task that runs just now, until it has closed them. Whoever starts one beside
# the task holds this meanwhile, and so does whoever looks for the task's processes.
starting = threading.Lock()


class Identity(msgspec.Struct, frozen=True):
    """One process, for ever: the pair (pid, ticks) alone repeats after a reboot."""

    host: str  #: host name, for people
    boot: str  #: the kernel's boot id
    pidns: int  #: inode of the process id namespace
    pid: int
    ticks: int  #: start time in clock ticks since boot; /proc/PID/stat field 22


class Stat(msgspec.Struct, frozen=True):
    """What /proc/PID/stat says of a process that can still run code."""

    state: str  #: R runs, S sleeps, T is stopped, D cannot be interrupted
    parent: int
    group: int
    ticks: int
    cpu_ticks: int  #: user and system time, own and of reaped children


def stat(pid: int) -> Stat | None:
    """What a process is, or None if it is gone, a zombie or exiting."""
    if not proc_is_ours():
        return None  # the number is another process's there
    try:
        text = disk.read_file(f"/proc/{pid}/stat").decode(errors="replace")
    except _NOT_TO_BE_SEEN:
        return None
    # The name in parentheses may hold spaces and parentheses of its own.
    field = text.rsplit(")", 1)[1].split()
    if field[0] in "ZX" or int(field[6]) & _EXITING:
        return None
    used = sum(int(field[i]) for i in (11, 12, 13, 14))
    ticks = int(field[19]) - _shift()
    return Stat(field[0], int(field[1]), int(field[2]), ticks, used)


@lru_cache(maxsize=1)
def _shift() -> int:
    """Ticks by which our time namespace shifts the start of every process."""
    try:
        text = disk.read_file("/proc/self/timens_offsets").decode()
    except OSError:
        return 0  # a kernel without time namespaces
    found = re.search(r"^boottime +(-?\d+)", text, re.MULTILINE)
    return int(found[1]) * os.sysconf("SC_CLK_TCK") if found else 0


def ticks_now() -> int:
    """The start ticks of a process that starts at this moment."""
    nanoseconds = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return nanoseconds * os.sysconf("SC_CLK_TCK") // 1_000_000_000 - _shift()


@lru_cache(maxsize=1)
def _machine() -> tuple[str, str, int]:
    boot = disk.read_file("/proc/sys/kernel/random/boot_id").decode().strip()
    return os.uname().nodename, boot, os.stat("/proc/self/ns/pid").st_ino


def proc_is_ours() -> bool:
    """Whether /proc shows our own namespace (a container may lack its own)."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def identify() -> Identity:
    """The calling process."""
    host, boot, pidns = _machine()
    me = stat(os.getpid())
    return Identity(host, boot, pidns, os.getpid(), me.ticks if me else 0)


def has_our_numbers(identity: Identity) -> bool:
    """Whether its process id means the same to us as to whoever wrote it."""
    _, boot, pidns = _machine()
    return identity.boot == boot and identity.pidns == pidns


def is_here(identity: Identity) -> bool:
    """Whether, besides, we can look at that process."""
    return has_our_numbers(identity) and proc_is_ours()


def is_alive(identity: Identity) -> bool:
    """Whether that very process is seen running here. False proves nothing."""
    if not is_here(identity):
        return False
    now = stat(identity.pid)
    return now is not None and now.ticks == identity.ticks


def oom_kills() -> int:
    """How many processes the kernel has ended on this host for want of memory."""
    try:
        told = disk.read_file("/proc/vmstat")
    except OSError:
        return 0  # hidden from us: then nobody can know
    count = told.partition(b"\noom_kill ")[2].partition(b"\n")[0]
    return int(count or 0)


class Mark(msgspec.Struct, frozen=True):
    """What the processes of one attempt carry.

    Its commands have the token in their environment. What a callable forked has
    no environment of its own: it is known by the lock that it inherited, which
    the kernel lists under the process that took it. One that emptied its
    environment and closed what it inherited is known by its group, as long as the
    group's leader lives (after that the number may be another group's).
    """

    token: str
    lock: tuple[int, int, int] | None = None  #: device, inode, pid of the taker
    group: tuple[int, int] | None = None  #: process group, start ticks of its leader


def _has_token(pid: int, token: str) -> bool:
    try:
        environ = disk.read_file(f"/proc/{pid}/environ")
    except _NOT_TO_BE_SEEN:
        return False
    return f"FARM_TOKEN={token}".encode() in environ.split(b"\0")


def _holds_lock(pid: int, device: int, inode: int, taker: int) -> bool:
    # A dead taker is shown as 0 in a container, whose /proc cannot name it.
    taken = rb"^lock:.*FLOCK +ADVISORY +WRITE +(?:%d|0) " % taker
    return _shows_lock(pid, device, inode, re.compile(taken, re.MULTILINE))


def _shows_lock(pid: int, device: int, inode: int, taken: re.Pattern[bytes]) -> bool:
    """Whether a descriptor of a process is of this file, and locked like that."""
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                file = os.stat(f"/proc/{pid}/fd/{fd}")
                if (file.st_dev, file.st_ino) != (device, inode):
                    continue
                if taken.search(disk.read_file(f"/proc/{pid}/fdinfo/{fd}")):
                    return True
            except _NOT_TO_BE_SEEN:
                continue  # that descriptor was closed while we looked
    except _NOT_TO_BE_SEEN:
        return False
    return False


def lock_holders(path: str) -> list[int]:
    """Processes that can be seen to hold the lock of a file, ours left out."""
    try:
        file = os.stat(path)
    except OSError:
        return []  # no file, no lock
    anyone = re.compile(rb"^lock:.*FLOCK ", re.MULTILINE)
    place = (file.st_dev, file.st_ino)
    return list(find(lambda pid: _shows_lock(pid, *place, anyone)))


def command_line(pid: int) -> str:
    """What a process runs, for people; "" if that cannot be seen."""
    try:
        words = disk.read_file(f"/proc/{pid}/cmdline").split(b"\0")
    except OSError:
        return ""
    return b" ".join(words).decode(errors="replace").strip()


def carries(pid: int, mark: Mark) -> bool:
    """Whether a process belongs to the attempt that `mark` describes."""
    if _has_token(pid, mark.token):
        return True
    if mark.group is not None and _is_in_group(pid, *mark.group):
        return True
    return mark.lock is not None and _holds_lock(pid, *mark.lock)


def _is_in_group(pid: int, group: int, leader_ticks: int) -> bool:
    found, leader = stat(pid), stat(group)
    same_leader = leader is not None and leader.ticks == leader_ticks
    return same_leader and found is not None and found.group == group


def find(wanted: Callable[[int], bool]) -> Iterator[int]:
    """Ids of the living processes, other than ours, that `wanted` accepts."""
    me = os.getpid()
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != me and wanted(int(name)) and stat(int(name)):
            yield int(name)


def kill(pid: int, wanted: Callable[[int], bool]) -> int | None:
    """SIGKILL a process if it is still the wanted one; its pidfd, or None.

    RACE: the number may be reused between the look and the signal. The pidfd
    pins the process; only then do we look again, and signal through it.
    """
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None  # gone
    try:
        if wanted(pid):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            return fd
    except ProcessLookupError:
        pass  # it ended by itself: that is what we wanted
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def end_marked(mark: Mark, patience: float = 1.0) -> bool:
    """End every process of one attempt on this host; True when none is left.

    A process may fork while we look, so passes repeat until one finds nobody.
    Waits up to `patience` seconds for the killed to be gone; False means that
    somebody still runs (in an uninterruptible wait, say): look again later.
    """
    if not proc_is_ours():
        return True

    def wanted(pid: int) -> bool:
        return carries(pid, mark)

    until = time.monotonic() + patience
    while killed := _kill_all(wanted):
        try:
            for fd in killed:
                wait_gone(fd, until - time.monotonic())
        finally:
            for fd in killed:
                os.close(fd)
        if time.monotonic() > until:
            with starting:
                return not any(find(wanted))
    return True


def _kill_all(wanted: Callable[[int], bool]) -> list[int]:
    """Kill whoever is wanted; their pidfds. OSError if none could even be looked at."""
    killed: list[int] = []
    with starting:
        try:
            for pid in find(wanted):
                fd = kill(pid, wanted)
                if fd is not None:
                    killed.append(fd)
        except OSError:  # no descriptors are left, say: those killed give theirs back
            if not killed:
                raise
    return killed


def session_members(session: int, *, is_young: bool) -> list[int]:
    """Processes that run in a session, besides its leader, in whatever group.

    A young session is one so new that process ids have not gone round since it began. Its
    members have higher ids than its leader then, and to look at those few costs a quick
    command next to nothing.
    """
    ids = _ids_after(session) if is_young else None
    if ids is None:
        ids = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return [pid for pid in ids if pid != session and is_in_session(pid, session)]


def _ids_after(pid: int) -> Iterable[int] | None:
    """The process ids that were given away after this one; None if they are many."""
    last = int(disk.read_file("/proc/loadavg").rpartition(b" ")[2])
    return range(pid + 1, last + 1) if pid <= last <= pid + _FEW_IDS else None


def is_in_session(pid: int, session: int) -> bool:
    """Whether a process is one of a session, and can still run code."""
    return session_of(pid) == session and stat(pid) is not None


def session_of(pid: int) -> int | None:
    """The session of a process, which a zombie has as well; None if there is none."""
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return None


def wait_gone(pidfd: int, timeout: float) -> bool:
    """Whether the process behind a pidfd ended within `timeout` seconds."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(max(0.0, timeout) * 1000))
