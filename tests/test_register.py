"""The register: one result for each task, and what does not count as one."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from farm import disk, register
from farm.project import Project
from farm.register import Lying
from farm.result import Error, Head
from farm.states import Status

GOOD = b'{"status": "succeeded"}\n'


def drop(project: Project, task_id: str, text: str = '{"run": "make"}') -> str:
    """The digest of the dropped bytes."""
    Path(project.task_path(task_id)).write_text(text)
    sha = register.sha256(project, task_id)
    assert sha is not None
    return sha


def lay(project: Project, task_id: str, raw: bytes) -> None:
    Path(project.result_path(task_id)).write_bytes(raw)


def lying(project: Project, task_id: str = "build") -> bytes:
    return Path(project.result_path(task_id)).read_bytes()


def invalid(sha: str | None, files: dict[str, str] | None = None) -> bytes:
    error = {"kind": "invalid", "message": "no", "files": files}
    value = {"status": "invalid", "sha256": sha, "error": error}
    return json.dumps(value).encode()


def put(project: Project, raw: bytes = GOOD, *, sync: bool = False) -> bool:
    aside = project.aside_path("me", 1)
    return register.put(project, "build", raw, aside, sync=sync) is not None


# -- look -------------------------------------------------------------------------


def test_nothing_lies_where_no_file_is(project: Project) -> None:
    assert register.look(project, "build") is Lying.NOTHING
    assert register.look(project, "no/such/folder") is Lying.NOTHING


@pytest.mark.parametrize("status", Status)
def test_every_final_status_makes_a_result(project: Project, status: Status) -> None:
    lay(project, "build", json.dumps({"status": status}).encode())

    head = register.look(project, "build")

    assert isinstance(head, Head)
    assert head.status is status


@pytest.mark.parametrize(
    "raw",
    [b"", b"\0" * 100, b"{", b"[]", b"null", b"{}", b'{"status": "ready"}', GOOD[:-5]],
)
def test_what_is_empty_torn_or_without_a_status_is_garbage(
    project: Project, raw: bytes
) -> None:
    lay(project, "build", raw)

    assert register.look(project, "build") is Lying.GARBAGE


def test_a_folder_under_the_name_is_garbage(project: Project) -> None:
    Path(project.result_path("build")).mkdir()

    assert register.look(project, "build") is Lying.GARBAGE


def test_a_link_to_a_real_result_is_garbage(project: Project, tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(GOOD)
    Path(project.result_path("build")).symlink_to(tmp_path / "real")

    assert register.look(project, "build") is Lying.GARBAGE


def test_a_fifo_under_the_name_is_garbage_and_blocks_nobody(project: Project) -> None:
    os.mkfifo(project.result_path("build"))

    assert register.look(project, "build") is Lying.GARBAGE


# -- what counts ------------------------------------------------------------------


def test_a_verdict_of_invalid_counts_while_its_bytes_lie_there(
    project: Project,
) -> None:
    lay(project, "build", invalid(drop(project, "build")))

    assert register.counts(project, "build") is not None


def test_a_verdict_of_invalid_on_other_bytes_does_not_count(project: Project) -> None:
    lay(project, "build", invalid(drop(project, "build")))
    drop(project, "build", '{"run": "make all"}')

    assert register.counts(project, "build") is None


def test_a_verdict_of_invalid_counts_when_its_file_is_gone(project: Project) -> None:
    lay(project, "build", invalid("0" * 64))

    assert register.counts(project, "build") is not None


def test_a_verdict_on_a_file_that_cannot_be_read_counts_until_it_can(
    project: Project,
) -> None:
    lay(project, "build", invalid(None))
    folder = Path(project.task_path("build"))
    folder.mkdir()
    before = register.counts(project, "build")
    folder.rmdir()
    drop(project, "build")

    assert before is not None
    assert register.counts(project, "build") is None


def test_other_verdicts_count_whatever_lies_there_now(project: Project) -> None:
    drop(project, "build")
    lay(project, "build", b'{"status": "failed", "sha256": "another"}')

    assert register.counts(project, "build") is not None


def test_a_verdict_on_a_circle_rests_on_all_its_files(project: Project) -> None:
    shas = {i: drop(project, i, json.dumps({"run": i})) for i in ("build", "b", "c")}
    lay(project, "build", invalid(shas["build"], shas))
    before = register.counts(project, "build")
    drop(project, "c", '{"run": "true"}')

    assert before is not None
    assert register.counts(project, "build") is None


def test_a_circle_whose_other_file_is_gone_no_longer_counts(project: Project) -> None:
    shas = {i: drop(project, i, json.dumps({"run": i})) for i in ("build", "b")}
    lay(project, "build", invalid(shas["build"], shas))
    Path(project.task_path("b")).unlink()

    assert register.counts(project, "build") is None


def test_an_error_of_another_version_does_not_hide_the_status(project: Project) -> None:
    lay(project, "build", b'{"status": "failed", "error": "text", "new": [1]}')

    head = register.counts(project, "build")

    assert head is not None
    assert head.status is Status.FAILED


def test_the_head_says_what_decisions_need(project: Project) -> None:
    error = {"kind": "exit", "message": "exit code 3"}
    lay(
        project,
        "build",
        json.dumps({"status": "failed", "exit_code": 3, "error": error}).encode(),
    )

    head = register.counts(project, "build")

    assert head == Head(Status.FAILED, exit_code=3, error=Error("exit", "exit code 3"))


# -- set_aside ----------------------------------------------------------------------


@pytest.mark.parametrize("raw", [b"", b'{"stat'])
def test_what_is_no_result_is_taken_away(project: Project, raw: bytes) -> None:
    lay(project, "build", raw)
    aside = project.aside_path("me", "bad")

    register.set_aside(project, "build", aside)

    assert not os.path.lexists(project.result_path("build"))
    assert not os.path.lexists(aside)


def test_a_folder_under_a_results_name_is_kept_with_all_that_is_in_it(
    project: Project,
) -> None:
    folder = Path(project.result_path("build"))
    folder.mkdir()
    (folder / "precious").write_text("somebody's")

    register.set_aside(project, "build", project.aside_path("me", "bad"))

    assert [p.read_text() for p in Path(project.logs).glob("*/precious")] == [
        "somebody's"
    ]


def test_a_real_result_stays(project: Project) -> None:
    lay(project, "build", GOOD)

    register.set_aside(project, "build", project.aside_path("me", "bad"))

    assert lying(project) == GOOD


def test_an_outdated_verdict_is_moved_aside(project: Project) -> None:
    drop(project, "build")
    lay(project, "build", invalid("of other bytes"))

    register.set_aside(project, "build", project.aside_path("me", "bad"))

    assert not os.path.lexists(project.result_path("build"))


def test_setting_aside_nothing_is_no_error(project: Project) -> None:
    register.set_aside(project, "build", project.aside_path("me", "bad"))

    assert not os.path.lexists(project.aside_path("me", "bad"))


def make_folder(path: Path) -> None:
    path.mkdir()


def make_full_folder(path: Path) -> None:
    path.mkdir()
    (path / "file").touch()


def make_link(path: Path) -> None:
    path.symlink_to("nowhere")


ODD = {
    "folder": make_folder,
    "full-folder": make_full_folder,
    "link": make_link,
    "fifo": os.mkfifo,
}


@pytest.mark.parametrize("odd", ODD)
def test_whatever_lies_under_the_name_is_moved_aside(
    project: Project, odd: str
) -> None:
    ODD[odd](Path(project.result_path("build")))

    register.set_aside(project, "build", project.aside_path("me", "bad"))

    assert not os.path.lexists(project.result_path("build"))


# -- put ----------------------------------------------------------------------------


@pytest.mark.parametrize("sync", [False, True])
def test_a_result_is_put_whole_and_leaves_nothing_aside(
    project: Project, sync: bool
) -> None:
    assert put(project, sync=sync)
    assert lying(project) == GOOD
    assert list(Path(project.tmp).iterdir()) == []


def test_a_result_that_is_there_stays(project: Project) -> None:
    lay(project, "build", b'{"status": "failed"}')

    assert not put(project)
    assert lying(project) == b'{"status": "failed"}'


@pytest.mark.parametrize("raw", [b"", b'{"status": "succ'])
def test_a_result_takes_the_place_of_what_is_none(project: Project, raw: bytes) -> None:
    lay(project, "build", raw)

    assert put(project)
    assert lying(project) == GOOD


@pytest.mark.parametrize("odd", ODD)
def test_a_result_takes_the_place_of_what_is_no_file(
    project: Project, odd: str
) -> None:
    ODD[odd](Path(project.result_path("build")))

    assert put(project)
    assert lying(project) == GOOD


def test_a_result_takes_the_place_of_a_verdict_on_other_bytes(project: Project) -> None:
    drop(project, "build")
    lay(project, "build", invalid("of other bytes"))

    assert put(project)
    assert lying(project) == GOOD


def test_a_removed_tmp_folder_is_made_again(project: Project) -> None:
    Path(project.tmp).rmdir()

    assert put(project)


def test_bytes_left_by_an_interrupted_put_are_overwritten(project: Project) -> None:
    Path(project.aside_path("me", 1)).write_bytes(b"half")

    assert put(project)
    assert lying(project) == GOOD


def test_a_lost_reply_is_no_lost_result(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_link = os.link

    def link_and_lose_the_reply(source: str, target: str) -> None:
        really_link(source, target)
        raise FileExistsError(target)

    monkeypatch.setattr(os, "link", link_and_lose_the_reply)

    assert put(project)


RACER = """
import sys
from farm import register
from farm.project import Project

project, name = Project(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.read()
raw = b'{"status": "succeeded", "worker": "%s"}' % name.encode()
won = register.put(project, "build", raw, project.aside_path(name, 1), sync=False)
print(won is not None)
"""


@pytest.mark.parametrize("before", [None, b""])
def test_one_of_eight_processes_that_link_at_once_wins(
    project: Project, before: bytes | None
) -> None:
    if before is not None:
        lay(project, "build", before)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, project.root, f"racer-{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        )
        for number in range(8)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == b"ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.close()
        racer.stdin = None
    said = [racer.communicate()[0] for racer in racers]

    winners = [f"racer-{n}" for n, text in enumerate(said) if text == b"True\n"]

    assert winners == [json.loads(lying(project))["worker"]]
    assert [p for p in Path(project.tmp).iterdir() if p.suffix != ".bad"] == []


def test_a_result_of_ours_is_known_again_after_an_error_that_came_later(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: str) -> None:
        raise OSError(errno.EIO, "the folder cannot be synced")

    with monkeypatch.context() as patched:
        patched.setattr(disk, "sync_folder", broken)
        with pytest.raises(OSError, match="cannot be synced"):
            put(project, sync=True)

    assert put(project, sync=True)
    assert lying(project) == GOOD
