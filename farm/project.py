"""The folder of a project: the only place that knows file names.

`Project.open(root)` makes what is missing; then paths are asked for by task id
or worker name, task files are read (`read_task`), and `Listing` says which ids
there are. An id is the path below `tasks/` without `.json`; in the names of
farm's own files `%` is written %25 and `/` %2F, and a name that would grow
longer than the file system allows ends in a hash.

What a reader may assume: ids that a `Listing` yields are UTF-8 and name files
inside `tasks/`; names that can never be tasks (other characters, too long for a
result) are kept apart, each with a sentence. Folders that are symbolic links
are not followed, and a task file that is one must stay inside the project.

What other users could write is refused unless the setting `trust` says otherwise
(`check_trust` for the folders, `read_task` for a file; see `farm.trust`).
"""

import errno
import hashlib
import os
import stat
from functools import cached_property

import msgspec

from farm import disk, trust
from farm.config import load_settings
from farm.errors import (
    ConfigError,
    FolderError,
    NoProjectError,
    TaskFileError,
    UsageError,
)
from farm.mount import is_network
from farm.task import check_id

TASK, RESULT = ".json", ".result.json"
CHECK = ".farm-check-"  # beginning of names that a trial of the mount makes in tasks/
MOVED = "archived"  # beginning of names in .farm/tmp that may hold a person's only copy
UNDER_WAY = (".moving", ".restoring")  # ends of names in archive/ that begin with a dot
MAX_TASK_BYTES = 50 * 1024 * 1024
_LONGEST = 200  # bytes of an id in a file name; leaves room for prefix and suffix


def key(task_id: str) -> str:
    """A task's id as part of one file name."""
    name = task_id.replace("%", "%25").replace("/", "%2F")
    raw = name.encode()
    if len(raw) <= _LONGEST:
        return name
    digest = hashlib.sha256(raw).hexdigest()[:32]
    return f"{raw[: _LONGEST - 33].decode(errors='ignore')}-{digest}"


def _utf8(root: str) -> str:
    """A project's path; JSON, in which tasks are told of it, takes no other letters."""
    try:
        root.encode()
    except UnicodeEncodeError:
        said = os.fsencode(root).decode(errors="backslashreplace")
        raise UsageError(
            f"{said}: this path is not UTF-8: rename that folder, or name the project"
            " by a symbolic link whose path is UTF-8"
        ) from None
    return root


Signature = tuple[int, ...]  # of a file: device, inode, size, mtime, ctime


class TaskBytes(msgspec.Struct, frozen=True):
    """The bytes of a task file, and by what a later look knows them again."""

    raw: bytes
    sha256: str
    signature: Signature
    settled: bool  #: whether a change after this was read shows in the signature


