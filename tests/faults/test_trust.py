"""Whose tasks a farm runs: those of its user, and of nobody else unless that user says so.

A task is a program. So what belongs to another user, or what every user of the machine
could write, is refused before anything of it runs; a group that can write is a warning.
"""

import os
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from farm import disk, trust
from farm.errors import UsageError
from farm.project import Project, find_project
from tests.driver import Farm, said
from tests.faults.tools import AS_NOBODY, NOBODY, needs

pytestmark = pytest.mark.processes

RUNNERS = (["worker", "--until-done"], ["supervise", "--until-done", "-j", "1"])


def give_away(*paths: Path) -> None:
    """Let another user own these."""
    for path in paths:
        os.chown(path, NOBODY, NOBODY)


# -- what belongs to another user ----------------------------------------------------


@needs("root")
@pytest.mark.parametrize("part", [".", "farm.toml", "tasks", "tasks/theirs"])
@pytest.mark.parametrize("verb", RUNNERS, ids=lambda verb: verb[0])
def test_a_part_of_another_user_is_refused_with_its_owner_and_the_way_out(
    farm: Farm, part: str, verb: list[str]
) -> None:
    farm.write("farm.toml", "trust = true" if part == "farm.toml" else "")
    farm.drop("theirs/job", run="true")
    give_away(farm.root / part)
    told = farm.farm(*verb)

    assert (told.returncode, farm.status_of("theirs/job")) == (2, None), told
    assert f"{farm.root / part} belongs to {trust.user_name(NOBODY)}" in told.stderr
    assert f"add --trust or set FARM_TRUST={farm.root}" in told.stderr
    assert not farm.state.exists(), "the worker made a folder in a stranger's project"


@needs("root")
@pytest.mark.parametrize("verb", RUNNERS, ids=lambda verb: verb[0])
@pytest.mark.parametrize("way", ["--trust", "all", "path", "paths", "link"])
def test_the_user_may_allow_a_strangers_project(
    farm: Farm, tmp_path: Path, verb: list[str], way: str
) -> None:
    farm.drop("theirs/job", run="true")
    give_away(farm.root, farm.tasks, farm.tasks / "theirs")
    (tmp_path / "link").symlink_to(farm.root)
    values = {
        "all": "1",
        "path": str(farm.root),
        "paths": f"/somewhere/else:{farm.root}",
        "link": str(tmp_path / "link"),
    }
    flags = ["--trust"] if way == "--trust" else []
    environ = {} if way == "--trust" else {"FARM_TRUST": values[way]}
    told = farm.farm(*verb, *flags, **environ)

    assert (told.returncode, farm.status_of("theirs/job")) == (0, "succeeded"), told


@needs("root")
def test_a_path_that_is_trusted_says_nothing_of_other_projects(
    farm: Farm, tmp_path: Path
) -> None:
    farm.drop("job", run="true")
    give_away(farm.root)
    told = farm.farm("worker", "--until-done", FARM_TRUST=f"{tmp_path}:/")

    assert (told.returncode, farm.status_of("job")) == (2, None), told


def test_a_trusted_path_must_be_absolute(farm: Farm) -> None:
    told = farm.farm("worker", "--until-done", FARM_TRUST="project")

    assert told.returncode == 2, told
    assert "absolute paths joined by `:`" in told.stderr


