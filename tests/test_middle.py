"""A file whose middle is freed while it grows: both ends stay, nobody reads a NUL."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm import disk, middle

KEPT = 256 * 1024
FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND


@pytest.fixture
def log(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "log", FLAGS)
    yield fd
    os.close(fd)


def write_lines(fd: int, count: int, first: int = 0) -> None:
    lines = (f"line {number:06}\n" for number in range(first, first + count))
    disk.write_all(fd, "".join(lines).encode())


def read(fd: int, start: int = 0) -> tuple[bytes, int]:
    """All that is there, and how much is said to be left out."""
    found = [*middle.pieces(fd, start)]
    data = b"".join(piece for piece in found if isinstance(piece, bytes))
    return data, sum(piece for piece in found if isinstance(piece, int))


def test_of_a_file_that_is_too_long_both_ends_stay(log: int) -> None:
    write_lines(log, 100_000)
    size = os.fstat(log).st_size

    middle.keep_within([log], KEPT)
    data, left_out = read(log)

    assert os.fstat(log).st_size == size
    assert middle.taken(log) <= KEPT + 8192
    assert data.startswith(b"line 000000\nline 000001\n")
    assert data.endswith(b"line 099998\nline 099999\n")
    assert b"\0" not in data
    assert len(data) + left_out == size
    assert left_out == middle.left_out(log) > size - KEPT - 8192


def test_a_file_that_is_short_enough_stays_as_it_is(log: int) -> None:
    write_lines(log, 1_000)
    middle.keep_within([log], KEPT)

    assert read(log)[1] == middle.left_out(log) == 0
    assert middle.last_part(log, os.fstat(log).st_size) == 0


def test_what_a_silent_file_leaves_the_other_one_may_take(tmp_path: Path) -> None:
    logs = [os.open(tmp_path / name, FLAGS) for name in ("out", "err")]
    write_lines(logs[0], 100_000)
    write_lines(logs[1], 10)

    middle.keep_within(logs, KEPT)

    assert middle.taken(logs[0]) > KEPT * 0.9
    assert read(logs[1])[1] == 0
    write_lines(logs[1], 100_000)
    middle.keep_within(logs, KEPT)
    assert all(middle.taken(fd) <= KEPT / 2 + 8192 for fd in logs)


def test_whoever_appends_meanwhile_notices_nothing(tmp_path: Path, log: int) -> None:
    writer = subprocess.Popen(["seq", "1", "600000"], stdout=log)
    while writer.poll() is None:
        middle.keep_within([log], KEPT)
        assert b"\0" not in read(log)[0]
    middle.keep_within([log], KEPT)
    data, left_out = read(log)

    assert writer.returncode == 0
    assert len(data) + left_out == sum(len(f"{n}\n") for n in range(1, 600_001))
    assert data.endswith(b"\n599999\n600000\n")


def test_the_end_of_a_file_is_read_from_behind_what_was_freed(log: int) -> None:
    write_lines(log, 100_000)
    middle.keep_within([log], KEPT)
    size = os.fstat(log).st_size
    begin = middle.last_part(log, size)

    tail, told = disk.tail_of(log, size)

    assert told == size
    assert len(tail) == size - begin < KEPT
    assert b"\0" not in tail


def test_nul_bytes_that_were_written_stay(log: int) -> None:
    disk.write_all(log, b"\0" * 10_000 + b"end")

    assert disk.tail_of(log, 5_000)[0] == b"\0" * 4_997 + b"end"
    assert read(log) == (b"\0" * 10_000 + b"end", 0)


def test_a_line_that_was_cut_is_passed_over(log: int) -> None:
    write_lines(log, 100_000)
    middle.keep_within([log], KEPT)
    found = [*middle.lines(log, 100)]

    assert {len(line) for line in found} == {11}
    assert (found[0], found[-1]) == (b"line 000000", b"line 099999")
    assert len(set(found)) == len(found) > 20_000


def test_lines_come_when_they_have_ended_and_long_ones_not_at_all(log: int) -> None:
    lines = middle.Lines(log, 100)
    disk.write_all(log, b"one\ntw")
    assert [*lines.new()] == [b"one"]
    disk.write_all(log, b"o\n" + b"x" * 1000)
    assert [*lines.new()] == [b"two"]
    disk.write_all(log, b"x" * 1000 + b"\nthree\n" + b"y" * 101 + b"\nfour")
    assert [*lines.new()] == [b"three"]
    assert [*lines.rest()] == [b"four"]


def no_holes(_fd: int, _begin: int, _size: int) -> None:
    raise OSError(errno.EOPNOTSUPP, "no holes here")


def test_where_nothing_can_be_freed_that_is_said_and_an_end_is_cut_off(
    log: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middle, "_punch", no_holes)
    write_lines(log, 100_000)
    with pytest.raises(OSError, match="no holes here"):
        middle.keep_within([log], KEPT)

    middle.cut_to([log], KEPT)

    data, left_out = read(log)
    assert (len(data), left_out) == (KEPT, 0)
    assert data.startswith(b"line 000000\n")


def test_where_holes_cannot_be_seen_none_is_believed_to_be_there(
    log: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middle, "_punch", lambda *_: None)
    write_lines(log, 100_000)
    with pytest.raises(OSError, match="not supported"):
        middle.keep_within([log], KEPT)


def test_a_log_that_is_too_long_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "worker-0.log"
    fd = disk.open_to_append(str(path), 100)
    disk.write_all(fd, b"x" * 101)
    os.close(fd)
    fd = disk.open_to_append(str(path), 100)
    disk.write_all(fd, b"y" * 150)
    assert (tmp_path / "worker-0.log.1").read_bytes() == b"x" * 101

    disk.set_aside(str(path), 200)
    assert path.read_bytes() == b"y" * 150
    disk.set_aside(str(path), 100)
    disk.write_all(fd, b"z")
    os.close(fd)

    assert path.read_bytes() == b"z"
    assert (tmp_path / "worker-0.log.1").read_bytes() == b"y" * 150
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "worker-0.log",
        "worker-0.log.1",
    ]


def test_what_is_added_while_the_end_is_looked_for_is_not_taken_for_freed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RACE: the file grows just when there is no data behind the place yet."""
    path = tmp_path / "log"
    path.write_bytes(b"first")
    seek = os.lseek

    def grow_after(fd: int, at: int, how: int) -> int:
        try:
            return seek(fd, at, how)
        finally:
            if path.stat().st_size == 5:
                path.write_bytes(b"first, second")

    monkeypatch.setattr(os, "lseek", grow_after)
    with path.open("rb") as file:
        assert list(middle.pieces(file.fileno(), 5)) == [b", second"]
