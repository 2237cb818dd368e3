"""The project folder: names of files, and task files that are none."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm import mount
from farm.errors import NoProjectError, TaskFileError, UsageError
from farm.project import MAX_TASK_BYTES, Project, find_project, key
from tests.sockets import make_socket

LONGEST = 255  # bytes of a file name


# -- names ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task_id", "expected"),
    [
        ("build", "build"),
        ("tiles/0-0", "tiles%2F0-0"),
        ("100%", "100%25"),
        ("a%2Fb", "a%252Fb"),
        ("a b\u00e4", "a b\u00e4"),
        ("../up", "..%2Fup"),
    ],
)
def test_an_id_is_written_as_one_file_name(task_id: str, expected: str) -> None:
    assert key(task_id) == expected


@given(st.sets(st.text("a/%2F5", min_size=1, max_size=6), min_size=2))
def test_no_two_ids_have_the_same_file_name(ids: set[str]) -> None:
    assert len({key(task_id) for task_id in ids}) == len(ids)


@pytest.mark.parametrize("letter", ["a", "\u00e4", "\u20ac", "\U0001f600", "%", "/"])
def test_no_name_of_ours_is_longer_than_the_file_system_allows(
    project: Project, letter: str
) -> None:
    task_id = letter * 2000
    paths = [project.ledger_path(task_id), project.log_path(task_id, 1000, "progress")]

    assert all(len(Path(p).name.encode()) <= LONGEST for p in paths)


def test_a_long_name_ends_in_a_hash_of_the_whole_id() -> None:
    one, other = key("a" * 300 + "1"), key("a" * 300 + "2")

    assert one != other
    assert re.fullmatch(r"a+-[0-9a-f]{32}", one)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tasks/build.json", "build"),
        ("tasks/a/b.json", "a/b"),
        ("tasks/a.b.json", "a.b"),
        ("tasks/build.result.json", None),
        ("tasks/.build.json", None),
        ("tasks/.git/a.json", None),
        ("tasks/notes.txt", None),
        ("tasks/build.JSON", None),
        ("build.json", None),
        ("tasks2/build.json", None),
    ],
)
def test_a_path_stands_for_an_id_or_for_none(
    project: Project, name: str, expected: str | None
) -> None:
    assert project.task_id(f"{project.root}/{name}") == expected


def test_an_id_and_its_path_stand_for_each_other(project: Project) -> None:
    assert project.task_id(project.task_path("a/b c%")) == "a/b c%"


def test_opening_a_project_twice_changes_nothing(tmp_path: Path) -> None:
    Project.open(tmp_path)
    (tmp_path / ".farm" / ".gitignore").write_text("mine")
    Project.open(tmp_path)

    assert (tmp_path / ".farm" / ".gitignore").read_text() == "mine"


def test_farms_own_folder_is_private_and_ignored_by_git(project: Project) -> None:
    assert Path(project.farm).stat().st_mode & 0o777 == 0o700
    assert Path(project.farm, ".gitignore").read_text() == "*\n"


def test_naming_a_project_touches_nothing(tmp_path: Path) -> None:
    Project(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_workers_are_known_by_their_life_files(project: Project) -> None:
    for name in ("b.lock", "a.lock", "a.json"):
        Path(project.workers, name).touch()

    assert project.worker_names() == ["a", "b"]


# -- task files -------------------------------------------------------------------------


def test_a_task_file_is_read_with_its_digest(project: Project) -> None:
    Path(project.task_path("a")).write_bytes(b"abc")

    found = project.read_task("a")

    assert found.raw == b"abc"
    assert found.sha256.startswith("ba7816bf8f01cfea")
    assert found.signature == project.task_signature("a")


def test_a_missing_task_file_is_missing(project: Project) -> None:
    with pytest.raises(FileNotFoundError):
        project.read_task("a")
    assert project.task_signature("a") is None


def test_a_change_of_the_same_size_changes_the_signature(project: Project) -> None:
    path = Path(project.task_path("a"))
    path.write_bytes(b"abc")
    before = project.task_signature("a")
    path.write_bytes(b"xyz")
    os.utime(path, ns=(1, 1))

    assert project.task_signature("a") != before


def make_big(path: Path) -> None:
    path.touch()
    os.truncate(path, MAX_TASK_BYTES + 1)


def make_link_out(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def make_link_up(path: Path) -> None:
    outside = path.parent.parent.parent / "outside.json"
    outside.write_text("{}")
    path.symlink_to("../../outside.json")


def make_dangling(path: Path) -> None:
    path.symlink_to("nowhere.json")


def make_loop(path: Path) -> None:
    path.symlink_to(path.name)


def make_link_to_folder(path: Path) -> None:
    (path.parent / "folder").mkdir()
    path.symlink_to("folder")


def make_link_to_fifo(path: Path) -> None:
    os.mkfifo(path.parent / "fifo")
    path.symlink_to("fifo")


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "folder": (Path.mkdir, "this is a folder, but a task is a regular file"),
    "fifo": (os.mkfifo, "this is a FIFO"),
    "socket": (make_socket, "this is a socket"),
    "big": (make_big, "may hold 50 MB, this one holds 52428801 bytes"),
    "link-out": (make_link_out, "a symbolic link to /etc/hostname, outside"),
    "link-up": (make_link_up, r"a symbolic link to .*/outside\.json, outside"),
    "dangling": (make_dangling, "a symbolic link to a file that is not there"),
    "loop": (make_loop, "symbolic link"),
    "link-to-folder": (make_link_to_folder, "this is a folder"),
    "link-to-fifo": (make_link_to_fifo, "this is a FIFO"),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_cannot_be_a_task_is_refused_with_a_reason(
    project: Project, bad: str
) -> None:
    make, sentence = BAD[bad]
    make(Path(project.task_path("a")))
    before = len(list(Path("/proc/self/fd").iterdir()))

    with pytest.raises(TaskFileError, match=sentence):
        project.read_task("a")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_file_of_exactly_fifty_megabytes_is_read(project: Project) -> None:
    path = Path(project.task_path("a"))
    path.touch()
    os.truncate(path, MAX_TASK_BYTES)

    assert len(project.read_task("a").raw) == MAX_TASK_BYTES


def test_a_link_inside_the_project_is_read(project: Project) -> None:
    Path(project.root, "shared.json").write_text("{}")
    Path(project.task_path("a")).symlink_to("../shared.json")

    assert project.read_task("a").raw == b"{}"


def test_a_link_is_judged_by_the_real_place_of_the_project(
    project: Project, tmp_path: Path
) -> None:
    (tmp_path / "door").symlink_to(project.root)
    Path(project.root, "shared.json").write_text("{}")
    Path(project.task_path("a")).symlink_to(f"{project.root}/shared.json")

    assert Project(tmp_path / "door").read_task("a").raw == b"{}"


AS_NOBODY = """
import os, sys
from farm.errors import TaskFileError
from farm.project import Project
project = Project(sys.argv[1])
os.setegid(65534)
os.seteuid(65534)
try:
    project.read_task("a")
