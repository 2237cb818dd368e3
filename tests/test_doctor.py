"""What `farm doctor` measures: each check, and that it can fail."""

import errno
import fcntl
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from watchdog.observers.api import BaseObserver

from farm import disk, doctor, process, rescue, trial, trust
from farm.bell import Bell
from farm.doctor import Finding, looks, told, trials
from farm.doctor.told import Level, Told
from farm.errors import MountError
from farm.health import Health, write_health
from farm.ledger import Claimed, Ledger
from farm.life import Life
from farm.mount import Mount, find_mount
from farm.process import Identity
from farm.project import CHECK, MOVED, Project
from farm.watcher import Watcher
from tests import attempts
from tests.faults.tools import needs
from tests.lives import FOREIGN, lay_life_file

pytestmark = pytest.mark.processes

EVERY = {**looks.LOOKS, **trials.TRIALS}
HERE_AND_NOW = {"space", "file system", "open files", "processes", "inotify"}
OK, WARN, FAIL = Level


def levels(project: Project) -> dict[str, Level]:
    """How each check ended."""
    return {finding.name: finding.level for finding in doctor.examine(project)}


def check(project: Project, name: str) -> Finding:
    """One check as `examine` makes it, with whatever it raises."""
    return doctor._find(name, EVERY[name], project)


def names(root: str) -> list[str]:
    """Everything below a folder."""
    return sorted(str(path) for path in Path(root).rglob("*"))


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others may test on this machine: a moment may last long."""
    monkeypatch.setattr(trials, "MOMENT", 20.0)


@pytest.fixture
def new(tmp_path: Path) -> Project:
    """A folder that is no project yet."""
    return Project(tmp_path)


# -- all of it -------------------------------------------------------------------------


def test_a_healthy_project_keeps_every_promise(project: Project) -> None:
    found = levels(project)

    assert list(found) == list(EVERY)
    assert {name for name, level in found.items() if level != OK} <= HERE_AND_NOW
    assert FAIL not in found.values()


def test_a_folder_that_is_no_project_is_said_first_and_tried(new: Project) -> None:
    first, *others = doctor.examine(new)

    assert first.said == f"{new.root} is no project yet (farm init makes it one)"
    assert {f.name for f in others if f.level != OK} <= HERE_AND_NOW


@pytest.mark.parametrize("made", ["", "tasks", ".farm", "tasks/.farm", "farm.toml"])
def test_nothing_is_left_behind(new: Project, made: str) -> None:
    if made:
        Path(new.root, made).mkdir(parents=True)
    before = names(new.root)
    doctor.examine(new)

    assert names(new.root) == before


def test_nothing_is_left_in_a_project_with_workers(
    project: Project, alive: Life
) -> None:
    before = names(project.root)
    doctor.examine(project)

    assert names(project.root) == before


def test_nothing_is_left_where_every_trial_fails(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    for call in ("link", "fsync", "fstat"):
        monkeypatch.setattr(os, call, broken)
    before = names(project.root)
    found = levels(project)
    monkeypatch.undo()

    assert [found[name] for name in ("link", "write", "inodes")] == [FAIL] * 3
    assert names(project.root) == before


def test_results_are_linked_into_the_tasks_folder_that_is_there(
    new: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a file system of its own, also before farm was ever used."""
    Path(new.tasks).mkdir()
    linked = []
    monkeypatch.setattr(trial, "link_fault", lambda one, other: linked.append(other))
    doctor.examine(new)

    assert {str(Path(path).parent) for path in linked} == {new.tasks}


