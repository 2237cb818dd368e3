"""Secrets of farm's own processes: which variables hold one, and how others are kept off.

    looks_secret(name)             a variable of this name is withheld from tasks
    with handed(environ) as to:    for a child: `to.env`, `to.words`, `to.fds`
    taken(fd)                      the child's side of `--secrets FD`
    shut(environ)                  nobody but root, and callables in here, can read them

The environment with which a process was started lies open in `/proc/PID/environ`, for
every task of the same user. So a supervisor hands secrets to its workers through an
inherited descriptor of a file that lies in memory alone, and whoever was started with
secrets in its environment blanks them there (`shut`). It makes itself undumpable as well:
then nobody reads its memory, its descriptors or its environment except root. What a callable forks
makes itself dumpable again: rescue finds it by its descriptors, as an ordinary user, too.
A command executes another program, and is dumpable by that.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from farm import disk

_SECRET = re.compile(
    r"(?:^|_)(?:API|ACCESS|PRIV|PRIVATE)?_?KEYS?\d*(?:_|$)"
    r"|TOKENS?\d*(?:_|$)|SECRET|PASSWORD|PASSWD|PASSPHRASE|(?<!ASK)PASS\d*(?:_|$)"
    r"|_PWD(?:_|$)|(?:^|_)(?:PAT|CREDS?|CREDENTIALS?|AUTH|JWT|COOKIES?)\d*(?:_|$)",
    re.IGNORECASE,
)
#: what holds no secret, whatever else its name says: a path, or what farm itself says
_PLAIN = re.compile(
    r"FARM_.*|.*_(?:PATH|DIR|HOME|SOCK)|GOOGLE_APPLICATION_CREDENTIALS", re.IGNORECASE
)
_MOST = 16 << 20  # bytes of all secrets; an environment holds less
_DUMPABLE = 4  # PR_SET_DUMPABLE in include/uapi/linux/prctl.h


def looks_secret(name: str) -> bool:
    """Whether a variable of this name is held to be a secret."""
    return bool(_SECRET.search(name)) and not _PLAIN.fullmatch(name)


def secret_names(environ: Iterable[str]) -> list[str]:
    """Those of these variables that look like secrets."""
    return [name for name in environ if looks_secret(name)]


# -- from parent to child ------------------------------------------------------------


class Handed(NamedTuple):
    """How a child is to be started, so that it gets an environment with its secrets."""

    env: dict[str, str]  #: without any secret
    words: list[str]  #: of its command line
    fds: tuple[int, ...]  #: to inherit


@contextmanager
def handed(environ: Mapping[str, str]) -> Iterator[Handed]:
    """For one child, which is started in here."""
    secrets = {name: environ[name] for name in secret_names(environ)}
    if not secrets:
        yield Handed(dict(environ), [], ())
        return
    env = {name: text for name, text in environ.items() if name not in secrets}
    fd = _written(secrets)
    try:
        yield Handed(env, ["--secrets", str(fd)], (fd,))
    finally:
        os.close(fd)


def _written(secrets: Mapping[str, str]) -> int:
    """A descriptor of a file that lies in memory alone and holds these."""
    fd = os.memfd_create("farm-secrets", os.MFD_CLOEXEC)
    try:
        pairs = [[os.fsencode(text).hex() for text in pair] for pair in secrets.items()]
        disk.write_all(fd, disk.encode(pairs))
    except BaseException:
        os.close(fd)
        raise
    return fd


def taken(fd: int) -> dict[str, str]:
    """What a parent has handed over; the descriptor is closed."""
    try:
        pairs = disk.decode(disk.read_fd(fd, _MOST))
    finally:
        os.close(fd)
    assert isinstance(pairs, list), "`_written` wrote it"  # noqa: S101 - for mypy
    return {
        os.fsdecode(bytes.fromhex(name)): os.fsdecode(bytes.fromhex(value))
        for name, value in pairs
    }


# -- from everybody else --------------------------------------------------------------


def shut(environ: Mapping[str, str]) -> None:
    """If there are secrets in our environment, `environ`, let no other process read them.

    What Python knows of them stays; C code finds them empty from here on.
    """
    names = secret_names(environ)
    if not names:
        return  # most farms have none, and start quicker so
    import ctypes  # noqa: PLC0415 - see above

    libc = ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_void_p
    for name in names:
        # Where it lies, which is what /proc shows: at first in the block on the stack.
        if at := libc.getenv(os.fsencode(name)):
            ctypes.memset(at, 0, len(os.fsencode(environ[name])))
    libc.prctl(_DUMPABLE, 0, 0, 0, 0)
    # RACE: a child that is killed, or looked for, before this is found at the next look.
    os.register_at_fork(after_in_child=lambda: libc.prctl(_DUMPABLE, 1, 0, 0, 0))
