"""The ledger: its lock, its lines, and what must never be believed."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm import disk, process
from farm import ledger as module
from farm.errors import LedgerError, MountError
from farm.flock import lock_descriptor
from farm.ledger import (
    Child,
    Claimed,
    Ended,
    Final,
    Ledger,
    Line,
    history,
    open_attempt,
    parse,
    peek,
)
from farm.states import Status, Why
from tests.sockets import make_socket


def claimed(attempt: int = 1, token: str = "") -> Claimed:
    return Claimed(
        task="build",
        attempt=attempt,
        token=token or f"token-{attempt}",
        holder="worker",
        who=process.identify(),
        acquired_at=1000.0,
        sha256="5ha",
    )


def ended(attempt: int = 1, why: Why = Why.FAILED) -> Ended:
    return Ended(
        token=f"token-{attempt}",
        attempt=attempt,
        why=why,
        counted=True,
        finished=1001.0,
    )


def encoded(*lines: Line) -> bytes:
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def opened(path: Path) -> Ledger:
    ledger = Ledger.open(str(path))
    assert ledger is not None
    return ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "task-build.lock"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    there = opened(path)
    yield there
    try:
        there.let_go()
    except OSError as error:
        # The test itself has let go.
        if error.errno != errno.EBADF:
            raise


# -- the lock -------------------------------------------------------------------


def test_a_held_ledger_is_refused(path: Path, ledger: Ledger) -> None:
    assert Ledger.open(str(path)) is None


def test_a_ledger_is_free_again_after_let_go(path: Path) -> None:
    opened(path).let_go()

    opened(path).let_go()


def test_a_ledger_held_by_another_process_is_refused(path: Path) -> None:
    script = (
        "import sys\n"
        "from farm.ledger import Ledger\n"
        "print(Ledger.open(sys.argv[1]) is not None, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"True\n"

        assert Ledger.open(str(path)) is None

        other.kill()
        other.wait()
    opened(path).let_go()


def test_letting_go_frees_the_lock_although_a_duplicate_descriptor_lives(
    path: Path,
) -> None:
    ledger = opened(path)
    daemon = os.dup(ledger.fd)

    ledger.let_go()

    opened(path).let_go()
    os.close(daemon)


def test_the_lock_follows_the_work(path: Path) -> None:
    ledger = opened(path)
    inherited = os.dup(ledger.fd)

    os.close(ledger.fd)

    assert Ledger.open(str(path)) is None
    os.close(inherited)
    opened(path).let_go()


def test_let_go_removes_the_file_only_when_asked(path: Path) -> None:
    opened(path).let_go()
    kept = path.exists()
    opened(path).let_go(unlink=True)

    assert (kept, path.exists()) == (True, False)


def test_let_go_never_removes_a_file_that_took_its_place(
    path: Path, ledger: Ledger
) -> None:
    path.unlink()
    path.write_bytes(b"another's")

    ledger.let_go(unlink=True)

    assert path.read_bytes() == b"another's"


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_moves_between_open_and_lock_is_not_held(
    path: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    really_lock = lock_descriptor

    def lock_after_unlink(fd: int) -> bool:
        path.unlink()
        if replaced:
            path.write_bytes(b"")
        return really_lock(fd)

    monkeypatch.setattr(module, "lock_descriptor", lock_after_unlink)
    descriptors = len(list(Path("/proc/self/fd").iterdir()))

    assert Ledger.open(str(path)) is None
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_only_an_existing_ledger_is_opened_without_create(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Ledger.open(str(path), create=False)

    assert not path.exists()


def test_a_ledger_is_the_owners_business_alone(path: Path, ledger: Ledger) -> None:
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_child_does_not_inherit_the_lock_by_itself(
    path: Path, ledger: Ledger
) -> None:
    assert not os.get_inheritable(ledger.fd)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused_with_advice(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(fd: int) -> bool:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(module, "lock_descriptor", refuse)

    with pytest.raises(MountError, match=r"task-build\.lock.*working flock"):
        Ledger.open(str(path))


# -- what is no ledger ------------------------------------------------------------


def make_link(path: Path) -> None:
    target = path.with_name("elsewhere")
    target.touch()
    path.symlink_to(target)


NO_LEDGERS = [os.mkfifo, Path.mkdir, make_link, make_socket]


@pytest.mark.parametrize("make", NO_LEDGERS, ids=["fifo", "folder", "link", "socket"])
def test_what_is_no_regular_file_is_a_ledger_error(path: Path, make: object) -> None:
    assert callable(make)
    make(path)
    descriptors = len(list(Path("/proc/self/fd").iterdir()))

    with pytest.raises(LedgerError, match=r"task-build\.lock is not a regular file"):
        Ledger.open(str(path))
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


@pytest.mark.parametrize("make", NO_LEDGERS, ids=["fifo", "folder", "link", "socket"])
def test_a_peek_at_what_is_no_regular_file_sees_nothing(
    path: Path, make: object
) -> None:
    assert callable(make)
    make(path)

    assert peek(str(path)) == []


def test_a_peek_at_nothing_sees_nothing_and_makes_nothing(path: Path) -> None:
    assert peek(str(path)) == []
    assert not path.exists()


def test_a_peek_reads_beside_the_lock(path: Path, ledger: Ledger) -> None:
    ledger.append(claimed())

    assert peek(str(path)) == [claimed()]


# -- lines -----------------------------------------------------------------------


def test_what_was_appended_is_read_again(path: Path) -> None:
    lines: list[Line] = [claimed(), Child("token-1", 77, 88), ended(), claimed(2)]
    ledger = opened(path)
    for line in lines:
        ledger.append(line)
    ledger.let_go()

    again = opened(path)

    assert again.lines == lines
    again.let_go()


def test_a_line_is_never_glued_to_a_torn_one(path: Path) -> None:
    torn = encoded(claimed())[:-20]
    path.write_bytes(encoded(claimed(9)) + torn)

    ledger = opened(path)
    ledger.append(claimed(2))
    ledger.append(ended(2))
    ledger.let_go()

    assert parse(path.read_bytes()) == [claimed(9), claimed(2), ended(2)]
    assert b"\n\n" not in path.read_bytes()


def test_a_line_that_was_written_by_half_does_not_spoil_the_next(
    path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(fd: int, data: bytes) -> None:
        os.write(fd, data[:10])
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(disk, "write_all", full_disk)
        with pytest.raises(OSError, match="no space left"):
            ledger.append(claimed())
    ledger.append(claimed(2))

    assert parse(path.read_bytes()) == ledger.lines == [claimed(2)]


GARBAGE = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"17",
    b'{"line": "claimed"}',
    b'{"line": "of a newer farm", "x": 1}',
    b"\xff\xfe\x00",
    b"\0" * 4096,
    b'"\xed\xa0\x80"',
    b"[" * 100_000,
    encoded(claimed(7))[:40],
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_line_that_cannot_be_read_is_ignored_anywhere(
    garbage: bytes, place: int
) -> None:
    lines = [encoded(claimed()), encoded(ended())]
    lines.insert(place, garbage + b"\n")

    assert parse(b"".join(lines)) == [claimed(), ended()]


@given(st.lists(st.binary(max_size=60)))
def test_random_bytes_never_stop_a_reader(parts: list[bytes]) -> None:
    raw = b"\n".join([*parts, encoded(claimed())])

    assert parse(raw) == [claimed()]


def test_ten_megabytes_of_garbage_are_ignored(path: Path) -> None:
    path.write_bytes(os.urandom(1 << 20) * 10 + b"\n" + encoded(claimed()))

    ledger = opened(path)

    assert ledger.lines == [claimed()]
    ledger.let_go()


def test_lines_before_the_last_final_do_not_count() -> None:
    raw = encoded(
        claimed(1), Final(Status.FAILED), claimed(2), ended(2), Final(Status.LOST)
    )

    assert parse(raw) == []
    assert parse(raw + encoded(claimed(3))) == [claimed(3)]


def test_a_torn_final_ends_nothing() -> None:
    raw = encoded(claimed(1)) + encoded(Final(Status.FAILED))[:-5] + b"\n"

    assert parse(raw) == [claimed(1)]


# -- history ---------------------------------------------------------------------


def test_history_pairs_each_attempt_with_its_end_and_its_child() -> None:
    child = Child("token-2", 5, 6)
    lines: list[Line] = [claimed(1), ended(1), claimed(2), child]

    first, second = history(lines)

    assert (first.ended, first.child) == (ended(1), None)
    assert (second.ended, second.child) == (None, child)


@pytest.mark.parametrize("line", [ended(3), Child("token-3", 5, 6)])
def test_history_ignores_a_line_about_an_attempt_that_never_began(line: Line) -> None:
    assert [p.claimed.attempt for p in history([claimed(1), line])] == [1]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], None),
        ([claimed(1)], 1),
        ([claimed(1), ended(1)], None),
        ([claimed(1), ended(1), claimed(2)], 2),
        ([claimed(1), claimed(2), ended(2)], None),
        ([claimed(1), claimed(2), ended(1)], 2),
    ],
)
def test_an_attempt_is_open_until_its_own_end_follows(
    lines: list[Line], expected: int | None
) -> None:
    past = open_attempt(lines)

    assert (past.claimed.attempt if past else None) == expected


# -- still ours -------------------------------------------------------------------


def test_an_untouched_ledger_is_still_ours(ledger: Ledger) -> None:
    ledger.append(claimed())
    ledger.sync()

    assert ledger.still_ours()
    assert ledger.still_ours()


def test_a_ledger_with_a_torn_tail_is_still_ours_after_an_append(path: Path) -> None:
    path.write_bytes(b"torn")
    ledger = opened(path)

    ledger.append(claimed())

    assert ledger.still_ours()
    ledger.let_go()


def test_a_ledger_somebody_appended_to_is_not_ours(path: Path, ledger: Ledger) -> None:
    with path.open("ab") as other:
        other.write(encoded(claimed(2)))

    assert not ledger.still_ours()


def test_a_ledger_that_is_gone_is_not_ours(path: Path, ledger: Ledger) -> None:
    path.unlink()

    assert not ledger.still_ours()


def test_a_ledger_that_was_replaced_is_not_ours(path: Path, ledger: Ledger) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)

    assert not ledger.still_ours()


def test_a_lock_that_a_child_freed_is_taken_again(path: Path, ledger: Ledger) -> None:
    fcntl.flock(os.dup(ledger.fd), fcntl.LOCK_UN)

    assert ledger.still_ours()
    assert Ledger.open(str(path)) is None


def test_a_lock_that_somebody_else_keeps_is_not_ours(
    path: Path, ledger: Ledger
) -> None:
    fcntl.flock(ledger.fd, fcntl.LOCK_UN)
    other = opened(path)

    assert not ledger.still_ours()
    other.let_go()


def test_a_passer_by_who_lets_go_soon_is_waited_for(
    path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RELOCK_PATIENCE", 60.0)
    fcntl.flock(ledger.fd, fcntl.LOCK_UN)
    other = opened(path)
    really_lock, looks = lock_descriptor, []

    def lock(fd: int) -> bool:
        looks.append(fd)
        if len(looks) == 3:
            other.let_go()
        return really_lock(fd)

    monkeypatch.setattr(module, "lock_descriptor", lock)

    assert ledger.still_ours()


def test_a_passer_by_who_writes_is_not_waited_for(
    path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RELOCK_PATIENCE", 3600.0)
    fcntl.flock(ledger.fd, fcntl.LOCK_UN)
    other = opened(path)
    other.append(claimed(2))

    assert not ledger.still_ours()
    other.let_go()


def test_a_lock_that_the_server_gave_away_is_not_ours(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(fd: int) -> bool:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(module, "lock_descriptor", lose)

    assert not ledger.still_ours()


def test_one_of_many_threads_gets_the_lock(path: Path) -> None:
    start, got = threading.Barrier(8), []

    def race() -> None:
        start.wait()
        got.append(Ledger.open(str(path)))

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    winners = [ledger for ledger in got if ledger is not None]

    assert len(winners) == 1
    winners[0].let_go()
