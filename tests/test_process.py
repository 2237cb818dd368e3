"""Who a process is, and that exactly the one that was meant is ended."""

import fcntl
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from farm import process
from farm.process import Identity, Mark
from tests.waiting import wait_until

TOKEN = f"feedfacecafe{os.getpid():08x}"  # other tests look at the same /proc
WAITS = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]


class Children:
    """Real processes that wait for their standard input to close."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, **environ: str) -> "subprocess.Popen[bytes]":
        child = subprocess.Popen(
            WAITS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | environ,
        )
        self.started.append(child)
        assert child.stdout is not None
        child.stdout.readline()  # the new program runs, with its own environment
        return child

    def end(self) -> None:
        for child in self.started:
            child.kill()
            child.communicate()


@pytest.fixture
def children() -> Iterator[Children]:
    there = Children()
    yield there
    there.end()


def identity_of(pid: int) -> Identity:
    stat = process.stat(pid)
    assert stat is not None
    return msgspec.structs.replace(process.identify(), pid=pid, ticks=stat.ticks)


def wait_for_zombie(pid: int) -> None:
    """Until it ended; it keeps its number because nobody has reaped it."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


# -- who is it ----------------------------------------------------------------------


def test_stat_tells_parent_group_and_start(children: Children) -> None:
    child = children.start()

    stat = process.stat(child.pid)

    assert stat is not None
    assert (stat.parent, stat.group) == (os.getpid(), os.getpgrp())
    assert stat.ticks > 0


def test_a_name_with_spaces_and_parentheses_confuses_nobody(tmp_path: Path) -> None:
    odd = tmp_path / "a) Z 1 (b"
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([odd, "60"]) as child:
        wait_until(lambda: b"a) Z" in Path(f"/proc/{child.pid}/stat").read_bytes())
        stat = process.stat(child.pid)
        child.kill()

    assert stat is not None
    assert stat.parent == os.getpid()


def test_a_process_that_is_gone_has_no_stat(children: Children) -> None:
    child = children.start()
    child.kill()
    child.wait()

    assert process.stat(child.pid) is None


def test_a_zombie_is_not_alive(children: Children) -> None:
    child = children.start()
    identity = identity_of(child.pid)
    before = process.is_alive(identity)
    child.kill()
    wait_for_zombie(child.pid)

    assert Path(f"/proc/{child.pid}").exists()
    assert (before, process.is_alive(identity)) == (True, False)


def test_this_process_is_alive_and_identifies_itself() -> None:
    me = process.identify()

    assert me.pid == os.getpid()
    assert me.ticks > 0
    assert process.is_alive(me)


@pytest.mark.parametrize("shift", [-1, 1])
def test_another_process_with_the_same_number_is_not_alive(shift: int) -> None:
    me = process.identify()
    other = msgspec.structs.replace(me, ticks=me.ticks + shift)

    assert not process.is_alive(other)


@pytest.mark.fault(19)
def test_a_process_of_another_boot_is_neither_here_nor_alive() -> None:
    other = msgspec.structs.replace(process.identify(), boot="another")

    assert (process.is_here(other), process.is_alive(other)) == (False, False)


def test_a_process_of_another_namespace_is_neither_here_nor_alive() -> None:
    me = process.identify()
    other = msgspec.structs.replace(me, pidns=me.pidns + 1)

    assert (process.is_here(other), process.is_alive(other)) == (False, False)


def test_the_host_name_decides_nothing() -> None:
    other = msgspec.structs.replace(process.identify(), host="renamed")

    assert process.is_alive(other)


def test_another_containers_proc_is_not_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    me = process.identify()
    monkeypatch.setattr(os, "readlink", lambda path: "1")

    assert not process.proc_is_ours()
    assert not process.is_here(me)
    assert process.identify().ticks == 0


# -- what it carries ------------------------------------------------------------------


def test_a_process_is_found_by_its_token(children: Children) -> None:
    child = children.start(FARM_TOKEN=TOKEN)

    assert process.carries(child.pid, Mark(TOKEN))


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"FARM_TOKEN": TOKEN + "0"},
        {"FARM_TOKEN": TOKEN[:-1]},
        {"X_FARM_TOKEN": TOKEN},
        {"OTHER": f"FARM_TOKEN={TOKEN}"},
    ],
    ids=["none", "longer", "shorter", "other-name", "inside-a-value"],
)
def test_a_process_with_another_token_is_not_found(
    children: Children, environ: dict[str, str]
) -> None:
    child = children.start(**environ)

    assert not process.carries(child.pid, Mark(TOKEN))


class Forked:
    """A forked child without an environment of its own that keeps a descriptor."""

    def __init__(self, keep: int | None) -> None:
        ready, says = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            if keep is None:
                os.closerange(3, says)
            os.write(says, b"!")
            select.select([], [], [])  # until it is killed
        os.close(says)
        os.read(ready, 1)
        os.close(ready)

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    fcntl.flock(fd, fcntl.LOCK_EX)
    yield fd
    os.close(fd)


