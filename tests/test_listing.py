"""The listing: names only, and no folder is read twice without need."""

import os
import time
from pathlib import Path

import pytest

from farm import listing as module
from farm.listing import Listing
from farm.project import Project

OLD = 1_000_000_000  # POSIX seconds, long ago


class Looks:
    """A listing, and the folders it has read."""

    def __init__(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        self.listing = Listing(project)
        self.read: list[str] = []
        self.now = time.time_ns()
        really_read = module._read_folder

        def read(path: str, prefix: str) -> module.Folder:
            self.read.append(prefix)
            return really_read(path, prefix)

        monkeypatch.setattr(module, "_read_folder", read)
        monkeypatch.setattr(time, "time_ns", lambda: self.now)
        monkeypatch.setattr(
            time, "clock_gettime_ns", lambda clock: {5: self.now}[clock]
        )

    def look(self) -> list[str]:
        """Which folders one more look has read."""
        self.read.clear()
        self.listing.refresh()
        return sorted(self.read)


@pytest.fixture
def looks(project: Project, monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(project, monkeypatch)


def put(project: Project, name: str) -> Path:
    path = Path(project.tasks, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def age(project: Project, *names: str) -> None:
    """Make the folders look as if nothing had happened in them for years."""
    for name in names:
        os.utime(Path(project.tasks, name), (OLD, OLD))


def test_tasks_and_results_are_told_apart_by_name(
    project: Project, looks: Looks
) -> None:
    for name in ("a.json", "a.result.json", "t/b.json", "t/u/c.json", "notes.txt"):
        put(project, name)
    looks.look()

    assert looks.listing.tasks() == {"a", "t/b", "t/u/c"}
    assert looks.listing.results() == {"a"}


def test_hidden_names_are_never_tasks(project: Project, looks: Looks) -> None:
    for name in (".a.json", ".git/b.json", "t/.c.json"):
        put(project, name)
    looks.look()

    assert looks.listing.tasks() == set()


def test_a_folder_named_like_a_task_is_one_and_is_not_entered(
    project: Project, looks: Looks
) -> None:
    put(project, "a.json/b.json")
    looks.look()

    assert looks.listing.tasks() == {"a"}


def test_linked_folders_are_not_followed(
    project: Project, looks: Looks, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b.json").touch()
    Path(project.tasks, "link").symlink_to(tmp_path / "other")
    Path(project.tasks, "loop").symlink_to(project.tasks)
    looks.look()

    assert looks.listing.tasks() == set()


def test_a_folder_that_did_not_change_is_not_read_again(
    project: Project, looks: Looks
) -> None:
    put(project, "t/a.json")
    age(project, "", "t")
    first = looks.look()

    assert (first, looks.look()) == (["", "t/"], [])
    assert looks.listing.tasks() == {"t/a"}


def test_only_the_folder_that_changed_is_read_again(
    project: Project, looks: Looks
) -> None:
    put(project, "t/a.json")
    put(project, "u/b.json")
    age(project, "", "t", "u")
    looks.look()
    put(project, "u/c.json")

    assert looks.look() == ["u/"]
    assert looks.listing.tasks() == {"t/a", "u/b", "u/c"}


WHOLE, PART = 1_700_000_000_000_000_000, 1_700_000_000_123_456_789  # of a second
LONGEST = 2_000_000_000  # nanoseconds


def look_twice(project: Project, looks: Looks, changed: int, after: int) -> list[str]:
    """Look so long after a change, then once more: which folders are read again."""
    os.utime(project.tasks, ns=(changed, changed))
    looks.now = changed + after
    looks.look()
    return looks.look()


@pytest.mark.parametrize(
    ("changed", "tick", "network"),
    [
        (PART, 0, False),
        (PART, LONGEST, True),
        (WHOLE, LONGEST, False),
        (WHOLE + 500_000_000, 100_000_000, False),
        (WHOLE + 520_000_000, 10_000_000, False),
        (WHOLE + 123_000_000, 1_000_000, False),
        (WHOLE + 123_400_000, 100_000, False),
    ],
    ids=["here", "on a server", "seconds", "tenths", "10 ms", "1 ms", "0.1 ms"],
)
def test_a_folder_is_read_again_until_its_clock_has_ticked_since_it_changed(
    project: Project, looks: Looks, changed: int, tick: int, *, network: bool
) -> None:
    project.network = network

    assert look_twice(project, looks, changed, tick) == [""]
    assert look_twice(project, looks, changed, tick + 1) == []


def test_no_second_change_goes_unseen_however_soon_it_comes(project: Project) -> None:
    listing = Listing(project)
    for number in range(300):  # by the kernel's own clock and stamps
        listing.refresh()
        put(project, f"{number}.json")
        listing.refresh()

        assert len(listing.tasks()) == number + 1


def test_a_second_change_within_a_tick_is_seen(project: Project, looks: Looks) -> None:
    put(project, "a.json")
    look_twice(project, looks, PART, 0)
    put(project, "b.json")
    os.utime(project.tasks, ns=(PART, PART))
    looks.look()

    assert looks.listing.tasks() == {"a", "b"}


def test_a_folder_of_the_future_is_read_again(project: Project, looks: Looks) -> None:
    os.utime(project.tasks, (4_000_000_000, 4_000_000_000))
    looks.look()

    assert looks.look() == [""]


def test_a_removed_folder_is_forgotten(project: Project, looks: Looks) -> None:
    path = put(project, "t/a.json")
    age(project, "", "t")
    looks.look()
    path.unlink()
    path.parent.rmdir()
    changed = looks.listing.refresh()

    assert changed
    assert looks.listing.tasks() == set()


def test_refresh_says_whether_anything_changed(project: Project, looks: Looks) -> None:
    age(project, "")
    said = [looks.listing.refresh(), looks.listing.refresh()]
    put(project, "a.json")
    said.append(looks.listing.refresh())

    assert said == [True, False, True]


def test_a_missing_tasks_folder_is_empty(project: Project, looks: Looks) -> None:
    Path(project.tasks).rmdir()
    looks.look()

    assert looks.listing.tasks() == set()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (b"a\nb.json", "holds a control character"),
        (b"\xff.json", "not UTF-8"),
        (b"x" * 250 + b".json", "too long"),
    ],
)
def test_a_name_that_can_never_be_a_task_is_kept_apart(
    project: Project, looks: Looks, name: bytes, sentence: str
) -> None:
    with open(os.path.join(os.fsencode(project.tasks), name), "wb"):  # noqa: PTH118, PTH123 - bytes
        put(project, "a.json")
    looks.look()

    assert looks.listing.tasks() == {"a"}
    assert [sentence in why for why in looks.listing.unusable().values()] == [True]


@pytest.mark.parametrize(
    "name", ["b.JSON", "b.Json", "b.json.txt", "b.JSON.TXT", "b.json.", "sub/b.json "]
)
def test_a_name_that_was_meant_for_a_task_is_kept_apart(
    project: Project, looks: Looks, name: str
) -> None:
    put(project, name)
    put(project, "a.json")
    looks.look()
    said = "a task file's name ends in .json, in small letters: rename it"

    assert looks.listing.tasks() == {"a"}
    assert looks.listing.unusable() == {name: said}


@pytest.mark.parametrize(
    "name", ["b.txt", "b.json~", "b.json.bak", "b.jsonl", "json", "JSON", ".b.JSON"]
)
def test_other_files_are_nobodys_business(
    project: Project, looks: Looks, name: str
) -> None:
    put(project, name)
    looks.look()

    assert (looks.listing.tasks(), looks.listing.unusable()) == (set(), {})


def test_a_folder_may_be_called_as_it_likes(project: Project, looks: Looks) -> None:
    put(project, "B.JSON/a.json")
    looks.look()

    assert (looks.listing.tasks(), looks.listing.unusable()) == ({"B.JSON/a"}, {})


def test_the_longest_name_with_a_result_is_a_task(
    project: Project, looks: Looks
) -> None:
    longest = "x" * (255 - len(".result.json"))
    put(project, f"{longest}.json")
    looks.look()

    assert looks.listing.tasks() == {longest}
    assert looks.listing.unusable() == {}


def test_a_folder_that_may_not_be_read_is_named_and_disturbs_no_other(
    project: Project, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(project, "closed/a.json")
    put(project, "b.json")
    really_scan = os.scandir

    def scan(path: str) -> object:
        if "closed" in path:
            raise PermissionError(13, "Permission denied")
        return really_scan(path)

    monkeypatch.setattr(os, "scandir", scan)
    looks.look()

    assert looks.listing.tasks() == {"b"}
    assert looks.listing.unusable() == {
        "closed/": "cannot look into this folder: Permission denied"
    }
