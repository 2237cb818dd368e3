"""A guest of QEMU: another kernel, with a disk and a network of its own.

    guest = start(folder, disk, console)    # becomes the program `folder/init`
    stop(guest)                             # in the middle of whatever it does

Its processor is emulated, so it boots on any host, whatever that one's processor can
do. Its kernel is Debian's for clouds, which `scripts/test` unpacks into `KERNEL` and
does not install. Its files are the host's own, read-only (virtiofs): no image is made,
and our Python and our farm are there. Both sides may write into `folder`.
"""

import compileall
import functools
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, NamedTuple

REPOSITORY = Path(__file__).parent.parent.parent
KERNEL = Path(sys.prefix, "guest")
MEMORY = "512M"
#: Timers may come late on a busy host, and then the kernel's check of them fails.
ORDERS = "console=ttyS0 quiet loglevel=1 panic=-1 mitigations=off no_timer_check"
DRIVERS = ("virtio_pci", "virtio_blk", "virtiofs")

#: Its very first process: takes the host's files for its own.
FIRST = """#!/bin/busybox sh
/bin/busybox --install /bin
while read -r driver; do insmod "$driver"; done < /drivers
mount -t virtiofs host /host
mount --bind /host /root
mount -o remount,bind,ro /root
mount --bind "/host$FOLDER" "/root$FOLDER"
mount -t devtmpfs dev /root/dev
exec switch_root -c /dev/console /root "$FOLDER/init"
"""


class Guest(NamedTuple):
    """Its two processes; neither outlives the one that started them."""

    computer: "subprocess.Popen[bytes]"  #: what it reads is the guest's console
    files: "subprocess.Popen[bytes]"  #: hands it the host's


def start(folder: Path, disk: Path, console: IO[bytes]) -> Guest:
    """Switch it on. All that it says goes to the console."""
    kernel, memory = images()
    with socket.socket(socket.AF_UNIX) as meeting:
        meeting.bind("")  # under a name that the kernel chooses, and in no folder
        meeting.listen()
        name = meeting.getsockname()[1:].decode()
        files = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig=KILL", _virtiofsd(), "-o", "source=/"),
                *("-o", "sandbox=chroot", "-o", "cache=always"),
                f"--fd={meeting.fileno()}",
            ],
            pass_fds=[meeting.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.DEVNULL,  # it tells of each thread
        )
    computer = subprocess.Popen(
        [
            *("setpriv", "--pdeathsig=KILL", "qemu-system-x86_64", "-accel", "tcg"),
            *("-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"),
            *("-m", MEMORY, "-numa", "node,memdev=all", "-object"),
            f"memory-backend-memfd,id=all,size={MEMORY},share=on",
            *("-device", "vhost-user-fs-pci,tag=host,chardev=files", "-chardev"),
            f"socket,id=files,abstract=on,path={name}",
            *("-drive", f"file={disk},format=raw,if=virtio"),
            *("-kernel", kernel, "-initrd", memory, "-append"),
            f"{ORDERS} FOLDER={folder}",
        ],
        stdin=subprocess.PIPE,
        stdout=console,
        stderr=console,
    )
    return Guest(computer, files)


def stop(guest: Guest) -> None:
    """Kill it: what is not on its disk is gone, and it is not told."""
    for process in guest:
        process.kill()
        process.wait()
    if guest.computer.stdin:
        guest.computer.stdin.close()


def _virtiofsd() -> str:
    places = "/usr/libexec:/usr/lib/qemu"  # in Debian 13 and 12: in no PATH
    return shutil.which("virtiofsd", path=places) or "virtiofsd"


@functools.cache
def images() -> tuple[Path, Path]:
    """The kernel, and the file system in memory that it begins with, made anew."""
    # A guest can write no `__pycache__`, and would compile all of it at each start.
    compileall.compile_dir(REPOSITORY / "farm", quiet=1)
    kernel = next(KERNEL.glob("boot/vmlinuz-*"), None)
    if kernel is None:
        raise FileNotFoundError(f"no kernel in {KERNEL}: run scripts/test as root")
    with tempfile.TemporaryDirectory(dir=KERNEL) as folder:
        there = Path(folder, "root")
        for name in ("bin", "host", "root"):
            (there / name).mkdir(parents=True)
        shutil.copy(shutil.which("busybox") or "busybox", there / "bin")
        drivers = _drivers(kernel.name.removeprefix("vmlinuz-"))
        for driver in drivers:
            shutil.copy(driver, there)
        (there / "drivers").write_text("".join(f"{d.name}\n" for d in drivers))
        (there / "init").write_text(FIRST)
        (there / "init").chmod(0o755)
        pack = "busybox find . | busybox cpio -o -H newc > ../packed"
        subprocess.run(pack, shell=True, cwd=there, check=True, capture_output=True)
        memory = Path(folder, "packed").rename(KERNEL / "first")
    return kernel, memory


def _drivers(version: str) -> list[Path]:
    """The files of all modules that it needs, in the order in which they are loaded."""
    place = ("--dirname", KERNEL, "--set-version", version)
    said = subprocess.run(
        ["modprobe", *place, "--show-depends", "--all", *DRIVERS],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [Path(name) for name in dict.fromkeys(said.split()) if name.endswith(".ko")]
