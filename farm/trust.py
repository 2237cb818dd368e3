"""Whose project it is, and who else could make a farm run a program.

A task file is a program, as a line of a crontab is. So a project is refused, as git
refuses a repository, when a part of it that decides what runs belongs to another user
or can be written by every user of the machine (`check_trust`). A group that can write
there is a warning. A farm has one user: what another user made in `.farm/` its workers
could not change (`check_owner`).

What allows it all the same lies with the user who runs the farm, never with the
project of a stranger: the variable FARM_TRUST, the flag `--trust`, or `trust = true`
in a farm.toml of their own (`allows`, `counts`).

Checks look at open descriptors: a path may name another file by the time it is used.
"""

import errno
import grp
import os
import pwd
import shlex
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from struct import iter_unpack
from typing import NamedTuple, Self

from farm import disk
from farm.errors import UsageError

Trust = bool | tuple[str, ...]  #: of every project, or of those with these paths
VARIABLE = "FARM_TRUST"
OPEN_TO_ALL = (
    "every user of this machine can write it, and a task is a program: chmod o-w it,"
    f" or set {VARIABLE} if that is meant"
)
EMPTY_LINKS = 2  # of a folder without sub-folders; `find` believes this, too
_FEW = 3  # paths that one sentence names

# What `man 5 acl` tells; the numbers are those of linux/posix_acl_xattr.h.
_ACL = "system.posix_acl_access"
_ACL_USER, _ACL_OWNING_GROUP, _ACL_GROUP, _ACL_MASK, _ACL_WRITE = 2, 4, 8, 16, 2


class Seen(NamedTuple):
    """A file or folder that decides what is run, as an open descriptor showed it."""

    path: str
    uid: int
    gid: int
    mode: int
    acl: bytes = b""  #: the extended attribute, where others than its owner may write

    @classmethod
    def at(cls, path: str, fd: int) -> Self:
        """What is open as `fd`; `path` is only for people."""
        now = os.fstat(fd)
        acl = b""
        if now.st_mode & stat.S_IWGRP:
            with suppress(OSError):  # it has none, or its file system knows none
                acl = os.getxattr(f"/proc/self/fd/{fd}", _ACL)
        return cls(path, now.st_uid, now.st_gid, now.st_mode, acl)


# -- decisions ----------------------------------------------------------------------


def our_uids() -> frozenset[int]:
    """Users whose files are as good as ours: ourselves, root, and who called sudo."""
    ours = {os.geteuid(), 0}
    caller = os.environ.get("SUDO_UID", "")
    if os.geteuid() == 0 and caller.isdecimal():
        ours.add(int(caller))
    return frozenset(ours)


def counts(owner: int | None) -> bool:
    """Whether `trust = true` counts in a farm.toml that belongs to this user."""
    return owner is not None and owner in our_uids()


def allows(trusted: Trust, root: str) -> bool:
    """Whether the setting `trust` allows to run a project: it may name some by path."""
    if isinstance(trusted, bool):
        return trusted
    return os.path.realpath(root) in map(os.path.realpath, trusted)


def allow(root: str) -> None:
    """Let this process, and those that it starts, run the project, as `--trust` asks."""
    before = os.environ.get(VARIABLE, "").split(":")
    paths = [*filter(os.path.isabs, before), os.path.realpath(root)]
    os.environ[VARIABLE] = ":".join(paths)


def why_foreign(uid: int, mode: int, ours: frozenset[int]) -> str | None:
    """Why what has this owner and mode may be a stranger's program; None if it is ours.

    Follows the name of the file or folder in a sentence.
    """
    if uid not in ours:
        return f"belongs to {user_name(uid)}"
    if mode & stat.S_IWOTH:
        return "can be written by every user of this machine"
    return None


def writers(seen: Seen, ours: frozenset[int]) -> list[str]:
    """The groups, and users named by an ACL, that can write what is not theirs."""
    if not seen.mode & stat.S_IWGRP:
        return []
    users, groups = _named_by(seen)
    found = [f"the user {user_name(uid)}" for uid in users if uid not in ours]
    return found + [
        f"the group {_group_name(gid)}"
        for gid in groups
        if not is_private(gid, seen.uid)
    ]


def _named_by(seen: Seen) -> tuple[list[int], list[int]]:
    """Users and groups who can write it; its mode alone says so of its own group."""
    if not seen.acl:
        return [], [seen.gid]
    entries = list(iter_unpack("<HHI", seen.acl[4:]))  # the first 4 are its version
    masks = [rights for tag, rights, _ in entries if tag == _ACL_MASK]
    mask = masks[0] if masks else _ACL_WRITE
    can_write = [(t, who) for t, rights, who in entries if rights & mask & _ACL_WRITE]
    users = [who for tag, who in can_write if tag == _ACL_USER]
    groups = [seen.gid for tag, _ in can_write if tag == _ACL_OWNING_GROUP]
    return users, groups + [who for tag, who in can_write if tag == _ACL_GROUP]


# -- the check ----------------------------------------------------------------------


def check_trust(root: str, toml: str, tasks: str, farm: str) -> list[str]:
    """Check the parts of a project that decide what is run, before anything is.

    They are its folder, farm.toml, `tasks/` and the folders below; what is not there
    is not looked at. Returns a warning for each group, or user named by an ACL, that
    can write there. UsageError if a part, or `.farm/`, belongs to another user, or if
    every user of the machine could write it or move it away.
    """
    check_owner(farm)
    with _opened(root) as fd:
        if fd is None:
            return []
        top = Seen.at(root, fd)
    ours = our_uids()
    if top.uid not in ours and _is_everybodys(top.uid, farm, root):
        ours |= {top.uid}
    parts = [top]
    for path in (toml, tasks):
        with _opened(path) as fd:
            if fd is not None:
                parts.append(Seen.at(path, fd))
    parts += sub_folders(tasks)
    for part in parts:
        if why := why_foreign(part.uid, part.mode, ours):
            raise UsageError(_refusal(part.path, why, root))
    _check_above(os.path.realpath(root), root)
    return _warnings(parts, ours)


