"""`LoggedDisk`: a disk that keeps a log of its writes, and what a power cut leaves of it.

    with LoggedDisk(tmp_path) as disk:
        ...                              something works in `disk.folder`
        moment = disk.moment()           how much the log holds by now
    for cut in disk.cuts(50, since=moment, pick=Random(1)):
        with disk.after(cut) as folder:  a file system, as it is mounted after that cut
            ...

The host's own ext4 works on it, so no guest is needed and a cut costs a tenth of a
second. QEMU's storage daemon keeps the log, in the form of the kernel's dm-log-writes.
A cut leaves all that came before the last flush, and of what came since, up to the
cut, any part. Mounts are in a namespace of this process alone, and go with it.
"""

import ctypes
import functools
import os
import shutil
import struct
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple, Self

from tests.waiting import wait_until

SIZE = 32 << 20  # bytes
SECTOR = 512
MAGIC = 0x6A736677736872
FLUSH, DISCARD = 1, 4  # flags of an entry
NEW_MOUNTS = 0x20000  # CLONE_NEWNS
FORMAT = ("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0")


class Write(NamedTuple):
    """An entry of the log; `size` is 0 if no bytes came with it."""

    place: int  #: bytes from the disk's beginning
    size: int
    found: int  #: where its bytes are in the log
    is_flush: bool


class Cut(NamedTuple):
    """A state of the disk: the log up to an entry, but for some that came last."""

    moment: int
    dropped: frozenset[int]


@functools.cache
def _mounts_of_our_own() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "unshare")
    _run("mount", "--make-rprivate", "/")


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip()


class LoggedDisk:
    """See the module's docstring."""

    def __init__(self, at: Path) -> None:
        _mounts_of_our_own()
        self.folder = at / "disk"
        self._at = at
        self._before = at / "before.image"
        self._image = at / "image"
        self._log = at / "log"
        self._export = at / "export"
        self.folder.mkdir(parents=True)
        for path in (self._image, self._log, self._export):
            path.touch()
        os.truncate(self._image, SIZE)
        _run(*FORMAT, self._image)
        shutil.copyfile(self._image, self._before)

    def __enter__(self) -> Self:
        logged = f"driver=blklogwrites,file=image,log=log,log-sector-size={SECTOR}"
        export = f"fuse,id=e,node-name=logged,writable=on,mountpoint={self._export}"
        self._daemon = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig=KILL", "qemu-storage-daemon", "--blockdev"),
                *(f"driver=file,filename={self._image},node-name=image", "--blockdev"),
                *(f"driver=file,filename={self._log},node-name=log", "--blockdev"),
                *(f"{logged},log-super-update-interval=1,node-name=logged", "--export"),
                export,
            ]
        )
        wait_until(lambda: self._export.stat().st_size == SIZE)
        _run("mount", "-o", "loop", self._export, self.folder)
        return self

    def __exit__(self, *_: object) -> None:
        _run("umount", self.folder)
        self._daemon.terminate()
        self._daemon.wait()

    def moment(self) -> int:
        """How many entries the log has."""
        with self._log.open("rb") as log:
            magic, _, count, size = struct.unpack("<QQQI", log.read(28))
        assert (magic, size) == (MAGIC, SECTOR)
        return int(count)

    @functools.cached_property
    def writes(self) -> list[Write]:
        """The whole log; asked for when nothing is added any more."""
        found, at = [], SECTOR
        with self._log.open("rb") as log:
            for _ in range(self.moment()):
                log.seek(at)
                sector, count, flags, _ = struct.unpack("<4Q", log.read(32))
                size = 0 if flags & DISCARD else count * SECTOR
                place = sector * SECTOR
                found.append(Write(place, size, at + SECTOR, bool(flags & FLUSH)))
                at += SECTOR + size
        return found

    def cuts(self, count: int, *, since: int, pick: Random) -> list[Cut]:
        """So many moments from `since` on, in order, and what each of them takes."""
        moments = range(since, len(self.writes) + 1)
        chosen = sorted(pick.sample(moments, min(count, len(moments))))
        return [Cut(moment, self._unsafe(moment, pick)) for moment in chosen]

    def _unsafe(self, moment: int, pick: Random) -> frozenset[int]:
        last = moment
        while last > 0 and not self.writes[last - 1].is_flush:
            last -= 1
        return frozenset(i for i in range(last, moment) if pick.random() < 0.5)

    @contextmanager
    def another_boot(self) -> Iterator[None]:
        """What starts meanwhile sees another boot, as after a power cut."""
        boot, seen = self._at / "boot_id", "/proc/sys/kernel/random/boot_id"
        boot.write_text(f"{uuid.uuid4()}\n")
        _run("mount", "--bind", boot, seen)
        try:
            yield
        finally:
            _run("umount", seen)

    @contextmanager
    def after(self, cut: Cut) -> Iterator[Path]:
        """The file system that is left, mounted, to be changed as you like."""
        image = self._at / "cut.image"
        shutil.copyfile(self._before, image)
        with self._log.open("rb") as log, image.open("r+b") as disk:
            for number, write in enumerate(self.writes[: cut.moment]):
                if write.size and number not in cut.dropped:
                    log.seek(write.found)
                    disk.seek(write.place)
                    disk.write(log.read(write.size))
        _run("mount", "-o", "loop", image, self.folder)
        try:
            yield self.folder
        finally:
            _run("umount", self.folder)