@pytest.mark.parametrize("checks", ["LOOKS", "TRIALS"])
def test_a_check_that_cannot_be_made_is_a_fail(
    project: Project, monkeypatch: pytest.MonkeyPatch, checks: str
) -> None:
    def refuse(_: Project) -> Told:
        raise PermissionError(errno.EACCES, "Permission denied", "/x")

    monkeypatch.setattr(doctor, "LOOKS", {})
    monkeypatch.setattr(doctor, "TRIALS", {})
    monkeypatch.setitem(getattr(doctor, checks), "any", refuse)

    assert doctor.examine(project) == [
        Finding(
            "any",
            FAIL,
            "/x: Permission denied",
            "give the farm's user the right to write there",
        )
    ]


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ([], "this folder keeps farm's promises"),
        ([WARN], "this folder keeps farm's promises, with 1 warning"),
        ([WARN, WARN], "this folder keeps farm's promises, with 2 warnings"),
        ([WARN, FAIL, FAIL], "farm would not work here: b: said b; c: said c"),
    ],
)
def test_the_verdict_is_one_sentence(bad: list[Level], sentence: str) -> None:
    rows = zip("abc", bad, strict=False)
    findings = [Finding(name, level, f"said {name}", "") for name, level in rows]

    assert doctor.verdict([Finding("z", OK, "", ""), *findings]) == sentence


# -- locks, links, inodes ----------------------------------------------------------------


def test_a_lock_that_two_files_get_is_a_fail(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)

    assert trials.flock(project).said == "two owners get the same lock"


def test_a_lock_that_another_process_gets_too_is_a_fail(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "lock_fault", lambda *_: None)
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)

    assert trials.flock(project).said == "another process asked for our lock: held"
    assert trials.flock(project).level is FAIL


def test_a_process_that_cannot_even_ask_is_a_fail(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "_OTHER", "print('No locks available')")

    assert trials.flock(project).said.endswith("our lock: No locks available")
    assert trials.dead_owner(project).said.endswith("No locks available; then we: held")


