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

from farm import disk
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
_RACY_NS = 20_000_000  # a folder that changed so lately may change again unseen


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
        self._mtime_ns = -1
        self._settled = False  # the last change was seen by its mtime for sure

    def changed(self) -> bool:
        """Whether an order came or went since the last `read`: one system call.

        RACE: two changes in one tick of the clock have one mtime; so a folder that
        changed just before the last look is looked at once more.
        """
        return not self._settled or self.moved()

    def moved(self) -> bool:
        """Whether the folder is seen to have changed since the last `read`."""
        return self._mtime() != self._mtime_ns

    def read(self) -> Orders:
        """The orders in force."""
        self._mtime_ns = self._mtime()
        # A file server's clock may be ahead of ours, and for long.
        self._settled = abs(time.time_ns() - self._mtime_ns) > _RACY_NS
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

    RACE: somebody may give the next one meanwhile; so it is moved away before it is
    read, and what comes after the move is an order of its own.
    """
    aside = project.aside_path("order", os.urandom(8).hex())
    if not disk.move(f"{project.control}/{name}", aside):
        return None
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
    """Make every worker look anew: an order that says nothing, taken back at once."""
    name = f"look-{os.urandom(4).hex()}"
    give(project, name)
    withdraw(project, name)