_NOTHING_THERE = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ELOOP,
)  # a link to itself leads nowhere


@contextmanager
def _opened(path: str) -> Iterator[int | None]:
    """A descriptor that only shows what lies there; None if nothing does."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)  # needs no right to read it
    except OSError as error:
        if error.errno not in _NOTHING_THERE:
            raise
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def sub_folders(tasks: str) -> Iterator[Seen]:
    """The folders below `tasks/`, each before those in it. Links are not followed."""
    left = [tasks]
    while left:
        path = left.pop()
        # What is gone, or closed to us, holds no task that would be run.
        with suppress(OSError), disk.opened_folder(path, _no_link(path, tasks)) as fd:
            if path != tasks:
                yield Seen.at(path, fd)
            if os.fstat(fd).st_nlink != EMPTY_LINKS:
                left += [f"{path}/{name}" for name in _folders_in(fd)]


def _no_link(path: str, tasks: str) -> int:
    return 0 if path == tasks else os.O_NOFOLLOW  # `tasks/` itself may be a link


def _folders_in(fd: int) -> list[str]:
    with os.scandir(fd) as entries:
        return [
            entry.name
            for entry in entries
            if entry.name[0] != "." and entry.is_dir(follow_symlinks=False)
        ]


def _refusal(path: str, why: str, root: str) -> str:
    fix = "" if why.startswith("belongs") else "chmod o-w it, or, "
    return (
        f"{path} {why}, and a task is a program that would run as you: {fix}if you"
        " trust all who can write there, add --trust or set"
        f" {VARIABLE}={shlex.quote(root)}"
    )


def _check_above(real: str, root: str) -> None:
    """UsageError if every user could put another project in the place of this one."""
    above = real
    while above != os.path.dirname(above):
        above = os.path.dirname(above)
        with _opened(above) as fd:
            mode = os.fstat(fd).st_mode if fd is not None else 0
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise UsageError(
                f"{above} can be written by every user of this machine and has no"
                " sticky bit, so each of them could put another project in the place"
                f" of {root}: chmod o-w or chmod +t it, or add --trust or set"
                f" {VARIABLE}={shlex.quote(root)}"
            )


def _warnings(parts: Sequence[Seen], ours: frozenset[int]) -> list[str]:
    shared: dict[str, list[str]] = {}
    for part in parts:
        for who in writers(part, ours):
            shared.setdefault(who, []).append(part.path)
    return [
        f"{who} can write {_listed(paths)}, and so make this farm run any program:"
        " if that is meant, set `trust = true` in farm.toml; if not, take that right"
        " away (chmod, chown, setfacl)"
        for who, paths in shared.items()
    ]


def _listed(paths: Sequence[str]) -> str:
    more = len(paths) - _FEW
    return " and ".join(
        [*paths[:_FEW], *([f"{more} more folders"] if more > 0 else [])]
    )


def whose(root: str, tasks: str, toml: str) -> str | None:
    """Who owns a project that is not ours, in a sentence for verbs that only read."""
    for path in (root, toml, tasks):
        with _opened(path) as fd:
            owner = os.fstat(fd).st_uid if fd is not None else None
        if owner is not None and owner not in our_uids():
            return f"{path} belongs to {user_name(owner)}"
    return None


# -- one user for each farm ---------------------------------------------------------


def check_owner(farm: str, fd: int | None = None) -> None:
    """Raise UsageError if a `.farm/` is another user's: one user for each farm.

    `fd` is the folder itself, where it is open.
    """
    try:
        there = os.lstat(farm) if fd is None else os.fstat(fd)
    except FileNotFoundError:
        return  # it will be ours
    if there.st_uid == os.geteuid() or not stat.S_ISDIR(there.st_mode):
        return
    name = user_name(there.st_uid)
    if there.st_uid != _owner_of_new(farm):
        raise UsageError(
            f"{farm} belongs to {name}, and a farm has one user: what you make"
            f" there would not be theirs. Become {name} (sudo -u, docker run --user),"
            " or make a project of your own in another folder"
        )


def _is_everybodys(uid: int, farm: str, root: str) -> bool:
    """Whether all files on this mount get this one owner, whoever makes them."""
    return _owner_of_new(farm if os.path.isdir(farm) else root) == uid


def _owner_of_new(folder: str) -> int | None:
    """Whose a file is that we make there; None if we cannot.

    Some mounts (SMB, or folders that a container shares) give all files one owner.
    """
    name = f".owner-{os.urandom(8).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with disk.opened_folder(folder, os.O_NOFOLLOW) as above:
            fd = os.open(name, flags, disk.FILE_MODE, dir_fd=above)
            try:
                return os.fstat(fd).st_uid
            finally:
                os.close(fd)
                os.unlink(name, dir_fd=above)
    except OSError:
        return None


# -- names --------------------------------------------------------------------------


def user_name(uid: int) -> str:
    """A user as people know one another; the number if there is no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def is_private(gid: int, uid: int) -> bool:
    """Whether a group is one user's alone, as many systems make one for each."""
    try:
        user, group = pwd.getpwuid(uid).pw_name, grp.getgrgid(gid)
    except KeyError:
        return False
    return group.gr_name == user and set(group.gr_mem) <= {user}