@needs("root")
def test_what_belongs_to_the_user_who_called_sudo_is_ours(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm.drop("mine/job", run="true")
    give_away(farm.root, farm.tasks, farm.tasks / "mine")
    stranger = farm.farm("worker", "--until-done", SUDO_UID=str(NOBODY - 1))
    caller = farm.farm("worker", "--until-done", SUDO_UID=str(NOBODY))

    assert (stranger.returncode, caller.returncode) == (2, 0), caller
    assert farm.status_of("mine/job") == "succeeded"


@needs("another user")
def test_only_root_may_say_who_called_sudo(in_the_open: Farm) -> None:
    """SUDO_UID in the environment of anybody else is only a variable."""
    farm = in_the_open
    farm.drop("job", run="true")
    give_away(farm.root, farm.tasks)
    os.chown(farm.tasks, NOBODY - 1, -1)
    told = subprocess.run(
        [*AS_NOBODY, sys.executable, "-P", "-m", "farm", *RUNNERS[0]],
        cwd=farm.root,
        env=farm.environ | {"SUDO_UID": str(NOBODY - 1)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (told.returncode, farm.status_of("job")) == (2, None), told
    assert f"{farm.tasks} belongs to" in told.stderr


@needs("root")
@pytest.mark.parametrize("verb", ["status", "show", "why", "logs", "workers", "check"])
def test_verbs_that_only_read_say_whose_it_is_and_go_on(farm: Farm, verb: str) -> None:
    farm.drop("job", run="echo hello")
    assert farm.work() == 0
    give_away(farm.root)
    args = ["job"] if verb in ("show", "why", "logs") else []
    told = farm.farm(verb, *args)

    assert f"{farm.root} belongs to {trust.user_name(NOBODY)}" in told.stderr
    assert told.returncode == (1 if verb == "check" else 0), told
    assert "Traceback" not in told.stderr


@needs("root")
def test_a_planted_project_above_the_current_folder_never_runs(tmp_path: Path) -> None:
    """Who walks up from a folder below /tmp comes by what anybody left there."""
    above = Farm(tmp_path / "like-tmp")
    above.drop("evil", run="true")
    above.write("farm.toml", "trust = true")
    give_away(above.tasks, above.tasks / "evil.json", above.root / "farm.toml")
    above.root.chmod(0o1777)
    mine = above.root / "mine"
    mine.mkdir(0o755)
    told = subprocess.run(
        [sys.executable, "-P", "-m", "farm", *RUNNERS[0]],
        cwd=mine,
        env=above.environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (told.returncode, above.status_of("evil")) == (2, None), told
    assert str(above.root) in told.stderr


def test_a_folder_with_tasks_goes_before_a_project_above_it(farm: Farm) -> None:
    farm.write("farm.toml", "")
    own = farm.root / "mine"
    (own / "tasks").mkdir(parents=True)

    assert find_project(own) == str(own)
    assert find_project(own / "tasks") == str(farm.root)


@needs("root")
def test_a_sub_folder_that_becomes_a_strangers_is_passed_over_at_once(
    farm: Farm,
) -> None:
    """What is above was right when the worker began; what comes later is still looked at."""
    farm.start_worker()
    farm.drop("mine/job", run="true")
    farm.wait_for("succeeded", "mine/job")
    folder = farm.root / "theirs"
    folder.mkdir()
    (folder / "job.json").write_text('{"run": "true"}')
    give_away(folder)
    folder.rename(farm.tasks / "theirs")
    farm.drop("after", run="true")
    farm.wait_for("succeeded", "after")
    checked = farm.farm("check")

    assert farm.status_of("theirs/job") is None
    assert f"tasks/theirs/: belongs to {trust.user_name(NOBODY)}" in checked.stdout


@needs("root")
def test_sessions_of_a_program_refuse_a_strangers_project_too(farm: Farm) -> None:
    give_away(farm.root)
    farm.write(
        "use.py",
        "import asyncio, farm\n"
        "manager = farm.ParallelSessionManager(1, project='.')\n"
        "asyncio.run(manager.run_parallel_agents([{}], print))\n",
    )
    told = farm.start_python("use.py")

    assert told.wait(30) != 0
    assert "add --trust or set FARM_TRUST" in said(farm)


# -- what every user of the machine can write ----------------------------------------


@pytest.mark.parametrize("part", [".", "farm.toml", "tasks", "tasks/open"])
@pytest.mark.parametrize("verb", RUNNERS, ids=lambda verb: verb[0])
def test_what_every_user_can_write_is_refused(
    farm: Farm, part: str, verb: list[str]
) -> None:
    farm.write("farm.toml", "workers = 1")
    farm.drop("open/job", run="true")
    (farm.root / part).chmod(0o777)
    told = farm.farm(*verb)
    checked = farm.farm("check")

    assert (told.returncode, "chmod o-w" in told.stderr) == (2, True), told
    assert str(farm.root / part) in told.stderr
    assert (checked.returncode, "chmod o-w" in checked.stderr) == (1, True), checked
    assert farm.status_of("open/job") is None


@pytest.mark.parametrize("levels", [1, 2])
def test_a_project_that_every_user_could_replace_is_refused(
    farm: Farm, levels: int
) -> None:
    """Without the sticky bit whoever may write a folder may rename all that is in it."""
    above = farm.root.parents[levels - 1]
    before = stat.S_IMODE(above.stat().st_mode)
    farm.drop("job", run="true")
    try:
        above.chmod(0o777)
        told = farm.farm("worker", "--until-done")
        assert (told.returncode, farm.status_of("job")) == (2, None), told
        assert f"{above} can be written by every user" in told.stderr
        assert "chmod +t" in told.stderr

        above.chmod(0o1777)
        assert farm.work() == 0
    finally:
        above.chmod(before)


def test_a_folder_that_opens_while_workers_live_is_passed_over_until_it_is_closed(
    farm: Farm,
) -> None:
    farm.start_worker()
    folder = farm.root / "open"
    folder.mkdir()
    (folder / "job.json").write_text('{"run": "true"}')
    folder.chmod(0o777)
    folder.rename(farm.tasks / "open")
    farm.drop("after", run="true")
    farm.wait_for("succeeded", "after")
    assert farm.status_of("open/job") is None
    checked = farm.farm("check")
    assert "tasks/open/: can be written by every user of this machine" in checked.stdout

    (farm.tasks / "open").chmod(0o755)
    farm.drop("once-more", run="true")  # chmod alone is no event of a folder's names
    farm.wait_for("succeeded", "once-more", "open/job")


def test_a_task_file_that_every_user_can_write_is_refused_until_it_is_not(
    farm: Farm,
) -> None:
    farm.drop("job", run="true")
    (farm.tasks / "job.json").chmod(0o666)
    farm.work()
    message = farm.wait_for("invalid", "job")["error"]["message"]
    (farm.tasks / "job.json").chmod(0o644)
    farm.work()

    assert "every user of this machine can write it" in message
    assert farm.status_of("job") == "succeeded"


@pytest.mark.parametrize("by", ["farm.toml", "environment"])
def test_a_user_may_trust_all_who_can_write_their_project(farm: Farm, by: str) -> None:
    farm.write("farm.toml", "trust = true" if by == "farm.toml" else "")
    farm.drop("open/job", run="true")
    for path in (farm.root, farm.tasks, farm.tasks / "open"):
        path.chmod(0o777)
    (farm.tasks / "open/job.json").chmod(0o666)
    environ = {} if by == "farm.toml" else {"FARM_TRUST": "true"}
    told = farm.farm("worker", "--until-done", **environ)

    assert (told.returncode, "warning" in told.stderr) == (0, False), told
    assert farm.status_of("open/job") == "succeeded"


# -- groups and access lists ---------------------------------------------------------


@needs("root")
@pytest.mark.parametrize("part", ["tasks", "tasks/shared"])
@pytest.mark.parametrize("verb", ["worker", "supervise"])
def test_a_group_that_can_write_is_warned_about_once(
    farm: Farm, verb: str, part: str
) -> None:
    farm.drop("shared/job", run="true")
    os.chown(farm.root / part, 0, NOBODY)
    (farm.root / part).chmod(0o2775)
    told = farm.farm(verb, "--until-done")

    assert (told.returncode, farm.status_of("shared/job")) == (0, "succeeded"), told
    assert told.stderr.count("warning: the group") == 1
    assert str(farm.root / part) in told.stderr
    assert "warning: the group" in farm.farm("check").stderr
    logs = (farm.state / "logs").glob("worker-*")
    assert not any("warning" in log.read_text() for log in logs)


def test_many_folders_of_a_group_make_one_short_warning(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "is_private", lambda *_: False)
    for number in range(9):
        folder = farm.tasks / str(number)
        folder.mkdir()
        folder.chmod(0o775)

    (warning,) = Project(farm.root).check_trust()
    assert "6 more folders" in warning


def test_a_group_of_ones_own_is_nobody_else(project: Project) -> None:
    """Many systems make such a group for each user; it owns all that they make."""
    if os.geteuid() == 0:
        os.chown(project.tasks, 0, 0)
    else:
        os.chown(project.tasks, -1, os.getegid())
    if not trust.is_private(Path(project.tasks).stat().st_gid, os.geteuid()):
        pytest.skip("this user has no group of their own")
    Path(project.tasks).chmod(0o775)

    assert project.check_trust() == []


def access_list(*entries: tuple[int, int, int]) -> bytes:
    """An ACL as the kernel keeps it: (tag, rights, id) each; see `man 5 acl`."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)


NOT_NAMED = 0xFFFFFFFF
OWNER, USER, OWNING_GROUP, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32


@pytest.mark.parametrize(
    ("entry", "mask", "warned"),
    [
        ((USER, 6, NOBODY), 7, "the user"),
        ((GROUP, 6, NOBODY), 7, "the group"),
        ((USER, 4, NOBODY), 7, None),  # may only read
        ((USER, 6, NOBODY), 5, None),  # the mask takes the right away
        ((USER, 6, os.geteuid()), 7, None),
    ],
)
def test_a_user_or_group_whom_an_access_list_lets_write_is_named(
    project: Project, entry: tuple[int, int, int], mask: int, warned: str | None
) -> None:
    acl = access_list(
        (OWNER, 7, NOT_NAMED),
        *([entry] if entry[0] == USER else []),
        (OWNING_GROUP, 5, NOT_NAMED),
        *([entry] if entry[0] == GROUP else []),
        (MASK, mask, NOT_NAMED),
        (OTHER, 5, NOT_NAMED),
    )
    try:
        os.setxattr(project.tasks, "system.posix_acl_access", acl)
    except OSError as error:
        pytest.skip(f"this file system takes no access list: {error.strerror}")
    told = project.check_trust()

    assert len(told) == (warned is not None), told
    if warned:
        assert told[0].startswith(warned)
        assert project.tasks in told[0]


# -- links that appear while farm makes its folders ----------------------------------


def test_a_link_that_takes_the_place_of_dot_farm_changes_nothing_elsewhere(
    farm: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may write the project's folder swaps the two after farm has looked."""
    precious = tmp_path / "precious"
    precious.mkdir(mode=0o755)
    open_own = disk._open_own

    def open_and_swap(path: str, above: int, mode: int) -> int:
        fd = open_own(path, above, mode)
        if path == str(farm.state):
            farm.state.rename(tmp_path / "elsewhere")
            farm.state.symlink_to(precious)
        return fd

    monkeypatch.setattr(disk, "_open_own", open_and_swap)
    Project.open(farm.root)

    assert list(precious.iterdir()) == []
    assert stat.S_IMODE(precious.stat().st_mode) == 0o755
    assert (tmp_path / "elsewhere" / "locks").is_dir()


@needs("root")
def test_a_strangers_dot_farm_that_appears_late_is_refused(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RACE: it was missing at the first look, so only the open descriptor tells."""
    check = trust.check_owner

    def check_and_plant(path: str, fd: int | None = None) -> None:
        check(path, fd)
        if fd is None:
            farm.state.mkdir()
            give_away(farm.state)

    monkeypatch.setattr(trust, "check_owner", check_and_plant)
    with pytest.raises(UsageError, match="a farm has one user"):
        Project.open(farm.root)
    assert list(farm.state.iterdir()) == []


# -- cost ----------------------------------------------------------------------------


def test_names_without_sub_folders_are_not_read_for_this(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million tasks in one folder cost the check nothing."""
    if Path(project.tasks).stat().st_nlink != trust.EMPTY_LINKS:
        pytest.skip("this file system does not count the folders in a folder")
    Path(project.tasks, "job.json").write_text("{}")
    monkeypatch.delattr(os, "scandir")

    assert project.check_trust() == []
