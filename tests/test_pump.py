"""What a command prints arrives in its logs without its secrets, and all of it."""

import errno
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.pump import Pump
from farm.redact import Redactor

KEY = secrets.token_urlsafe(40)
MANY = 5_000_000


@pytest.fixture
def log(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    yield fd
    os.close(fd)


def say(pump: Pump, script: str, number: int = 0) -> "subprocess.Popen[bytes]":
    """Start a script of the shell that prints into one of the pump's ends."""
    env = {**os.environ, "KEY": KEY}
    return subprocess.Popen(["sh", "-c", script], stdout=pump.ends[number], env=env)


def written(log: int) -> bytes:
    """What the log holds."""
    return os.pread(log, 2 * MANY, 0)


def descriptors() -> set[str]:
    return {p.name for p in Path("/proc/self/fd").iterdir()}


def test_all_that_was_printed_is_there(log: int) -> None:
    before = descriptors()
    with Pump([log], Redactor([KEY])) as pump:
        say(pump, f'head -c {MANY} /dev/zero; printf "<$KEY>"').wait()

    assert (written(log) == bytes(MANY) + b"<[secret]>") is True
    assert descriptors() == before


def test_each_end_has_a_log_of_its_own(log: int, tmp_path: Path) -> None:
    with (
        (tmp_path / "other").open("w+b") as other,
        Pump([log, other.fileno()], Redactor([KEY])) as pump,
    ):
        children = [say(pump, "printf one", 0), say(pump, "printf two", 1)]
        for child in children:
            child.wait()

    assert written(log) == b"one"
    assert (tmp_path / "other").read_bytes() == b"two"


def test_who_still_holds_the_pipe_is_not_waited_for(log: int) -> None:
    with Pump([log], Redactor([KEY])) as pump:
        held = os.dup(pump.ends[0])
        say(pump, "printf all").wait()

    with pytest.raises(BrokenPipeError):
        os.write(held, b"too late")
    os.close(held)
    assert written(log) == b"all"


def test_a_full_disk_is_told_at_the_end_and_stops_nobody() -> None:
    full = os.open("/dev/full", os.O_WRONLY | os.O_CLOEXEC)
    with (
        pytest.raises(OSError, match=os.strerror(errno.ENOSPC)),
        Pump([full], Redactor([KEY])) as pump,
    ):
        code = say(pump, f"head -c {MANY} /dev/zero").wait()
    os.close(full)

    assert code == 0


def test_the_last_words_may_be_half_a_secret(log: int) -> None:
    with Pump([log], Redactor([KEY])) as pump:
        say(pump, f'printf "%s" "{KEY[:10]}"').wait()

    assert (written(log).decode() == KEY[:10]) is True


def test_what_its_thread_has_not_read_is_carried_at_the_end(log: int) -> None:
    with Pump([log], Redactor([KEY])) as pump:
        os.eventfd_write(pump._stop, 1)  # as if the end came at this moment
        pump._thread.join()
        say(pump, 'printf "the rest $KEY"').wait()

    assert (written(log) == b"the rest [secret]") is True
