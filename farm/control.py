"""Control by files in `.farm/control/`, so that it works over a mount.

    pause            nothing new starts            until the file is removed
    pause-<glob>     nothing that matches          (`/` is written %2F in the name)
    drain            every worker finishes what it runs and ends
    scale-<host>     that host's supervisor keeps so many workers from now on
    cancel-<id>      that task is cancelled: the attempt whose token the file holds,
                     or, if it is empty, whatever runs or is ready

Whoever acts on an order removes it; a pause acts for as long as it lies there, and
a drain is removed by the supervisor, or the verb, that saw all workers end. A file is
written aside and renamed (`give`), so nobody reads half an order.

Workers look whenever they look for tasks, and at each beat of their hearts. A file
that holds no order is nobody's business and stays.
"""

import os
import re
import time

import msgspec

from farm import disk, poll
from farm.errors import UsageError
from farm.pattern import matches
from farm.project import Project, key

ALL = "pause"
_SOME, _SCALE, _CANCEL = "pause-", "scale-", "cancel-"
DRAIN = "drain"
MOST_WORKERS = 9_999  #: that one supervisor can be told to keep
_ESCAPED = re.compile("(?:%[0-9A-Fa-f]{2})+")
_COUNT = re.compile("[0-9]{1,4}")
_LONGEST_NAME = 255  # bytes
_NUDGE = 2.5  # seconds, in which the clock of any file system ticks


class Orders(msgspec.Struct, frozen=True):
    """What the control files say now; globs are by the names of their files."""

    paused: bool = False
    globs: dict[str, str] = {}
    drain: bool = False
    scale: dict[str, int] = {}  #: host -> number of workers
    cancels: dict[str, str] = {}  #: file name -> token, "" for any

    def holds(self, task_id: str) -> str | None:
        """The control file that pauses this task, or None."""
        if self.paused:
            return ALL
        for name, glob in self.globs.items():
            if glob == task_id or matches(glob, task_id):
                return name
        return None

    def cancels_run(self, task_id: str, token: str) -> bool:
        """Whether this attempt of a task is to be ended."""
        return bool(self.cancels) and self.cancels.get(cancel_name(task_id)) in (
            "",
            token,
        )

    def cancels_ready(self, task_id: str) -> bool:
        """Whether a task that nobody runs is not to run."""
        return bool(self.cancels) and self.cancels.get(cancel_name(task_id)) == ""


class Control:
    """The orders of one project, read again when its folder changed."""

    def __init__(self, project: Project) -> None:
        self._folder = project.control
        self._network = project.network
        self._orders = Orders()  # as of the last `read`
        self._mtime_ns = -1
        self._since = 0  # when we first saw that time, by our own clock
        self._settled = False  # a change after the last look shows in the time

    def changed(self) -> bool:
        """Whether an order came or went since the last `read`: one system call.

        RACE: two changes in one tick of the file system's clock have one time; so the
        orders themselves are compared until that clock has ticked.
        """
        if self._settled or self.moved():
            return self.moved()
        settled = self._has_settled()
        if self._now() != self._orders:
            return True
        self._settled = settled
        return False

    def moved(self) -> bool:
        """Whether the folder is seen to have changed since the last `read`."""
        return self._mtime() != self._mtime_ns

    def read(self) -> Orders:
        """The orders in force."""
        mtime = self._mtime()
        if mtime != self._mtime_ns:
            self._mtime_ns, self._since = mtime, time.monotonic_ns()
        self._settled = self._has_settled()
        self._orders = self._now()
        return self._orders

    def _has_settled(self) -> bool:
        # A file server's clock may be ahead of ours, or behind, and for long.
        if not self._network and disk.has_settled(self._mtime_ns):
            return True
        return time.monotonic_ns() - self._since > disk.LONGEST_TICK_NS

    def _now(self) -> Orders:
        try:
            names = sorted(os.listdir(self._folder))
        except FileNotFoundError:
            return Orders()  # no folder, no orders
        if not names:
            return Orders()  # the usual case
        return Orders(
            paused=ALL in names,
            globs={n: _unquoted(n.removeprefix(_SOME)) for n in _begin(names, _SOME)},
            drain=DRAIN in names,
            scale=self._scale(names),
            cancels={n: self._text(n) for n in _begin(names, _CANCEL)},
        )

    def _scale(self, names: list[str]) -> dict[str, int]:
        said = {n.removeprefix(_SCALE): self._text(n) for n in _begin(names, _SCALE)}
        counts = {host: worker_count(text) for host, text in said.items()}
        return {host: count for host, count in counts.items() if count is not None}

    def _text(self, name: str) -> str:
        said = _says(f"{self._folder}/{name}")
        return "unreadable" if said is None else said

    def _mtime(self) -> int:
        try:
            return os.stat(self._folder).st_mtime_ns
        except FileNotFoundError:
            return 0


