"""Bytes on disk: whole, in one step, with one winner."""

import errno
import os
from pathlib import Path

import pytest

from farm import disk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


def names(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.iterdir())


# -- JSON -----------------------------------------------------------------------------


def test_a_value_is_one_line_of_json() -> None:
    assert disk.encode({"a": ["b\n", None]}) == b'{"a":["b\\n",null]}\n'


def test_text_that_is_no_utf8_is_refused() -> None:
    with pytest.raises(TypeError):
        disk.encode("\udcff")


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"NaN", b"1 2"])
def test_what_is_no_json_is_a_value_error(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"line|UTF-8|JSON|empty|document"):
        disk.decode(raw)


# -- reading --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 65536, 200_001])
def test_a_whole_file_is_read_wherever_its_offset_is(path: Path, size: int) -> None:
    raw = os.urandom(size)
    path.write_bytes(raw)
    with path.open("rb") as file:
        file.seek(size // 2)

        assert disk.read_fd(file.fileno()) == raw


def test_a_link_is_not_read(path: Path) -> None:
    path.symlink_to("/etc/hostname")

    with pytest.raises(OSError, match="symbolic links"):
        disk.read_file(str(path))


@pytest.mark.parametrize(
    ("limit", "expected"), [(3, b"def"), (6, b"abcdef"), (99, b"abcdef"), (0, b"")]
)
def test_a_tail_comes_with_the_whole_size(
    path: Path, limit: int, expected: bytes
) -> None:
    path.write_bytes(b"abcdef")

    assert disk.read_tail(path, limit) == (expected, 6)


def test_a_missing_file_has_an_empty_tail(path: Path) -> None:
    assert disk.read_tail(path, 10) == (b"", 0)


# -- writing --------------------------------------------------------------------------


@pytest.mark.fault(30)
def test_a_short_write_goes_on_where_it_stopped(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: really_write(fd, data[:3]))

    disk.write_aside(str(path), b"0123456789")

    assert path.read_bytes() == b"0123456789"


def test_what_an_interrupted_call_left_is_removed_not_truncated(path: Path) -> None:
    path.write_bytes(b"final already")
    final = path.with_name("final")
    final.hardlink_to(path)
    disk.write_aside(str(path), b"new")

    assert (path.read_bytes(), final.read_bytes()) == (b"new", b"final already")


def test_a_full_disk_leaves_nothing_behind(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "write", full)

    with pytest.raises(OSError, match="no space left"):
        disk.write_aside(str(path), b"new")
    assert names(path) == []


def test_a_new_file_is_the_owners_alone(path: Path) -> None:
    disk.write_aside(str(path), b"")

    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("sync", "expected"), [(False, 0), (True, 1)])
def test_bytes_are_synced_only_when_asked(
    path: Path, monkeypatch: pytest.MonkeyPatch, sync: bool, expected: int
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)

    disk.write_aside(str(path), b"new", sync=sync)

    assert len(synced) == expected


# -- names ----------------------------------------------------------------------------


def test_the_first_to_link_wins(path: Path) -> None:
    one, other = path.with_name("one"), path.with_name("other")
    one.write_bytes(b"1")
    other.write_bytes(b"2")

    won = [disk.link_new(str(one), str(path)), disk.link_new(str(other), str(path))]

    assert (won, path.read_bytes()) == ([True, False], b"1")


def test_linking_again_what_is_linked_is_a_success(path: Path) -> None:
    aside = path.with_name("aside")
    aside.write_bytes(b"1")
    disk.link_new(str(aside), str(path))

    assert disk.link_new(str(aside), str(path))


@pytest.mark.parametrize("code", [errno.EEXIST, errno.EIO, errno.ETIMEDOUT])
def test_a_link_whose_reply_was_lost_is_a_success(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    aside = path.with_name("aside")
    aside.write_bytes(b"1")
    really_link = os.link

    def link(source: str, target: str) -> None:
        really_link(source, target)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", link)

    assert disk.link_new(str(aside), str(path))


def test_a_link_that_fails_otherwise_is_an_error(path: Path) -> None:
    aside = path.with_name("aside")
    aside.write_bytes(b"1")

    with pytest.raises(FileNotFoundError):
        disk.link_new(str(aside), str(path.parent / "no" / "folder"))


@pytest.mark.parametrize("taken", ["dangling", "folder"])
def test_a_name_that_anything_has_is_taken(path: Path, taken: str) -> None:
    aside = path.with_name("aside")
    aside.write_bytes(b"1")
    if taken == "folder":
        path.mkdir()
    else:
        path.symlink_to("nowhere")

    assert not disk.link_new(str(aside), str(path))


def test_two_names_of_one_file_are_the_same_file(path: Path) -> None:
    other, link = path.with_name("other"), path.with_name("link")
    path.write_bytes(b"")
    other.write_bytes(b"")
    os.link(path, link)

    assert disk.same_file(str(path), str(link))
    assert not disk.same_file(str(path), str(other))
    assert not disk.same_file(str(path), str(path.with_name("missing")))


def test_replace_puts_the_new_bytes_and_leaves_nothing_aside(path: Path) -> None:
    path.write_bytes(b"old")
    aside = path.with_name("aside")
    aside.write_bytes(b"half of an earlier call")

    disk.replace(str(path), b"new", str(aside))

    assert (path.read_bytes(), names(path)) == (b"new", ["file"])


def test_unlink_says_whether_there_was_a_file(path: Path) -> None:
    path.touch()

    assert [disk.unlink(str(path)), disk.unlink(str(path))] == [True, False]


def test_unlink_of_a_folder_is_an_error(path: Path) -> None:
    path.mkdir()

    with pytest.raises(IsADirectoryError):
        disk.unlink(str(path))


def test_folders_are_synced_and_looked_at_without_leaving_descriptors(
    path: Path,
) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    disk.sync_folder(str(path.parent))
    disk.drop_stale_names(str(path.parent))
    disk.drop_stale_names(str(path))

    assert len(list(Path("/proc/self/fd").iterdir())) == before