def lock_mark(fd: int, taker: int | None = None) -> Mark:
    file = os.fstat(fd)
    return Mark("no token", (file.st_dev, file.st_ino, taker or os.getpid()))


def test_a_forked_child_is_found_by_the_lock_it_inherited(locked: int) -> None:
    child = Forked(keep=locked)

    assert process.carries(child.pid, lock_mark(locked))
    child.end()


def test_a_child_without_the_lock_is_not_found(locked: int) -> None:
    child = Forked(keep=None)

    assert not process.carries(child.pid, lock_mark(locked))
    child.end()


def test_a_lock_that_somebody_else_took_marks_nobody(locked: int) -> None:
    child = Forked(keep=locked)

    assert not process.carries(child.pid, lock_mark(locked, taker=1))
    child.end()


def test_having_the_file_open_without_its_lock_marks_nobody(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    child = Forked(keep=fd)
    mine = os.open(path, os.O_RDWR)
    fcntl.flock(mine, fcntl.LOCK_EX)

    assert not process.carries(child.pid, lock_mark(mine))
    child.end()
    os.close(fd)
    os.close(mine)


# -- ending it ------------------------------------------------------------------------


def test_the_wanted_process_is_killed_through_its_pidfd(children: Children) -> None:
    child = children.start(FARM_TOKEN=TOKEN)

    fd = process.kill(child.pid, lambda pid: process.carries(pid, Mark(TOKEN)))

    assert fd is not None
    assert process.wait_gone(fd, 30.0)
    assert child.wait() == -signal.SIGKILL
    os.close(fd)


def test_a_process_that_is_not_wanted_any_more_is_spared(children: Children) -> None:
    child = children.start()
    looks = []

    def reused(pid: int) -> bool:
        looks.append(pid)
        return False

    assert process.kill(child.pid, reused) is None
    assert looks == [child.pid]
    assert child.poll() is None


def test_the_second_look_is_after_the_process_was_pinned(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    child, order = children.start(), []
    really_open = os.pidfd_open

    def opened(pid: int) -> int:
        order.append("pinned")
        return really_open(pid)

    def wanted(pid: int) -> bool:
        order.append("looked")
        return False

    monkeypatch.setattr(os, "pidfd_open", opened)
    process.kill(child.pid, wanted)

    assert order == ["pinned", "looked"]


def test_killing_what_is_gone_is_no_error(children: Children) -> None:
    child = children.start()
    child.kill()
    child.wait()

    assert process.kill(child.pid, lambda pid: True) is None


def test_killing_what_ends_during_the_look_is_no_error(children: Children) -> None:
    child = children.start()

    def end_it(pid: int) -> bool:
        child.kill()
        child.wait()
        return True

    assert process.kill(child.pid, end_it) is None


def test_kill_leaves_no_descriptor_open(children: Children) -> None:
    child = children.start()
    before = len(list(Path("/proc/self/fd").iterdir()))

    process.kill(child.pid, lambda pid: False)

    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_find_never_yields_ourselves_or_a_zombie(children: Children) -> None:
    dead, alive = children.start(), children.start()
    dead.kill()
    wait_for_zombie(dead.pid)
    candidates = {dead.pid, alive.pid, os.getpid()}

    assert list(process.find(candidates.__contains__)) == [alive.pid]


def test_every_process_of_an_attempt_is_ended_and_no_other(children: Children) -> None:
    marked = [children.start(FARM_TOKEN=TOKEN) for _ in range(3)]
    other = children.start(FARM_TOKEN=f"another {TOKEN}")

    assert process.end_marked(Mark(TOKEN), patience=30.0)
    assert [child.wait() for child in marked] == [-signal.SIGKILL] * 3
    assert other.poll() is None


def test_more_processes_than_there_are_descriptors_are_ended(
    children: Children,
) -> None:
    victims = [children.start(FARM_TOKEN=TOKEN) for _ in range(20)]
    before = [int(path.name) for path in Path("/proc/self/fd").iterdir()]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before) + 10, hard))
    try:
        ended = process.end_marked(Mark(TOKEN), patience=30.0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert ended
    assert [victim.wait() for victim in victims] == [-signal.SIGKILL] * len(victims)
    assert len(list(Path("/proc/self/fd").iterdir())) == len(before)


def test_a_forked_child_that_keeps_the_lock_is_ended(locked: int) -> None:
    child = Forked(keep=locked)

    assert process.end_marked(lock_mark(locked), patience=30.0)
    assert os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]) == -signal.SIGKILL


def test_ending_nobody_succeeds() -> None:
    assert process.end_marked(Mark("nobody has this"))


def test_nobody_is_ended_where_proc_is_not_ours(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = children.start(FARM_TOKEN=TOKEN)
    monkeypatch.setattr(process, "proc_is_ours", lambda: False)

    assert process.end_marked(Mark(TOKEN))
    assert child.poll() is None


def test_a_living_process_is_not_gone(children: Children) -> None:
    fd = os.pidfd_open(children.start().pid)

    assert not process.wait_gone(fd, 0.0)
    os.close(fd)
