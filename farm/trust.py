"""Who else could make a farm run a program, and whose it is.

A task file is a program, as a line of a crontab is: what every user of the machine
could write is refused, and whoever else could write it is named in a warning. A farm
has one user: what another made in `.farm/`, root say, its workers could not change.

The functions look at paths that they are given and know nothing of a project.
"""

import grp
import os
import pwd
import stat
from collections.abc import Sequence

from farm import disk
from farm.errors import UsageError

_MEND = "a task is a program: chmod o-w it, or set `trust = true` in farm.toml"
OPEN_TO_ALL = f"every user of this machine can write it, and {_MEND}"


def check_trust(places: Sequence[str], farm: str) -> list[str]:
    """Who else could make a farm run a program: a warning for each who can write there.

    `places` are folders and files that decide what is run, `farm` is its `.farm/`.
    UsageError if every user of this machine could.
    """
    found = [(path, os.stat(path)) for path in places if os.path.exists(path)]
    for path, now in found:
        if now.st_mode & stat.S_IWOTH:
            raise UsageError(
                f"{path} can be written by every user of this machine, and {_MEND}"
            )
    owner = os.stat(farm).st_uid if os.path.exists(farm) else os.geteuid()
    shared: dict[str, list[str]] = {}
    for path, now in found:
        if who := _who_else(now, owner):
            shared.setdefault(who, []).append(path)
    return [
        f"{who} can write {' and '.join(paths)}, and so make this farm run any program:"
        " if that is meant, set `trust = true` in farm.toml; if not, take that right"
        " away (chmod, chown)"
        for who, paths in shared.items()
    ]


def _who_else(now: os.stat_result, owner: int) -> str:
    """Who can write a file or folder besides this owner and root; "" if nobody."""
    if now.st_uid not in (owner, 0):
        return f"the user {user_name(now.st_uid)}"
    if now.st_mode & stat.S_IWGRP and not _is_private(now.st_gid, now.st_uid):
        return f"the group {_group_name(now.st_gid)}"
    return ""


def check_owner(farm: str) -> None:
    """Raise UsageError if a `.farm/` is another user's: one user for each farm."""
    try:
        there = os.lstat(farm)
    except FileNotFoundError:
        return  # it will be ours
    if there.st_uid == os.geteuid() or stat.S_ISLNK(there.st_mode):
        return
    name = user_name(there.st_uid)
    if there.st_uid != _owner_of_new(farm):
        raise UsageError(
            f"{farm} belongs to {name}, and a farm has one user: what you make"
            f" there would not be theirs. Become {name} (sudo -u, docker run --user),"
            " or make a project of your own in another folder"
        )


def _owner_of_new(folder: str) -> int | None:
    """Whose a file is that we make there; None if we cannot.

    Some mounts (SMB, or folders that a container shares) give all files one owner.
    """
    path = f"{folder}/.owner-{os.urandom(8).hex()}"
    try:
        disk.write_aside(path, b"")
    except OSError:
        return None
    try:
        return os.stat(path).st_uid
    finally:
        disk.unlink(path)


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


def _is_private(gid: int, uid: int) -> bool:
    """Whether a group is one user's alone, as many systems make one for each."""
    try:
        user, group = pwd.getpwuid(uid).pw_name, grp.getgrgid(gid)
    except KeyError:
        return False
    return group.gr_name == user and set(group.gr_mem) <= {user}
