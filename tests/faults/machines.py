"""`Machine`: a computer whose power can be cut, and that has a network of its own.

    machine = Machine(tmp_path)
    machine.boot()
    machine.run("mount /dev/vda /mnt; cd /mnt; farm worker . --until-done")
    machine.cut()                       # everything that was not on its disk is gone
    machine.boot()                      # again, with what the disk still holds

It is a guest (`tests.faults.guest`). It sees our files, read-only, and so our Python
and our farm; it may write into its folder here (`at`), and to `/dev/vda`: a disk of its
own, an image file with ext4 on it. It has one processor, and no way to any network.
Scripts are handed over through its console, one after the other; what has to be known
in the moment before a cut is written to `/dev/console`, which is a file of ours.
"""

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

from tests.faults import guest
from tests.waiting import wait_until

REPOSITORY = Path(__file__).parent.parent.parent
DISK = 64 << 20  # bytes
LONGEST = 110.0  # seconds; a guest that hangs fails its test, and not the whole run

#: Its first process: makes it a home, and then does as it is told by number.
INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /run
mount -t tmpfs tmp /mnt
mkdir /dev/shm
stty -echo
cd $FOLDER
hostname guest
echo up
while read -r number; do
    sh ./$number.outer > $number.said 2>&1 < /dev/null
    echo "done $number $?"
done
"""

#: Python for tasks: `tell` puts words and the task's id on the console.
TELL = """
import os

def tell(*words):
    line = " ".join((*words, os.environ["FARM_TASK_ID"])) + "\\n"
    console = os.open("/dev/console", os.O_WRONLY)
    os.write(console, line.encode())
    os.close(console)
"""

PREAMBLE = f"""
export PATH={shlex.quote(os.environ["PATH"])}:/usr/sbin:/sbin
export PYTHONPATH={shlex.quote(str(REPOSITORY))} PYTHONDONTWRITEBYTECODE=1
export HOME=/run FARM_HEARTBEAT=0.2
python() {{ {shlex.quote(sys.executable)} -P "$@"; }}
farm() {{ python -m farm "$@"; }}
set -e
"""


class Machine:
    """One guest, and the disk that outlives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.at = str(folder)
        self.console = folder / "console"
        self.disk = folder / "disk"
        self._scripts = 0
        self._until = time.monotonic() + LONGEST
        self._guest: guest.Guest | None = None
        folder.mkdir(parents=True, exist_ok=True)
        with self.disk.open("wb") as image:
            image.truncate(DISK)
        subprocess.run(["mkfs.ext4", "-q", "-F", self.disk], check=True)
        init = folder / "init"
        init.write_text(INIT)
        init.chmod(0o755)

    # -- power ---------------------------------------------------------------------

    def boot(self) -> None:
        """Switch it on; returns when it takes scripts."""
        self.console.write_bytes(b"")
        with self.console.open("ab") as console:
            self._guest = guest.start(self.folder, self.disk, console)
        self.wait_told(r"up")

    def cut(self) -> None:
        """Cut the power: nothing is written any more, nobody is told."""
        if self._guest is not None:
            guest.stop(self._guest)
        self._guest = None

    def end(self) -> None:
        """Switch it off for good, and remove its disk."""
        self.cut()
        self.disk.unlink()

    # -- scripts -------------------------------------------------------------------

    def run(self, script: str, *, inside: str = "") -> str:
        """Run a script of the shell to its end; what it said. A failure is one here.

        `inside` is a command before the shell's: `nsenter`, say.
        """
        self._scripts += 1
        number = self._scripts
        (self.folder / f"{number}.script").write_text(PREAMBLE + script)
        outer = f"exec {inside} sh {self.at}/{number}.script\n"
        (self.folder / f"{number}.outer").write_text(outer)
        assert self._guest is not None
        assert self._guest.computer.stdin is not None
        self._guest.computer.stdin.write(f"{number}\n".encode())
        self._guest.computer.stdin.flush()
        (code,) = self.wait_told(rf"done {number} (\d+)")
        said = self.folder / f"{number}.said"
        text = said.read_text(errors="replace")
        assert code == "0", f"exit code {code} of {script}\n{text}"
        return text

    def start(self, script: str, *, inside: str = "") -> None:
        """Run it in the background; what it says goes, as a pipe, to the console."""
        self._scripts += 1
        name = f"{self._scripts}.background"
        (self.folder / name).write_text(PREAMBLE + script)
        self.run(f"setsid {inside} sh {self.at}/{name} 2>&1 | cat > /dev/console &")

    # -- what was told -------------------------------------------------------------

    def told(self, pattern: str) -> list[str]:
        """What lines of the console that match have in their parentheses, in order."""
        text = self.console.read_text(errors="replace")
        return re.findall(rf"^{pattern}\r?$", text, re.MULTILINE)

    def wait_told(self, pattern: str, count: int = 1) -> list[str]:
        """The same, when there are so many of them."""

        def enough() -> list[str]:
            found = self.told(pattern)
            assert len(found) >= count or self._lives(), self.describe()
            return found if len(found) >= count else []

        left = self._until - time.monotonic()
        return wait_until(enough, max(left, 0.0), self.describe)

    def dies_before(self, pattern: str) -> bool:
        """Whether it dies by itself instead of telling this; waits for either."""
        wait_until(
            lambda: not self._lives() or self.told(pattern),
            max(self._until - time.monotonic(), 0.0),
            self.describe,
        )
        return not self._lives()

    def _lives(self) -> bool:
        return self._guest is not None and self._guest.computer.poll() is None

    def describe(self) -> str:
        """All that it said."""
        parts = [self.console, *sorted(self.folder.glob("*.said"))]
        said = [f"--- {p.name}\n{p.read_text(errors='replace')}" for p in parts]
        return "\n".join(said)