except TaskFileError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_file_we_may_not_read_is_refused_with_advice(project: Project) -> None:
    path = Path(project.task_path("a"))
    path.write_text("{}")
    path.chmod(0)
    for folder in path.parents:
        if "pytest-of" not in str(folder):
            break
        folder.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, project.root],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr == ""
    assert done.stdout.strip() == (
        "cannot read it: Permission denied. Give the farm's user the right to read"
    )


# -- finding a project --------------------------------------------------------------------


@pytest.mark.parametrize("mark", [".farm/", "farm.toml"])
def test_the_nearest_project_upwards_is_found(tmp_path: Path, mark: str) -> None:
    deep = tmp_path / "project" / "a" / "b"
    deep.mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "project"):
        if mark.endswith("/"):
            (folder / mark).mkdir()
        else:
            (folder / mark).touch()

    assert find_project(deep) == str(tmp_path / "project")


def test_a_folder_with_tasks_is_a_project_if_none_is_above(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()

    assert find_project(tmp_path) == str(tmp_path)


def test_tasks_of_a_folder_above_are_not_taken(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "deep").mkdir()

    with pytest.raises(NoProjectError):
        find_project(tmp_path / "deep")


def test_no_project_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoProjectError, match="farm supervise PROJECT"):
        find_project(tmp_path)


# -- trust and mounts ---------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "trust"), [(0o755, False), (0o777, True)])
def test_a_folder_that_others_cannot_write_or_is_trusted_is_fine(
    project: Project, mode: int, trust: bool
) -> None:
    Path(project.tasks).chmod(mode)

    Path(project.settings).write_text(f"trust = {str(trust).lower()}\n")

    assert project.check_trust() == []


def test_a_folder_that_everybody_can_write_is_refused(project: Project) -> None:
    Path(project.tasks).chmod(0o777)

    with pytest.raises(UsageError, match="chmod o-w it, or, if you trust"):
        project.check_trust()


MOUNTS = """\
22 1 0:20 / / rw - ext4 /dev/sda1 rw
23 22 0:21 / /mnt rw shared:1 - nfs4 server:/x rw
24 23 0:22 / /mnt/local rw - xfs /dev/sdb1 rw
25 22 0:23 / /with\\040space rw - fuse.sshfs x rw
26 22 0:24 / /over rw - nfs4 server:/y rw
27 26 0:25 / /over rw - tmpfs none rw
28 22 0:26 / /mnt/local/\u00fcber rw - cifs //server/z rw
"""


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        ("/home/x", False),
        ("/mnt", True),
        ("/mnt/project", True),
        ("/mnt2/project", False),
        ("/mnt/local/project", False),
        ("/with space/project", True),
        ("/over/project", False),
        ("/mnt/local/\u00fcber/project", True),
    ],
)
def test_network_mounts_are_known_by_the_kernels_table(
    monkeypatch: pytest.MonkeyPatch, root: str, expected: bool
) -> None:
    monkeypatch.setattr(mount, "_table", lambda: MOUNTS)

    assert Project(root).network is expected


# -- paths that are not UTF-8 ----------------------------------------------------------


def odd_folder(tmp_path: Path) -> str:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    Path(odd, "tasks").mkdir(parents=True)
    return odd


def test_a_path_that_is_not_utf8_is_refused_before_anything_is_made(
    tmp_path: Path,
) -> None:
    odd = odd_folder(tmp_path)
    with pytest.raises(UsageError, match=r"/\\xff: this path is not UTF-8: rename"):
        Project.open(odd)

    assert [path.name for path in Path(odd).iterdir()] == ["tasks"]


def test_a_link_leads_to_a_project_whose_path_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(odd_folder(tmp_path))

    assert Project.open(tmp_path / "link").root == f"{tmp_path}/link"


def test_another_host_with_our_process_id_may_make_the_folders_at_once(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_the_middle = Path(project.farm, f".gitignore.{os.getpid()}")
    Path(project.farm, ".gitignore").unlink()
    real_open = os.open

    def open_after_it(path: Any, *args: Any, **options: Any) -> int:
        if str(path).startswith(".gitignore."):
            in_the_middle.touch()
        return real_open(path, *args, **options)

    monkeypatch.setattr(os, "open", open_after_it)
    project.make_folders()

    assert in_the_middle.exists()
    assert Path(project.farm, ".gitignore").read_text() == "*\n"
