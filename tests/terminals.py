"""A pseudo-terminal of a given width, and what a verb writes to it."""

import os
import pty
import re
import subprocess
import sys
import termios
from contextlib import suppress

from rich.cells import cell_len

from tests.driver import Farm

ESCAPE = re.compile("\x1b\\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A verb on a terminal of so many columns."""

    def __init__(self, farm: Farm, columns: int, *args: str, **environ: str) -> None:
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (24, columns))
        outer = ("COLUMNS", "LINES", "NO_COLOR")  # a person's own would change it
        clean = {n: v for n, v in farm.environ.items() if n not in outer}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "farm", *args],
            env=clean | {"TERM": "xterm"} | environ,
            cwd=farm.root,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        farm.processes.append(self.process)
        os.close(slave)
        self.said = ""

    def read(self) -> bool:
        """Take in some more of what it writes; False when it has ended."""
        part = b""
        with suppress(OSError):  # the last writer closed its end
            part = os.read(self._master, 65536)
        self.said += part.decode(errors="replace")
        return bool(part)

    def read_until(self, words: str) -> None:
        """Until it has written these words."""
        while words not in ESCAPE.sub("", self.said):
            assert self.read(), self.said

    def read_all(self) -> int:
        """Until it has ended; the exit code."""
        while self.read():
            pass
        os.close(self._master)
        return self.process.wait(30)

    @property
    def lines(self) -> list[str]:
        """The lines it has written, without colours."""
        return ESCAPE.sub("", self.said).replace("\r\n", "\n").splitlines()

    @property
    def widest(self) -> int:
        """Columns of its widest line, tabs as a terminal shows them."""
        return max(cell_len(line.expandtabs()) for line in self.lines)