class Project:
    """Paths of one project folder. Making one touches nothing; see `open`.

    UsageError for a path that is not UTF-8.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = _utf8(os.path.abspath(root))
        self.tasks = f"{self.root}/tasks"
        self.farm = f"{self.root}/.farm"
        self.settings = f"{self.root}/farm.toml"
        self.locks = f"{self.farm}/locks"
        self.logs = f"{self.farm}/logs"
        self.workers = f"{self.farm}/workers"
        self.journal = f"{self.farm}/journal"
        self.compacted = f"{self.farm}/journal.jsonl"
        self.journal_lock = f"{self.farm}/journal.lock"
        self.tmp = f"{self.farm}/tmp"  # noqa: S108 - inside the project
        self.control = f"{self.farm}/control"
        self.credentials = f"{self.farm}/credentials"
        self.archive = f"{self.root}/archive"
        self.archived = f"{self.farm}/archived"
        self.archive_lock = f"{self.farm}/archive.lock"
        self.network = is_network(self.root)

    @classmethod
    def open(cls, root: str | os.PathLike[str]) -> "Project":
        """The project at `root`, with every folder that farm needs.

        FolderError if one of them cannot be made, UsageError if `.farm/` is another
        user's or `tasks/` lies elsewhere.
        """
        project = cls(root)
        try:
            trust.check_owner(project.farm)  # before anything is made
            project.make_folders()
        except OSError as error:
            raise FolderError(error) from error
        project.check_inside()
        return project

    def check_inside(self) -> None:
        """Raise UsageError if `tasks/` is a symbolic link out of the project."""
        real = os.path.realpath(self.tasks)
        if not real.startswith(f"{os.path.realpath(self.root)}/"):
            raise UsageError(
                f"{self.tasks} is a symbolic link to {real}, outside the project: make"
                " it a real folder, or name the project that is meant"
            )

    def check_trust(self) -> list[str]:
        """Check whose project it is before anything of it runs: warnings, or UsageError.

        See `trust.check_trust`. A project that its user trusts is not looked at.
        """
        if self.trusts_others:
            return []
        return trust.check_trust(self.root, self.settings, self.tasks, self.farm)

    def whose(self) -> str | None:
        """Whose project it is if it is not ours, as a sentence; see `trust.whose`."""
        if self.trusts_others:
            return None
        return trust.whose(self.root, self.tasks, self.settings)

    def make_folders(self) -> None:
        """Make `tasks/` and `.farm/`; what is there stays as it is.

        RACE: whoever can write the project's folder may put a link in the place of
        `.farm/` at any moment, so all is made below one open descriptor of it.
        """
        disk.make_folders(self.tasks)
        with (
            disk.opened_folder(self.root) as root,
            disk.own_folder(self.farm, root, disk.FOLDER_MODE) as farm,
        ):
            trust.check_owner(self.farm, farm)
            os.fchmod(farm, disk.FOLDER_MODE)
            for path in self._own_folders():
                with disk.own_folder(path, farm, disk.FOLDER_MODE):
                    pass  # it is there, and it is not a link
            _hide_from_git(farm)

    def restore_folders(self) -> None:
        """Make what an operator deleted of `.farm/`; nothing if `tasks/` went, too."""
        if os.path.isdir(self.tasks):
            self.make_folders()

    def _own_folders(self) -> tuple[str, ...]:
        own = (self.locks, self.logs, self.workers, self.journal, self.tmp)
        return (*own, self.control, self.credentials)

    def ledger_names(self) -> list[str]:
        """Names of the ledgers that lie there, in `locks`."""
        try:
            return sorted(n for n in os.listdir(self.locks) if n.endswith(".lock"))
        except FileNotFoundError:
            return []  # .farm was deleted

    # -- names ---------------------------------------------------------------

    def task_path(self, task_id: str) -> str:
        """`tasks/<id>.json`."""
        return f"{self.tasks}/{task_id}{TASK}"

    def result_path(self, task_id: str) -> str:
        """`tasks/<id>.result.json`."""
        return f"{self.tasks}/{task_id}{RESULT}"

    def ledger_path(self, task_id: str) -> str:
        """`.farm/locks/task-<id>.lock`."""
        return f"{self.locks}/task-{key(task_id)}.lock"

    def log_path(self, task_id: str, attempt: int, suffix: str) -> str:
        """`.farm/logs/<id>.<attempt>.<suffix>`; suffix is out or err."""
        return f"{self.logs}/{key(task_id)}.{attempt}.{suffix}"

    def life_path(self, worker: str) -> str:
        """`.farm/workers/<name>.lock`."""
        return f"{self.workers}/{worker}.lock"

    def health_path(self, worker: str) -> str:
        """`.farm/workers/<name>.json`."""
        return f"{self.workers}/{worker}.json"

    def journal_path(self, worker: str, part: int = 0) -> str:
        """`.farm/journal/<name>.jsonl`, or `<name>.<part>.jsonl`; no name has a dot."""
        return f"{self.journal}/{worker}{f'.{part}' if part else ''}.jsonl"

    def aside_path(self, worker: str, what: int | str) -> str:
        """`.farm/tmp/<name>.<what>`: swept only when that worker is dead."""
        return f"{self.tmp}/{worker}.{what}"

    def scope_path(self, scope: str) -> str:
        """`.farm/credentials/<scope>.json`: what rests, and until when."""
        return f"{self.credentials}/{scope}.json"

    def scopes(self) -> list[str]:
        """Keys, pools and endpoints of which something is known."""
        try:
            names = os.listdir(self.credentials)
        except FileNotFoundError:
            return []  # .farm was deleted
        return sorted(n[: -len(".json")] for n in names if n.endswith(".json"))

    def salt_path(self) -> str:
        """What makes fingerprints of keys this project's own."""
        return f"{self.credentials}/salt"

    def supervisor_path(self, host: str) -> str:
        """`.farm/supervisor-<host>.lock`: who supervises on that host."""
        return f"{self.farm}/supervisor-{host}.lock"

    def supervisor_hosts(self) -> list[str]:
        """Hosts on which the project has, or had, a supervisor."""
        start, end = "supervisor-", ".lock"
        try:
            names = os.listdir(self.farm)
        except FileNotFoundError:
            return []  # no worker was ever here
        ours = [n for n in names if n.startswith(start) and n.endswith(end)]
        return sorted(n[len(start) : -len(end)] for n in ours)

    def slot_log_path(self, slot: int) -> str:
        """Where a supervised worker's own messages go."""
        return f"{self.logs}/worker-{slot}.log"

    def hooks_log_path(self) -> str:
        """What hooks print."""
        return f"{self.logs}/hooks.log"

    def is_moving(self) -> bool:
        """Whether a `farm archive` or a `farm restore` works here, or was killed."""
        try:
            names = os.listdir(self.archive)
        except OSError:
            return False  # nothing was ever archived, or we may not know
        return any(n.startswith(".") and n.endswith(UNDER_WAY) for n in names)

    def relative(self, path: str) -> str:
        """A path inside the project as people read it."""
        return path.removeprefix(f"{self.root}/")

    def worker_names(self) -> list[str]:
        """Names under which a worker lives or died without tidying up."""
        names = os.listdir(self.workers)
        return sorted(n[: -len(".lock")] for n in names if n.endswith(".lock"))

    def task_id(self, path: str) -> str | None:
        """The id that a file's path stands for; None if it never is a task."""
        inside = os.path.relpath(os.path.abspath(path), self.tasks)
        parts = inside.split("/")
        if inside.startswith("..") or any(part.startswith(".") for part in parts):
            return None
        if inside.endswith(RESULT) or not inside.endswith(TASK):
            return None
        return inside[: -len(TASK)]

    # -- task files ----------------------------------------------------------

    def read_task(self, task_id: str) -> TaskBytes:
        """The bytes of a task file.

        FileNotFoundError if there is none; TaskFileError if what lies there is
        no regular file of at most 50 MB that we may read.
        """
        path = self.task_path(task_id)
        try:
            fd = self._open_task(path)
        except FileNotFoundError:
            if os.path.islink(path):
                raise TaskFileError(_DANGLING) from None
            raise
        except OSError as error:
            raise TaskFileError(_unreadable(path, error)) from error
        try:
            return self._read_open_task(fd)
        finally:
            os.close(fd)

    def _open_task(self, path: str) -> int:
        try:
            return disk.open_to_read(path)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
        real, root = os.path.realpath(path), os.path.realpath(self.root)
        if not real.startswith(f"{root}/"):
            raise TaskFileError(
                f"this is a symbolic link to {real}, outside the project:"
                " copy the file into the project"
            )
        return disk.open_to_read(real)

    def _read_open_task(self, fd: int) -> TaskBytes:
        now = os.fstat(fd)
        if not stat.S_ISREG(now.st_mode):
            raise TaskFileError(_not_regular(now.st_mode))
        if now.st_mode & stat.S_IWOTH and not self.trusts_others:
            raise TaskFileError(trust.OPEN_TO_ALL)
        if now.st_size > MAX_TASK_BYTES:
            raise TaskFileError(
                f"a task file may hold 50 MB, this one holds {now.st_size} bytes:"
                " put the data into a file of its own and name it in the task"
            )
        # A file server's clients remember such times, and may ask it for a new one late.
        settled = not self.network and disk.has_settled(now.st_ctime_ns)
        try:
            raw = disk.read_fd(fd, MAX_TASK_BYTES)
        except OSError as error:  # it grows, or its disk has failed
            raise TaskFileError(f"cannot read it: {error.strerror}") from error
        sha256 = hashlib.sha256(raw).hexdigest()
        return TaskBytes(raw, sha256, signature_of(now), settled=settled)

    @cached_property
    def trusts_others(self) -> bool:
        """Whether the user allows it; asked for only when something makes a difference."""
        try:
            trusted = load_settings(self.settings, os.environ, {}).trust
        except ConfigError:
            return False  # the command that loads all settings says what is wrong
        return trust.allows(trusted, self.root)

    @cached_property
    def owners(self) -> frozenset[int]:
        """Users to whom what lies below `tasks/` may belong: us, and the project's owner.

        A stranger's whole project is refused before anything of it runs.
        """
        return trust.our_uids() | {os.stat(self.root).st_uid}

    def lies_inside(self, task_id: str) -> bool:
        """Whether the folder of an id is a real one, below `tasks/`, or not there."""
        folder = os.path.dirname(self.task_path(task_id))
        below = os.path.relpath(folder, self.tasks)
        real = os.path.join(os.path.realpath(self.tasks), below)
        return os.path.realpath(folder) == os.path.normpath(real)

    def task_signature(self, task_id: str) -> Signature | None:
        """What a changed file changes; None if there is no file."""
        try:
            return signature_of(os.stat(self.task_path(task_id)))
        except OSError:
            return None


