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
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.disklog import LoggedDisk
from tests.faults.machines import Machine
from tests.skips import NOT_HERE

#: how namespaces are made and entered: an ordinary user is root in one of its own
UNSHARE: tuple[str, ...] = ("unshare",)
NSENTER: tuple[str, ...] = ("nsenter",)
if os.geteuid() != 0:
    UNSHARE = ("unshare", "--user", "--map-root-user")
    NSENTER = ("nsenter", "--user", "--preserve-credentials")


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

NOBODY = 65534  # a user id that owns nothing
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")


def another_user_runs_farm() -> bool:
    """Whether we may become another user, and that one may read Python and farm."""
    python = (sys.executable, "-c", "import farm.cli, click, msgspec, rich")
    return os.geteuid() == 0 and _runs(*AS_NOBODY, *python)


def _boots_a_guest() -> bool:
    """Whether QEMU boots the kernel that `scripts/test` unpacks, with our files."""
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder, "machine"))
        machine.boot()
        machine.end()
    return True


def _logs_a_disk() -> bool:
    with tempfile.TemporaryDirectory() as folder, LoggedDisk(Path(folder)) as disk:
        return disk.moment() > 0


def _succeeds(trial: Callable[[], bool]) -> bool:
    """Whether a trial that only root can make does not even begin to fail."""
    try:
        return os.geteuid() == 0 and trial()
    except (OSError, AssertionError, subprocess.CalledProcessError):
        return False


TRIALS: dict[str, Callable[[], bool]] = {
    "root": lambda: os.geteuid() == 0,
    "strace": lambda: _runs("strace", "-f", "-o", os.devnull, "true"),
    "pid namespace": lambda: _runs(
        *UNSHARE,
        *("--pid", "--fork", "--kill-child", "--mount-proc", "true"),
    ),
    "time namespace": lambda: _runs(*UNSHARE, "--time", "--fork", "true"),
    "mount": lambda: _runs(
        *(*UNSHARE, "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt")
    ),
    "loop mount": lambda: _runs(*UNSHARE, "--mount", "sh", "-c", _LOOP_MOUNT),
    "prlimit": lambda: _runs("prlimit", "--nofile=64", "true"),
    "another user": another_user_runs_farm,
    "memory cgroup": _bounds_memory,
    "inotify limit": lambda: _runs(
        *("unshare", "--user", "--map-root-user", "sh", "-c"),
        "echo 0 > /proc/sys/user/max_inotify_instances",
    ),
    "faketime": lambda: faketime() is not None,
    "guest": lambda: _succeeds(_boots_a_guest),
    "logged disk": lambda: _succeeds(_logs_a_disk),
}


@functools.cache
def works(name: str) -> bool:
    """Whether this tool or right is there and really works."""
    return TRIALS[name]()


def needs(*names: str) -> pytest.MarkDecorator:
    """Skip, and say why, unless all of these work here."""
    missing = [name for name in names if not works(name)]
    return pytest.mark.skipif(bool(missing), reason=f"{NOT_HERE}{', '.join(missing)}")