_OUTLIVED = """
import fcntl, os, sys
held = open(sys.argv[1], "r+")
fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
if os.fork():
    print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_that_outlives_its_owner_is_a_fail(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "_OTHER", _OUTLIVED)
    monkeypatch.setattr(trials, "MOMENT", 0.1)

    assert trials.dead_owner(project).said == "a killed process kept its lock for 0.1 s"


def test_a_living_owners_lock_that_we_get_is_a_fail(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)

    assert trials.dead_owner(project).said.endswith("held; then we: held")


def test_a_link_that_overwrites_is_a_fail(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def overwrite(source: str, target: str) -> None:
        link(source, f"{source}.again")
        Path(f"{source}.again").rename(target)

    monkeypatch.setattr(os, "link", overwrite)

    assert trials.link(project).said == "8 of 8 links to one name at once were made"
    assert trials.link(project).level is FAIL


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.EPERM, "give the farm's user the right"),
        (errno.EXDEV, "keep tasks/ and .farm/ on one file system"),
        (errno.EOPNOTSUPP, "farm needs flock and hard links there"),
    ],
)
def test_a_link_that_is_refused_is_a_fail(
    project: Project, monkeypatch: pytest.MonkeyPatch, code: int, advice: str
) -> None:
    def refuse(_: str, target: str) -> None:
        raise OSError(code, os.strerror(code), target)

    monkeypatch.setattr(os, "link", refuse)
    found = check(project, "link")

    assert found.level is FAIL
    assert os.strerror(code) in found.said
    assert found.advice.startswith(advice)


@pytest.mark.parametrize("started", [0, 3], ids=["none", "some"])
def test_threads_that_cannot_be_started_are_a_fail(
    project: Project, monkeypatch: pytest.MonkeyPatch, started: int
) -> None:
    start, count = threading.Thread.start, iter(range(100))
    words = "can't start new thread"

    def refuse(thread: threading.Thread) -> None:
        if next(count) >= started:
            raise RuntimeError(words)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(trials, "MOMENT", 0.1)
    found = check(project, "link")

    assert (found.level, found.said) == (FAIL, words)


def test_events_for_which_no_thread_can_be_started_are_a_warning(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: BaseObserver) -> None:
        raise RuntimeError("can't start new thread")  # noqa: EM101 - Python's words

    monkeypatch.setattr(BaseObserver, "start", refuse)
    found = check(project, "events")

    assert found.level is WARN
    assert found.said.endswith("allow more processes (ulimit -u)")
    assert list(looks._instances(str(os.getpid()))) == []  # given back


def test_a_file_whose_number_changes_is_a_fail(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(path: str, target: str) -> None:
        Path(target).write_bytes(Path(path).read_bytes())
        Path(path).unlink()

    monkeypatch.setattr(disk, "move", copy)

    assert trials.inodes(project).level is FAIL


# -- events ----------------------------------------------------------------------------


def test_a_drop_that_rings_no_bell_is_a_warning(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bell, "ring", lambda _: None)
    monkeypatch.setattr(trials, "MOMENT", 0.1)

    assert trials.events(project).said == "none within 0.1 s of a drop"
    assert trials.events(project).level is WARN


def test_a_watch_that_is_refused_is_a_warning(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watcher, "start", lambda _: "no file events: raise the limit")

    assert trials.events(project) == Told(WARN, "no file events: raise the limit")


def test_the_watching_library_never_speaks_on_our_terminal(project: Project) -> None:
    code = (
        "import logging, sys; from farm import bell, project, watcher\n"
        "watcher.Watcher(project.Project(sys.argv[1]), bell.Bell()).start()\n"
        "logging.getLogger('watchdog.observers.inotify').error('I am inactive')"
    )
    command = [sys.executable, "-c", code, project.root]
    done = subprocess.run(command, capture_output=True, check=True)

    assert (done.stdout, done.stderr) == (b"", b"")


def test_on_a_network_only_this_hosts_events_are_promised(project: Project) -> None:
    project.network = True

    assert trials.events(project).said.endswith(", of this host's files only")


@pytest.mark.parametrize(
    ("used", "more", "level"), [(114, 1, OK), (115, 1, WARN), (0, 116, WARN)]
)
def test_an_inotify_limit_that_is_nearly_used_up_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, used: int, more: int, level: Level
) -> None:
    monkeypatch.setattr(looks, "_inotify_limit", lambda _: 128)

    assert looks.watches("instances", used, more).level is level


def test_every_watch_of_ours_is_counted(project: Project) -> None:
    Path(project.tasks, "deep").mkdir()
    watcher = Watcher(project, Bell())
    assert watcher.start() is None
    instances = list(looks._instances(str(os.getpid())))
    in_all = looks._watched()
    watcher.stop()

    assert len(instances) == 1
    assert instances[0].count("inotify wd:") == 3  # tasks/, tasks/deep/ and control/
    assert in_all >= (1, 3)


def test_more_folders_than_watches_are_a_warning(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        Path(project.tasks, name).mkdir()
    monkeypatch.setattr(looks, "_watched", lambda: (1, 5))
    limits = {"instances": 128, "watches": 10}
    monkeypatch.setattr(looks, "_inotify_limit", limits.__getitem__)
    found = looks.inotify(project)

    assert found.said == "5 of 10 watches in use, and a worker needs 5"
    assert "raise fs.inotify.max_user_watches" in found.advice


# -- time, cost, room --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ahead", "level", "words"),
    [
        (0.0, OK, "agrees"),
        (1.5, OK, "agrees"),
        (100.0, WARN, "1 min 40 s ahead of ours"),
        (-7200.0, WARN, "2 h 0 min behind ours"),
    ],
)
def test_a_file_system_with_another_clock_is_a_warning(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    ahead: float,
    level: Level,
    words: str,
) -> None:
    make = disk.write_aside

    def make_then(path: str, data: bytes) -> None:
        make(path, data)
        os.utime(path, (time.time() + ahead, time.time() + ahead))

    monkeypatch.setattr(disk, "write_aside", make_then)
    found = trials.clock(project)

    assert found.level is level
    assert words in found.said


def test_a_synced_result_is_synced_in_both_places(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    open_file = Path("/proc/self/fd")
    monkeypatch.setattr(
        os, "fsync", lambda fd: synced.append((open_file / str(fd)).readlink())
    )
    trials.write(project)

    assert str(synced[0].parent) == project.tmp
    assert str(synced[1]) == project.tasks


@pytest.mark.parametrize(
    ("names", "took", "level"),
    [
        (0, 0.0001, OK),
        (900, 0.9, OK),
        (100_000, 0.1, OK),
        (1000, 0.2, WARN),
        (10_000_000, 10.0, WARN),
        (2, 1.5, WARN),
    ],
)
def test_a_slow_listing_is_a_warning(names: int, took: float, level: Level) -> None:
    assert looks.pace(names, took).level is level


def test_names_of_tasks_and_results_are_listed(project: Project) -> None:
    for name in ("a.json", "a.result.json", "b.json"):
        Path(project.tasks, name).touch()

    assert looks.listing(project).said.startswith("3 names in ")


GIB = 1 << 30


def statvfs(free: int, total: int, inodes: int, all_inodes: int) -> os.statvfs_result:
    """What a file system of so many bytes and inodes says."""
    blocks = (1, 1, total, free, free)
    return os.statvfs_result((*blocks, all_inodes, inodes, inodes, 0, 255))


@pytest.mark.parametrize(
    ("now", "level"),
    [
        (statvfs(50 * GIB, 100 * GIB, 90, 100), OK),
        (statvfs(50 * GIB, 100 * GIB, 0, 0), OK),  # it counts no inodes
        (statvfs(4 * GIB, 100 * GIB, 90, 100), WARN),
        (statvfs(GIB // 2, GIB, 90, 100), WARN),
        (statvfs(50 * GIB, 100 * GIB, 40, 1000), WARN),
        (statvfs(0, 100 * GIB, 90, 100), FAIL),
        (statvfs(50 * GIB, 100 * GIB, 0, 1000), FAIL),
    ],
)
def test_little_room_is_a_warning_and_none_a_fail(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    now: os.statvfs_result,
    level: Level,
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: now)

    assert looks.space(project).level is level


@pytest.mark.parametrize(
    ("soft", "level"), [(1024, OK), (resource.RLIM_INFINITY, OK), (255, WARN)]
)
def test_few_open_files_are_a_warning(
    project: Project, monkeypatch: pytest.MonkeyPatch, soft: int, level: Level
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))

    assert looks.open_files(project).level is level


# -- where it is -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mount", "level", "words"),
    [
        (Mount("ext4", frozenset({"rw"})), OK, "ext4"),
        (Mount("nfs4", frozenset({"local_lock=none"})), OK, "a network one"),
        (Mount("nfs4", frozenset({"local_lock=all"})), WARN, "with local_lock=all"),
        (Mount("nfs", frozenset({"nolock"})), WARN, "with nolock"),
        (Mount("overlay", frozenset()), WARN, "container's own layers"),
        (Mount("9p", frozenset()), WARN, "this machine's own"),
        (Mount("virtiofs", frozenset()), WARN, "this machine's own"),
        (Mount("", frozenset()), OK, "unknown"),
    ],
)
def test_a_file_system_of_doubtful_locks_is_a_warning(
    mount: Mount, level: Level, words: str
) -> None:
    found = looks.of_mount(mount)

    assert found.level is level
    assert words in found.said


TABLE = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
30 22 0:44 / /mnt/a\\040b rw,nosuid - nfs4 server:/x rw,vers=4.2,local_lock=all
31 22 0:45 / /mnt/a\\040b/own rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "option"),
    [
        ("/home/me", "ext4", "errors=remount-ro"),
        ("/mnt/a b", "nfs4", "local_lock=all"),
        ("/mnt/a b/p", "nfs4", "nosuid"),
        ("/mnt/a bc", "ext4", "relatime"),
        ("/mnt/a b/own/p", "tmpfs", "rw"),
    ],
)
def test_the_innermost_mount_is_the_one_that_counts(
    path: str, kind: str, option: str
) -> None:
    found = find_mount(path, TABLE)

    assert (found.kind, option in found.options) == (kind, True)


def test_a_proc_of_another_container_is_a_warning(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "proc_is_ours", lambda: False)

    assert looks.processes(project).level is WARN


# -- settings and rights ---------------------------------------------------------------


def test_a_farm_toml_that_is_wrong_is_a_fail(project: Project) -> None:
    Path(project.settings).write_text("workerz = 3\n")
    found = check(project, "settings")

    assert found.level is FAIL
    assert "did you mean `workers`" in found.said


@pytest.mark.parametrize("made", ["project", "new"])
def test_a_folder_that_everybody_can_write_is_a_fail(
    request: pytest.FixtureRequest, made: str
) -> None:
    there: Project = request.getfixturevalue(made)
    Path(there.root).chmod(0o777)

    assert check(there, "rights").level is FAIL


def test_a_folder_that_everybody_may_write_is_trusted_when_told(
    project: Project,
) -> None:
    Path(project.settings).write_text("trust = true\n")
    Path(project.root).chmod(0o777)

    assert looks.rights(project).level is OK


def test_a_group_that_can_drop_tasks_is_a_warning(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "is_private", lambda *_: False)
    Path(project.tasks).chmod(0o775)
    found = looks.rights(project)

    assert found.level is WARN
    assert f"can write {project.tasks}" in found.said


def test_tasks_that_lie_elsewhere_are_a_fail(project: Project, tmp_path: Path) -> None:
    Path(project.tasks).rmdir()
    (tmp_path / "elsewhere").mkdir()
    Path(project.tasks).symlink_to(tmp_path / "elsewhere")

    assert check(project, "folder").level is FAIL


@needs("root")
def test_a_farm_of_another_user_is_a_fail(project: Project) -> None:
    os.chown(project.farm, 65534, 65534)
    first = check(project, "folder")

    assert first.level is FAIL
    assert "a farm has one user" in first.said


def test_a_farm_folder_that_others_can_read_is_a_warning(project: Project) -> None:
    Path(project.farm).chmod(0o750)

    assert trials.modes(project).said.endswith("has the mode 0750: others can look in")
    assert trials.modes(project).level is WARN


def test_a_file_system_that_knows_no_modes_is_a_warning(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = disk.write_aside

    def make_for_all(path: str, data: bytes) -> None:
        make(path, data)
        Path(path).chmod(0o777)

    monkeypatch.setattr(disk, "write_aside", make_for_all)
    found = trials.modes(project)

    assert found.level is WARN
    assert found.said.startswith("new files get the mode 0777")


# -- who else is there -----------------------------------------------------------------


class BeatingBell(Bell):
    """A worker of another host beats while somebody waits."""

    def __init__(self, project: Project) -> None:
        super().__init__()
        self._project = project

    def wait(self, timeout: float | None, *fds: int) -> bool:
        lay_life_file(self._project, "bob", FOREIGN, counter=1)
        return False


def test_a_host_whose_locks_are_not_seen_is_a_fail(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_life_file(project, "bob", FOREIGN)
    monkeypatch.setattr(looks, "Bell", lambda: BeatingBell(project))
    found = check(project, "hosts")

    assert found.level is FAIL
    assert "bob on host other-host is alive, but its lock is free here" in found.said


@pytest.fixture
def far(project: Project) -> Iterator[Identity]:
    """A living worker of another host, whose lock is seen here."""
    lay_life_file(project, "bob", FOREIGN)
    with Path(project.life_path("bob")).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield FOREIGN


def test_hosts_whose_locks_are_seen_are_named(
    project: Project, far: Identity, alive: Life
) -> None:
    found = looks.hosts(project)

    assert found == told.ok(f"the locks of 1 worker are seen: 1 on {far.host}")


def test_without_another_host_nobody_was_tried(project: Project, alive: Life) -> None:
    assert looks.hosts(project).said.startswith("nobody to try")


def test_who_works_here_is_counted_by_host(
    project: Project, far: Identity, alive: Life
) -> None:
    here = alive.record.who.host
    said = looks.workers(project).said

    assert sorted(said.split(", ")) == sorted([f"1 on {far.host}", f"1 on {here}"])


def test_a_supervisor_is_named(project: Project) -> None:
    with Path(project.supervisor_path("build-7")).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        assert looks.workers(project).said == "none; a supervisor on build-7"


def test_a_worker_that_is_not_well_is_a_warning(project: Project, alive: Life) -> None:
    failing = Health(consecutive_failures=2, last_error_type="spawn")
    write_health(project, alive.name, failing, alive.name)
    os.utime(project.life_path(alive.name))
    found = looks.workers(project)

    assert found.level is WARN
    assert found.said.endswith("ada: 2 failures in a row (spawn)")


# -- what the dead left ------------------------------------------------------------------


def leave_behind(project: Project) -> None:
    """A dead worker, its open attempt, and files of it and of one long gone."""
    lay_life_file(project, "bob", FOREIGN)
    ledger = Ledger.open(project.ledger_path("build"))
    assert ledger is not None
    ledger.append(Claimed("build", 1, "token", "bob", FOREIGN, time.time()))
    ledger.let_go()
    old = (time.time() - 2 * rescue.OLD,) * 2
    Path(project.aside_path("bob", "progress")).touch()
    for path in (
        Path(project.aside_path("long-gone", 1)),
        Path(project.tasks, f"{CHECK}of-the-dead"),
    ):
        path.touch()
        os.utime(path, old)


def test_what_the_dead_left_is_a_warning(project: Project) -> None:
    leave_behind(project)

    assert looks.leftovers(project) == told.warn(
        "1 dead worker, 1 open attempt, 3 files of the dead",
        "farm supervise tidies up, and runs on",
    )


def test_what_the_dead_left_is_fine_while_somebody_tidies_up(
    project: Project, alive: Life
) -> None:
    leave_behind(project)

    assert looks.leftovers(project).level is OK
    assert "1 open attempt" in looks.leftovers(project).said


def test_what_the_living_use_is_no_leftover(project: Project, alive: Life) -> None:
    Path(project.tasks, "build.json").write_text('{"run": "true"}')
    taken = attempts.begin(project, "build", alive, time.time())
    Path(project.aside_path(alive.name, "progress")).touch()
    said = looks.leftovers(project).said
    taken.hold.ledger.let_go()

    assert said == "none"


def test_what_the_living_use_for_long_is_no_leftover(
    project: Project, alive: Life
) -> None:
    path = Path(project.aside_path(alive.name, "out"))
    path.touch()
    os.utime(path, (0, 0))

    assert looks.leftovers(project).said == "none"


def test_what_may_be_a_persons_only_copy_is_no_leftover(project: Project) -> None:
    path = project.aside_path(MOVED, "abc")
    Path(path).touch()
    os.utime(path, (0, 0))

    assert looks.leftovers(project).said == "none"


# -- the doctor and a worker ----------------------------------------------------------------


def names_do_not_share(monkeypatch: pytest.MonkeyPatch, project: Project) -> None:
    """As on bindfs and sshfs: each name of a file has a lock of its own."""
    really_lock = fcntl.flock

    def by_name(fd: int, how: int) -> None:
        if not Path(f"/proc/self/fd/{fd}").readlink().is_relative_to(project.tasks):
            really_lock(fd, how)

    monkeypatch.setattr(fcntl, "flock", by_name)


def no_links(monkeypatch: pytest.MonkeyPatch, _project: Project) -> None:
    def refuse(_source: str, _target: str) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)


def no_locks(monkeypatch: pytest.MonkeyPatch, _project: Project) -> None:
    def refuse(_fd: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


def locked_unreadable(monkeypatch: pytest.MonkeyPatch, project: Project) -> None:
    really_read = disk.read_fd

    def read(fd: int, most: int = disk.MOST) -> bytes:
        ours = Path(f"/proc/self/fd/{fd}").readlink().is_relative_to(project.root)
        return b"" if ours else really_read(fd, most)

    monkeypatch.setattr(disk, "read_fd", read)


def locks_elsewhere(monkeypatch: pytest.MonkeyPatch, project: Project) -> None:
    lay_life_file(project, "bob", FOREIGN)

    def beats(_bell: Bell, _timeout: float | None) -> bool:
        lay_life_file(project, "bob", FOREIGN, 1)
        return False

    monkeypatch.setattr(Bell, "wait", beats)


REFUSED = [names_do_not_share, no_links, no_locks, locked_unreadable, locks_elsewhere]


@pytest.mark.parametrize("break_it", REFUSED)
def test_what_makes_a_worker_refuse_a_folder_is_a_fail(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    break_it: Callable[[pytest.MonkeyPatch, Project], None],
) -> None:
    with monkeypatch.context() as patched:
        break_it(patched, project)
        with pytest.raises(MountError):
            trial.check_folder(project, Bell())
    with monkeypatch.context() as patched:
        break_it(patched, project)
        found = levels(project)

    assert FAIL in found.values()


def test_where_a_worker_works_nothing_is_a_fail(project: Project) -> None:
    trial.check_folder(project, Bell())

    assert FAIL not in levels(project).values()
