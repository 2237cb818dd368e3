"""What fault tests need of the machine, and how a test says so.

    pytestmark = [pytest.mark.processes, needs("root", "strace")]

A test is skipped, with the reason printed, where a tool or a right is missing;
`scripts/test` installs the tools where it can. Each of `TRIALS` really tries the
thing, once a run: a tool that is there may still be refused by a container.
"""

import functools
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


def _runs(*command: str) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def faketime() -> Path | None:
    """The library that lies about the time, to be preloaded; None if not installed."""
    found = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    return next(iter(found), None)


MEMORY = Path("/sys/fs/cgroup/memory")  # where groups with bounded memory are made


def _bounds_memory() -> bool:
    group = MEMORY / f"farm-trial-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(1 << 28))
        group.rmdir()
    except OSError:
        return False
    return True


_LOOP_MOUNT = """
image=$(mktemp) && truncate -s 4M $image && mkfs.ext4 -q $image &&
mount -o loop $image /mnt; code=$?; rm -f $image; exit $code
"""

TRIALS: dict[str, Callable[[], bool]] = {
    "root": lambda: os.geteuid() == 0,
    "strace": lambda: _runs("strace", "-f", "-o", os.devnull, "true"),
    "pid namespace": lambda: _runs(
        *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "true")
    ),
    "time namespace": lambda: _runs("unshare", "--time", "--fork", "true"),
    "mount": lambda: _runs(
        *("unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt")
    ),
    "loop mount": lambda: _runs("unshare", "--mount", "sh", "-c", _LOOP_MOUNT),
    "setpriv": lambda: _runs("setpriv", "--reuid=65534", "--clear-groups", "true"),
    "prlimit": lambda: _runs("prlimit", "--nofile=64", "true"),
    "memory cgroup": _bounds_memory,
    "faketime": lambda: faketime() is not None,
}


@functools.cache
def works(name: str) -> bool:
    """Whether this tool or right is there and really works."""
    return TRIALS[name]()


def needs(*names: str) -> pytest.MarkDecorator:
    """Skip, and say why, unless all of these work here."""
    missing = [name for name in names if not works(name)]
    return pytest.mark.skipif(
        bool(missing), reason=f"not to be had here: {', '.join(missing)}"
    )