def signature_of(now: os.stat_result) -> Signature:
    """What changes with a file."""
    return now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns


_DANGLING = "this is a symbolic link to a file that is not there: mend or remove it"


def _unreadable(path: str, error: OSError) -> str:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        mode = stat.S_IFREG
    if not stat.S_ISREG(mode):
        return _not_regular(mode)
    return f"cannot read it: {error.strerror}. Give the farm's user the right to read"


def _not_regular(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    kind = kinds.get(stat.S_IFMT(mode), "no regular file")
    return f"this is {kind}, but a task is a regular file: move it or rename it"


def is_usable(task_id: str) -> bool:
    """Whether a `Listing` would yield this id."""
    odd = any(not part or part.startswith(".") for part in task_id.split("/"))
    return not odd and id_fault(task_id) is None


def id_fault(task_id: str) -> str | None:
    """Why no task can have this id; None if it can."""
    # Nearly every name is short plain text; only the others are looked at.
    if len(task_id) < _LONGEST // 4 and task_id.isascii() and task_id.isprintable():
        return None
    return check_id(task_id)


def _hide_from_git(farm: int) -> None:
    """Put a .gitignore into the open folder `.farm/`, in one step."""
    # RACE: hosts that share the folder may share process ids, never these digits.
    name, aside = ".gitignore", f".gitignore.{os.urandom(8).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        os.stat(name, dir_fd=farm, follow_symlinks=False)
    except FileNotFoundError:
        fd = os.open(aside, flags, disk.FILE_MODE, dir_fd=farm)
        try:
            disk.write_all(fd, b"*\n")
        finally:
            os.close(fd)
        os.replace(aside, name, src_dir_fd=farm, dst_dir_fd=farm)


# -- finding a project ----------------------------------------------------------


def find_project(start: str | os.PathLike[str]) -> str:
    """The project that is meant in the folder `start`.

    It is `start` if that has `tasks/`, `.farm/` or `farm.toml`, else the nearest folder
    above it with `.farm/` or `farm.toml`; else NoProjectError says what to do.
    """
    here = above = os.path.abspath(start)
    if os.path.isdir(f"{here}/tasks"):
        return here
    folder = ""
    while folder != above:
        folder, above = above, os.path.dirname(above)
        if os.path.isdir(f"{folder}/.farm") or os.path.isfile(f"{folder}/farm.toml"):
            return folder
    raise NoProjectError(
        f"no farm project here: neither {here} nor a folder above it has .farm/ or"
        " farm.toml, and there is no tasks/ here. Name the project, or make one"
        " with farm init PROJECT, and start it with: farm supervise PROJECT"
    )
