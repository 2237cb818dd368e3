"""`farm doctor`, typed: what it prints, and in folders that are really broken."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farm import doctor
from farm.cli.doctor import describe
from farm.doctor import Finding, looks, told, trials
from farm.doctor.told import Level, Told
from farm.project import Project
from tests.cli.conftest import Run
from tests.driver import Farm
from tests.faults.tools import AS_NOBODY, UNSHARE, needs
from tests.terminals import ESCAPE, Terminal

pytestmark = pytest.mark.processes

EVERY = [*looks.LOOKS, *trials.TRIALS]


def only(monkeypatch: pytest.MonkeyPatch, *every: Told) -> None:
    """Let it make only these checks, named a, b, ..."""
    checks = {name: lambda _, one=one: one for name, one in zip("abc", every)}  # noqa: B905
    monkeypatch.setattr(doctor, "LOOKS", checks)
    monkeypatch.setattr(doctor, "TRIALS", {})


# -- what is printed -------------------------------------------------------------------


def test_there_is_a_line_for_each_check_and_then_the_verdict(
    run: Run, project: Project
) -> None:
    _, out, err = run("doctor", project.root)
    *lines, verdict = out.splitlines()

    assert [line[6:19].strip() for line in lines] == EVERY
    assert {line[:6].strip() for line in lines} <= {"ok", "warn", "fail"}
    assert verdict.startswith("this folder keeps farm's promises")
    assert err == ""


@pytest.mark.parametrize(
    ("one", "code"),
    [
        (told.ok("well"), 0),
        (told.warn("so so", "wait"), 0),
        (told.fail("broken", "mend it"), 1),
    ],
    ids=["ok", "warn", "fail"],
)
def test_only_a_fail_is_an_error(
    run: Run, project: Project, monkeypatch: pytest.MonkeyPatch, one: Told, code: int
) -> None:
    only(monkeypatch, one, told.ok("well"))

    assert run("doctor", project.root)[0] == code


def test_a_line_ends_with_what_to_do() -> None:
    finding = Finding("space", Level.WARN, "1 MiB free", "make room")

    assert describe(finding) == "warn  space        1 MiB free: make room"


def test_json_has_the_same_and_the_verdict(
    run: Run, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, told.ok("well"), told.fail("broken", "mend it"))
    code, out, _ = run("doctor", "-C", project.root, "--json")

    assert code == 1
    assert out.count("\n") == 1
    assert json.loads(out) == {
        "project": project.root,
        "verdict": "farm would not work here: b: broken",
        "findings": [
            {"name": "a", "level": "ok", "said": "well", "advice": ""},
            {"name": "b", "level": "fail", "said": "broken", "advice": "mend it"},
        ],
    }


def test_what_a_folder_is_called_steers_no_terminal(run: Run, tmp_path: Path) -> None:
    odd = tmp_path / "a\x1b[31mb\nc"
    odd.mkdir()
    _, out, _ = run("doctor", odd)

    assert "\x1b" not in out
    assert len(out.splitlines()) == len(EVERY) + 1


def test_a_terminal_gets_colours_and_no_line_that_is_too_wide(farm: Farm) -> None:
    screen = Terminal(farm, 60, "doctor")
    code = screen.read_all()

    assert code == 0
    assert ESCAPE.search(screen.said)
    assert screen.widest <= 60
    assert sum(line[:1] != " " for line in screen.lines) == len(EVERY) + 1


def test_with_no_color_there_is_none(farm: Farm) -> None:
    screen = Terminal(farm, 60, "doctor", NO_COLOR="1")
    screen.read_all()

    assert not ESCAPE.search(screen.said)


# -- which folder ------------------------------------------------------------------------


def test_where_no_project_is_the_current_folder_is_tried(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, out, _ = run("doctor")

    assert f"{tmp_path} is no project yet" in out.splitlines()[0]
    assert list(tmp_path.iterdir()) == []


def test_from_inside_a_project_the_project_is_tried(
    run: Run, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.tasks)
    _, out, _ = run("doctor", "--json")

    assert json.loads(out)["project"] == project.root


def test_a_folder_that_is_not_there_is_wrong_usage(run: Run, tmp_path: Path) -> None:
    code, _, err = run("doctor", tmp_path / "nowhere")

    assert (code, "there is no folder" in err) == (2, True)


# -- folders that are really broken --------------------------------------------------------


class Seen:
    """What `farm doctor --json` says when it is started by another command."""

    def __init__(self, farm: Farm, *prefix: str, folder: Path | None = None) -> None:
        root = folder or farm.root
        command = [sys.executable, "-P", "-m", "farm", "doctor", str(root), "--json"]
        done = subprocess.run(
            [*prefix, *command],
            cwd="/",
            env=farm.environ,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        self.code, self.err = done.returncode, done.stderr
        facts: dict[str, Any] = json.loads(done.stdout or "{}")
        self.verdict: str = facts.get("verdict", done.stderr)
        self._findings = {f["name"]: f for f in facts.get("findings", [])}

    def level(self, name: str) -> str:
        """How a check ended; "" if it was not made."""
        return str(self._findings.get(name, {}).get("level", ""))

    def sentence(self, name: str) -> str:
        """What it said, and what to do."""
        found = self._findings[name]
        return f"{found['said']}: {found['advice']}"


def mounting(place: Path, *commands: str) -> tuple[str, ...]:
    """Run what follows where these commands of sh were run first, and nobody sees."""
    inside = [f"cd '{place}' && {command}" for command in commands]  # maybe mounted on
    script = " && ".join([*inside, 'cd / && exec "$@"'])
    return *UNSHARE, "--mount", "sh", "-c", script, "sh"


@needs("strace")
@pytest.mark.fault(29)
@pytest.mark.parametrize(
    ("code", "words"), [("ENOLCK", "No locks available"), ("ENOSYS", "not implemented")]
)
def test_a_file_system_without_locks_is_a_fail(
    farm: Farm, code: str, words: str
) -> None:
    inject = ("-e", "trace=flock", "-e", f"inject=flock:error={code}")
    seen = Seen(farm, "strace", "-f", "-o", os.devnull, *inject)

    assert (seen.code, seen.err) == (1, "")
    assert [seen.level(name) for name in ("flock", "dead owner")] == ["fail"] * 2
    assert words in seen.sentence("flock")
    assert "use a local disk, or NFS mounted with locks" in seen.sentence("flock")


@needs("strace")
@pytest.mark.fault(27)
def test_a_disk_that_cannot_sync_is_a_fail(farm: Farm) -> None:
    inject = ("-e", "trace=fsync", "-e", "inject=fsync:error=EIO")
    seen = Seen(farm, "strace", "-f", "-o", os.devnull, *inject)

    assert (seen.code, seen.level("write")) == (1, "fail")
    assert "Input/output error" in seen.sentence("write")


SMALL = "mount -t tmpfs -o size=64k,nr_inodes={inodes},mode=755 tmpfs ."


@needs("mount")
@pytest.mark.fault(25)
def test_a_full_disk_is_a_fail(farm: Farm) -> None:
    mount = SMALL.format(inodes=100)
    full = "{ head -c 1000000 /dev/zero > big 2>&-; true; }"
    seen = Seen(farm, *mounting(farm.root, mount, "mkdir tasks", full))

    assert (seen.code, seen.err) == (1, "")
    assert "no room: 0 bytes of 64 KiB free" in seen.sentence("space")
    assert "No space left on device: make room" in seen.sentence("write")


@needs("mount")
@pytest.mark.fault(26)
def test_a_disk_without_inodes_is_a_fail(farm: Farm) -> None:
    mount = SMALL.format(inodes=5)
    seen = Seen(farm, *mounting(farm.root, mount, "mkdir tasks && touch a b c"))

    assert (seen.code, seen.err) == (1, "")
    assert "0 of 5 inodes" in seen.sentence("space")
    assert "No space left on device: make room" in seen.sentence("write")


@needs("mount")
@pytest.mark.parametrize("is_used", [True, False], ids=["project", "new"])
@pytest.mark.fault(24)
def test_a_read_only_folder_is_a_fail(farm: Farm, is_used: bool) -> None:
    if is_used:
        Project.open(farm.root)
    binding = "mount --bind . . && mount -o remount,ro,bind ."
    seen = Seen(farm, *mounting(farm.root, binding))

    assert (seen.code, seen.err) == (1, "")
    assert seen.verdict == (
        "farm would not work here: write: cannot write into"
        f" {farm.root}: Read-only file system"
    )
    assert seen.sentence("write").endswith(": mount it read-write")
    assert seen.level("link") == ""


@needs("mount")
@pytest.mark.fault(47)
def test_a_project_in_the_layers_of_a_container_is_a_warning(farm: Farm) -> None:
    layers = "mkdir -p lower/project/tasks upper work all"
    overlay = (
        "mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay all"
    )
    there = farm.root / "all" / "project"
    seen = Seen(
        farm,
        *mounting(farm.root, "mount -t tmpfs tmpfs .", layers, overlay),
        folder=there,
    )

    assert seen.err == ""
    assert seen.level("file system") == "warn"
    assert "which no other container shares" in seen.sentence("file system")


@needs("mount")
def test_tasks_on_another_disk_are_a_fail(farm: Farm) -> None:
    Project.open(farm.root)
    seen = Seen(farm, *mounting(farm.tasks, "mount -t tmpfs -o mode=755 tmpfs ."))

    assert (seen.code, seen.level("link")) == (1, "fail")
    assert "keep tasks/ and .farm/ on one file system" in seen.sentence("link")


@needs("inotify limit")
@pytest.mark.fault(39)
def test_a_user_without_inotify_instances_is_warned(farm: Farm) -> None:
    none = "echo 0 > /proc/sys/user/max_inotify_instances"
    script = f'{none} && exec "$@"'
    prefix = ("unshare", "--user", "--map-root-user", "sh", "-c", script, "sh")
    seen = Seen(farm, *prefix)

    assert (seen.code, seen.level("inotify"), seen.level("events")) == (
        0,
        "warn",
        "warn",
    )
    assert "raise fs.inotify.max_user_instances" in seen.sentence("inotify")


@needs("pid namespace")
@pytest.mark.fault(16)
def test_a_container_without_its_own_proc_is_warned(farm: Farm) -> None:
    seen = Seen(farm, *UNSHARE, "--pid", "--fork", "--kill-child")

    assert seen.level("processes") == "warn"


@pytest.fixture
def seen_by_all() -> Iterator[Farm]:
    """A project that another user can reach: pytest's own folders are private."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Farm(Path(folder) / "project")


@needs("another user")
@pytest.mark.fault(23)
@pytest.mark.parametrize("is_used", [True, False], ids=["project", "new"])
def test_a_folder_of_another_user_is_a_fail(seen_by_all: Farm, is_used: bool) -> None:
    if is_used:
        Project.open(seen_by_all.root)
    seen = Seen(seen_by_all, *AS_NOBODY)

    assert (seen.code, seen.err) == (1, "")
    assert "Permission denied" in seen.sentence("write")
    assert seen.level("folder") == ("fail" if is_used else "ok")
