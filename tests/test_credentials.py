"""The shared records of keys, pools and endpoints, as files."""

import errno
import os
import stat
import time
from pathlib import Path

import msgspec
import pytest

from farm import credentials, disk
from farm.credentials import Credentials
from farm.flock import lock_descriptor
from farm.project import Project
from farm.rest import VERSION, Scope


@pytest.fixture
def shared(project: Project) -> Credentials:
    return Credentials(project, "ada")


def noted(scope: Scope) -> Scope:
    return msgspec.structs.replace(scope, last_ok=scope.last_ok + 1.0)


def path_of(project: Project, scope: str = "acme-1") -> Path:
    return Path(project.scope_path(scope))


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_one_process_learns_another_reads(
    project: Project, shared: Credentials
) -> None:
    shared.update("acme-1", noted)
    other = Credentials(project, "bob")
    assert other.read("acme-1").last_ok == 1.0
    other.update("acme-1", noted)
    assert shared.read("acme-1").last_ok == 2.0
    assert shared.read("acme-1").generation == 2


def test_of_a_scope_without_a_record_nothing_is_known(shared: Credentials) -> None:
    assert shared.read("acme-1") == Scope(id="acme-1")
    assert shared.all() == []
    assert not shared.forget("acme-1")


def test_what_is_forgotten_is_gone(project: Project, shared: Credentials) -> None:
    shared.update("acme-1", noted)
    assert shared.forget("acme-1")
    assert shared.read("acme-1") == Scope(id="acme-1")
    assert not path_of(project).exists()


def test_a_change_that_changes_nothing_writes_nothing(
    project: Project, shared: Credentials
) -> None:
    shared.update("acme-1", lambda scope: scope)
    assert not path_of(project).exists()


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_all_that_is_written_is_its_owners_alone(
    project: Project, shared: Credentials, umask: int
) -> None:
    folder = Path(project.credentials)
    folder.rmdir()
    before = os.umask(umask & 0o077)
    try:
        shared.salt()
        shared.update("acme-1", noted)
    finally:
        os.umask(before)
    assert mode_of(folder) == 0o700
    assert {mode_of(path) for path in folder.iterdir()} == {0o600}
    assert sorted(path.name for path in folder.iterdir()) == [
        "acme-1.json",
        "acme-1.lock",
        "salt",
    ]
    assert list(Path(project.tmp).iterdir()) == []


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"id":"acme-1","last_ok":1e999}',
        b'{"id":"acme-1","rests":{"":{"level":"asleep"}}}',
        b'{"id":"acme-1","paces":{"":{"tat":"soon"}}}',
        b'{"id":"another","last_ok":7.0}',
        b'{"id":"acme-1","last_ok":7.0}'[:-3],
    ],
    ids=lambda raw: f"{raw[:48]!r}",
)
def test_a_record_that_cannot_be_read_counts_as_none_and_is_replaced(
    project: Project, shared: Credentials, raw: bytes
) -> None:
    path_of(project).write_bytes(raw)
    assert shared.read("acme-1") == Scope(id="acme-1")
    shared.update("acme-1", noted)
    assert shared.read("acme-1").last_ok == 1.0


def test_of_a_record_of_a_newer_farm_we_read_what_we_know(
    project: Project, shared: Credentials
) -> None:
    path_of(project).write_bytes(
        b'{"version":9,"id":"acme-1","last_ok":7.0,"colour":"red"}'
    )
    assert shared.read("acme-1").last_ok == 7.0
    assert shared.update("acme-1", noted).version == VERSION


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_what_is_no_record_stops_nobody(
    project: Project, shared: Credentials, kind: str
) -> None:
    path = path_of(project)
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("nowhere")
    shared.update("acme-1", noted)
    assert shared.read("acme-1").last_ok == 1.0


def test_a_folder_that_is_deleted_is_made_again(
    project: Project, shared: Credentials
) -> None:
    shared.update("acme-1", noted)
    disk.clear(project.credentials)
    assert shared.read("acme-1").last_ok == 0.0
    shared.update("acme-1", noted)
    assert Credentials(project, "bob").read("acme-1").last_ok == 1.0


def test_a_disk_that_takes_nothing_leaves_what_we_know_to_us(
    project: Project, shared: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(disk, "replace", full)
        shared.update("acme-1", noted)
        shared.update("acme-1", noted)
    assert shared.read("acme-1").last_ok == 2.0
    assert not path_of(project).exists()
    shared.update("acme-1", noted)
    assert Credentials(project, "bob").read("acme-1").last_ok == 3.0


def test_a_file_system_without_locks_is_done_without(
    project: Project, shared: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(fd: int) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(credentials, "lock_descriptor", none)
    shared.update("acme-1", noted)
    assert shared.read("acme-1").last_ok == 1.0


def test_a_lock_that_nobody_gives_back_is_waited_for_once(
    project: Project, shared: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "PATIENCE", 0.01)
    path = f"{project.credentials}/acme-1.lock"
    stopped = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    assert lock_descriptor(stopped)
    shared.update("acme-1", noted)
    assert shared.read("acme-1").last_ok == 1.0
    monkeypatch.setattr(credentials, "PATIENCE", 1e9)
    shared.update("acme-1", noted)
    os.close(stopped)
    assert shared.read("acme-1").last_ok == 2.0


def test_a_record_with_the_inode_of_the_one_before_is_read_anew(
    project: Project, shared: Credentials
) -> None:
    path = path_of(project)
    for number in range(300):
        path.unlink(missing_ok=True)
        path.write_bytes(f'{{"id":"acme-1","generation":{100 + number}}}'.encode())
        assert shared.read("acme-1").generation == 100 + number


def test_a_record_of_this_very_moment_is_read_anew(
    project: Project, shared: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    alike = (1, 1, 1, 1, time.time_ns() + 10**12)
    monkeypatch.setattr(credentials, "signature_of", lambda _: alike)
    for number in range(3):
        shared.update("acme-1", noted)
        assert shared.read("acme-1").generation == number + 1


def test_a_record_that_lies_still_is_read_once(
    project: Project, shared: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.update("acme-1", noted)
    monkeypatch.setattr(disk, "has_settled", lambda *_, **__: True)
    first = shared.read("acme-1")
    assert shared.read("acme-1") is first


# -- the salt ----------------------------------------------------------------------


def test_the_salt_is_the_same_for_all_processes(
    project: Project, shared: Credentials
) -> None:
    salt = shared.salt()
    assert len(salt) == 16
    assert Credentials(project, "bob").salt() == salt
    assert shared.salt() == salt


def test_a_salt_that_a_power_cut_left_empty_is_made_anew(
    project: Project, shared: Credentials
) -> None:
    Path(project.salt_path()).write_bytes(b"")
    assert len(shared.salt()) == 16
    assert Credentials(project, "bob").salt() == shared.salt()


def test_where_no_salt_can_be_kept_a_process_has_its_own(
    project: Project, shared: Credentials
) -> None:
    Path(project.salt_path()).mkdir()
    assert len(shared.salt()) == 16
