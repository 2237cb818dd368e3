"""The single-winner register of a task: `<id>.result.json`.

`look(id)` tells what lies there; `put(...)` gives it its bytes in one step, by a
link that fails if the name is taken. Only `put` and `set_aside` change it, and
both are called under the ledger's lock. People may delete a result whenever they
like: the task then runs again.

A file with this name that is no result (empty or torn after a power cut) and an
`invalid` verdict on bytes that have changed since do not count; they are moved
aside before the task runs.
"""

import errno
import os
import stat
from enum import Enum

from farm import disk
from farm.errors import TaskFileError
from farm.project import Project
from farm.result import Head, parse_head
from farm.states import Status


class Lying(Enum):
    """What lies under a result's name when it is no result."""

    NOTHING = "nothing"
    GARBAGE = "garbage"  #: empty or torn


def look(project: Project, task_id: str) -> Head | Lying:
    """The result of a task as far as decisions need it.

    OSError for one that we cannot read, or that is longer than any of ours: it stays.
    """
    path = project.result_path(task_id)
    if project.network:
        disk.drop_stale_names(os.path.dirname(path))
    return _lying_at(path)


def _lying_at(path: str) -> Head | Lying:
    try:
        fd = disk.open_to_read(path)
    except FileNotFoundError:
        return Lying.NOTHING
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            return Lying.GARBAGE  # a symbolic link, a socket
        raise
    try:
        regular = stat.S_ISREG(os.fstat(fd).st_mode)
        head = parse_head(disk.read_fd(fd)) if regular else None
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)
    return Lying.GARBAGE if head is None else head


def sha256(project: Project, task_id: str) -> str | None:
    """The digest of a task file's bytes; None if they cannot be read."""
    try:
        return project.read_task(task_id).sha256
    except (FileNotFoundError, TaskFileError):
        return None


def is_outdated(project: Project, task_id: str, head: Head) -> bool:
    """Whether a verdict of `invalid` was on bytes that no longer lie there.

    A cycle's verdict rests on the files of all its members.
    """
    if head.status != Status.INVALID or not os.path.lexists(project.task_path(task_id)):
        return False
    rests_on = {task_id: head.sha256}
    if head.error is not None and head.error.files:
        rests_on |= head.error.files
    return any(sha256(project, member) != sha for member, sha in rests_on.items())


def counts(project: Project, task_id: str) -> Head | None:
    """The result if there is one that still counts."""
    head = look(project, task_id)
    if isinstance(head, Lying) or is_outdated(project, task_id, head):
        return None
    return head


def set_aside(project: Project, task_id: str, aside: str) -> None:
    """Under the lock: move away what does not count, to the name `aside`.

    RACE: between the look and the move somebody may have put a real result
    there (a client that lost its lock). So look at what was moved, and put it
    back if it counts.
    """
    path = project.result_path(task_id)
    try:
        os.replace(path, aside)
    except FileNotFoundError:
        return
    head = _lying_at(aside)
    if isinstance(head, Head) and not is_outdated(project, task_id, head):
        disk.link_new(aside, path)
    if os.path.isdir(aside) and not os.path.islink(aside):
        kept = project.log_path(task_id, 0, f"{os.path.basename(aside)}.folder")
        os.replace(aside, kept)  # somebody's files: never ours to delete
    else:
        disk.unlink(aside)


def put(
    project: Project, task_id: str, data: bytes, aside: str, *, sync: bool
) -> int | None:
    """Under the lock: make `data` the result. None: another result is there.

    Else the identity of the file (`disk.identity`), by which the journal knows it.
    `aside` is a name of our own in `.farm/tmp`; with `sync` the bytes and the
    name survive a power cut once this returns.
    """
    path = project.result_path(task_id)
    _write_aside(project, aside, data, sync=sync)
    try:
        # A link changes none of it. After the close: on NFS it is the server's now.
        ours: int | None = disk.identity_of(aside)
        if not disk.link_new(aside, path):
            ours = _linked_before(path, data)
            if ours is None and counts(project, task_id) is None:
                set_aside(project, task_id, f"{aside}.bad")
                ours = disk.identity_of(aside) if disk.link_new(aside, path) else None
    finally:
        disk.unlink(aside)
    if sync:
        disk.sync_folder(os.path.dirname(path))
    return ours


def _linked_before(path: str, data: bytes) -> int | None:
    """Its identity if an earlier call linked it and failed after that.

    A token is unique, so the bytes tell.
    """
    before = disk.identity_of(path)
    try:
        return before if disk.read_file(path) == data else None
    except OSError:
        return None  # a folder, a link: not ours


def _write_aside(project: Project, aside: str, data: bytes, *, sync: bool) -> None:
    try:
        disk.write_aside(aside, data, sync=sync)
    except FileNotFoundError:
        # RACE: somebody removed .farm/tmp under us.
        project.make_folders()
        disk.write_aside(aside, data, sync=sync)