def worker_count(text: str | None) -> int | None:
    """What a `scale-<host>` file asks for; None if that is no such number."""
    return int(text) if text is not None and _COUNT.fullmatch(text) else None


def _says(path: str) -> str | None:
    """What an order says; None if it was taken back in this moment, or is no file."""
    try:
        return disk.read_file(path, disk.SMALL).decode(errors="replace").strip()
    except OSError:
        return None


def _unquoted(text: str) -> str:
    """Like `urllib.parse.unquote`, the import of which takes 2 ms."""
    return _ESCAPED.sub(
        lambda found: bytes.fromhex(found[0].replace("%", "")).decode(errors="replace"),
        text,
    )


def _begin(names: list[str], prefix: str) -> list[str]:
    return [name for name in names if name.startswith(prefix)]


# -- giving orders -----------------------------------------------------------------


def cancel_name(task_id: str) -> str:
    """The file that cancels a task."""
    return f"{_CANCEL}{key(task_id)}"


def cancelled_id(name: str) -> str | None:
    """The task that such a file cancels; None if its id was too long for a name."""
    task_id = _unquoted(name.removeprefix(_CANCEL))
    return task_id if cancel_name(task_id) == name else None


def scale_name(host: str) -> str:
    """The file that tells a host's supervisor how many workers to keep."""
    return f"{_SCALE}{host}"


def pause_name(glob: str | None) -> str:
    """The file that pauses what a glob, or an id, means; None means everything.

    UsageError for a glob that is too long for a file's name.
    """
    if glob is None:
        return ALL
    name = _SOME + glob.replace("%", "%25").replace("/", "%2F")
    if len(name.encode()) > _LONGEST_NAME:
        raise UsageError(f"{glob} is too long for the name of a file: shorten it")
    return name


def give(project: Project, name: str, text: str = "") -> None:
    """Give an order in one step; OSError if the disk does not take it.

    One that says the same already is left as it is: whoever looks need not look again.
    """
    path = f"{project.control}/{name}"
    if _says(path) == text:
        return
    aside = project.aside_path("order", os.urandom(8).hex())
    disk.replace(path, text.encode(), aside)


def take(project: Project, name: str) -> str | None:
    """Take an order away to obey it: what it says, or None if it is gone.

    RACE: the next one may be given meanwhile; so it is moved away before it is read, and
    what comes after the move is an order of its own. A power cut must not bring back what
    was obeyed: the next supervisor would obey it, too.
    """
    aside = project.aside_path("order", os.urandom(8).hex())
    if not disk.move(f"{project.control}/{name}", aside):
        return None
    disk.sync_folder(project.control)
    said = _says(aside)
    disk.unlink(aside)
    return said


def withdraw(project: Project, name: str) -> bool:
    """Take an order back, or away because it was obeyed; False if there was none."""
    try:
        return disk.unlink(f"{project.control}/{name}")
    except IsADirectoryError:
        return False  # somebody's folder, and no order


def nudge(project: Project) -> None:
    """Make every worker look anew: an order that says nothing, taken back at once.

    RACE: where times are whole seconds the folder may have the same time afterwards as
    when a worker read it; so this is done until it has another.
    """
    before = os.stat(project.control).st_mtime_ns
    poll.until(lambda: _touch(project) != before or None, _NUDGE)


def _touch(project: Project) -> int:
    """Let an order come and go; the time that the folder has then."""
    name = f"look-{os.urandom(4).hex()}"
    give(project, name)
    withdraw(project, name)
    return os.stat(project.control).st_mtime_ns
