"""`farm logs`."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest

from farm import history, poll
from farm.cli import logs
from farm.history import Output
from farm.life import Life
from farm.project import Project
from farm.states import Why
from tests.attempts import attempt, begin, drop, end
from tests.cli.conftest import Run
from tests.driver import Farm
from tests.terminals import Terminal
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

NOW = 1_000_000.0  # POSIX seconds
STEER = b"\x1b[31mred\x1b]0;title\x07\x1b[2J"  # what a task may try on a terminal
NO_TEXT = bytes(range(256)) + b"\r\n\xc3"
QUICK = {"max": 2, "base_delay": 0.01, "max_delay": 0.01}  # retries
ENDED = {
    "attempt": 1,
    "why": "succeeded",
    "counted": False,
    "started": "2026-11-21T03:00:00.000Z",
    "finished": "2026-11-21T03:00:01.000Z",
    "worker": "ada",
    "host": "here",
}
CALLS = """
import os, sys

def prints():
    print("from a call", flush=True)

def fails():
    print("try", os.environ["FARM_ATTEMPT"])
    raise ValueError
"""


def printed(farm: Farm, *args: str) -> bytes:
    """What goes to stdout, byte for byte."""
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "farm", "logs", *args],
        cwd=farm.root,
        env=farm.environ,
        capture_output=True,
        timeout=50,
        check=False,
    )
    assert ended.returncode == 0, ended
    return ended.stdout


# -- what has ended ------------------------------------------------------------------


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A project in which everything has ended."""
    farm = Farm(tmp_path_factory.mktemp("ended") / "project")
    farm.write("calls.py", CALLS)
    (farm.root / "no-text").write_bytes(NO_TEXT)
    (farm.root / "steer").write_bytes(STEER + b"\n" + b"\x1b[1m" + b"bold")
    farm.drop("short", run="echo out; echo err >&2")
    farm.drop("long", run="seq 1 20000; seq 20001 40000 >&2")
    farm.drop("no-text", run="cat no-text")
    farm.drop("steer", run="cat steer")
    farm.drop("call", call="calls:prints")
    farm.drop("call-again", call="calls:fails", retries=QUICK)
    farm.drop("again", run="echo try $FARM_ATTEMPT; exit 1", retries=QUICK)
    farm.drop("silent", run="true")
    farm.drop("only-err", run="printf '\u00e4\u00e4\u00e4' >&2")
    farm.drop("no-end", run="printf 'one\ntwo\nthree'")
    farm.drop("returns", run=r"printf '10%%\r20%%\r100%%\ndone\r\n'")
    farm.drop("failed", run="exit 1")
    farm.drop("skipped", run="true", needs=["failed"])
    assert farm.work() == 1, farm.describe()
    yield farm
    farm.end()


LONG = "".join(f"{number}\n" for number in range(1, 20_001)).encode()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["short"], b"out\n"),
        (["short", "--stderr"], b"err\n"),
        (["short", "-f"], b"out\n"),
        (["long"], LONG),
        (["no-text"], NO_TEXT),
        (["no-text", "-f"], NO_TEXT),
        (["steer"], STEER + b"\n\x1b[1mbold"),
        (["call"], b"from a call\n"),
        (["no-end"], b"one\ntwo\nthree"),
        (["returns"], b"10%\r20%\r100%\ndone\r\n"),
        (["silent"], b""),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_a_pipe_gets_every_byte(ended: Farm, words: list[str], said: bytes) -> None:
    assert printed(ended, *words) == said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["long", "--tail", "0"], b""),
        (["long", "--tail", "1"], b"20000\n"),
        (["long", "--tail", "3"], b"19998\n19999\n20000\n"),
        (["long", "--tail", "20000"], LONG),
        (["long", "--tail", "99999"], LONG),
        (["long", "--stderr", "--tail", "1"], b"40000\n"),
        (["long", "-f", "--tail", "1"], b"20000\n"),
        (["long", "-f"], LONG[-60:]),
        (["short", "--tail", "0"], b""),
        (["short", "--tail", "9"], b"out\n"),
        (["no-end", "--tail", "1"], b"three"),
        (["no-end", "--tail", "2"], b"two\nthree"),
        (["returns", "--tail", "2"], b"10%\r20%\r100%\ndone\r\n"),
        (["returns", "--tail", "1"], b"done\r\n"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_a_tail_is_the_last_lines(ended: Farm, words: list[str], said: bytes) -> None:
    assert printed(ended, *words) == said


@pytest.mark.parametrize("task_id", ["again", "call-again"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_each_attempt_has_its_own(ended: Farm, task_id: str, number: int) -> None:
    said = printed(ended, task_id, "--attempt", str(number))

    assert said == f"try {number}\n".encode()


def test_the_last_attempt_is_meant_if_none_is_named(ended: Farm) -> None:
    assert printed(ended, "again") == b"try 3\n"


@pytest.mark.parametrize("words", [[], ["-f"]])
def test_an_attempt_that_there_was_not_is_wrong_usage(
    ended: Farm, words: list[str]
) -> None:
    told = ended.farm("logs", "again", "--attempt", "4", *words)

    assert (told.returncode, told.stdout) == (2, "")
    assert "there is no attempt 4 of again: there are 1, 2, 3" in told.stderr


@pytest.mark.parametrize("number", ["0", "-1", "last"])
def test_an_attempt_that_is_no_number_is_wrong_usage(ended: Farm, number: str) -> None:
    assert ended.farm("logs", "again", "--attempt", number).returncode == 2


def test_nothing_written_is_said(ended: Farm) -> None:
    told = ended.farm("logs", "silent")

    assert (told.returncode, told.stdout) == (0, "")
    assert told.stderr == "attempt 1 wrote nothing to stdout\n"


def test_an_answer_of_an_agent_is_hinted_at(run: Run, project: Project) -> None:
    drop(project, "a")
    one = {
        "attempt": 1,
        "why": "succeeded",
        "counted": False,
        "worker": "w",
        "host": "h",
    }
    one |= {"started": "2026-11-21T03:00:00Z", "finished": "2026-11-21T03:00:01Z"}
    told = {"status": "succeeded", "text": "42", "attempts": [one]}
    Path(project.result_path("a")).write_text(json.dumps(told))
    _, _, err = run("logs", "-C", project.root, "a")

    assert err == "attempt 1 wrote nothing to stdout; farm show a has its answer\n"


def test_nothing_written_here_hints_at_the_other_stream(ended: Farm) -> None:
    told = ended.farm("logs", "only-err")

    assert (told.returncode, told.stdout) == (0, "")
    assert told.stderr == (
        "attempt 1 wrote nothing to stdout; it wrote 6 bytes to stderr\n"
    )


@pytest.mark.parametrize("task_id", ["short", "long"])
def test_no_lines_wanted_is_not_nothing_written(ended: Farm, task_id: str) -> None:
    assert ended.farm("logs", task_id, "--tail", "0").stderr == ""


def test_what_ended_without_an_attempt_says_so(ended: Farm) -> None:
    told = ended.farm("logs", "skipped")

    assert (told.returncode, told.stdout) == (1, "")
    assert "farm why skipped" in told.stderr


def test_to_follow_what_ended_without_an_attempt_ends(ended: Farm) -> None:
    told = ended.farm("logs", "skipped", "-f")

    assert (told.returncode, told.stdout) == (0, "")


def test_whoever_reads_only_the_first_line_is_not_told_of_it(ended: Farm) -> None:
    """As `| head -1`, but sure to go away before all is written."""
    popen = subprocess.Popen(
        [sys.executable, "-P", "-m", "farm", "logs", "long"],
        cwd=ended.root,
        env=ended.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    assert popen.stdout is not None
    first = popen.stdout.read(2)
    popen.stdout.close()
    _, said = popen.communicate(timeout=50)

    assert (first, said) == (b"1\n", b"")


def test_the_log_of_what_vanished_with_its_worker_is_kept(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=f"echo so far; {gate.command}")
    worker = farm.start_worker()
    gate.wait_reached()
    farm.kill(worker)

    assert printed(farm, "a") == b"so far\n"
    assert printed(farm, "a", "--attempt", "1", "-f") == b"so far\n"


# -- typed ---------------------------------------------------------------------------


def test_an_unknown_id_is_an_error_with_the_nearest_name(
    run: Run, project: Project
) -> None:
    drop(project, "deploy")
    code, out, err = run("logs", "-C", project.root, "depoly")

    assert (code, out) == (1, "")
    assert "did you mean `deploy`?" in err


def test_a_task_that_has_not_run_says_who_knows_why(run: Run, project: Project) -> None:
    drop(project, "a")
    code, out, err = run("logs", "-C", project.root, "a")

    assert (code, out) == (1, "")
    assert err == "farm: a has not run yet: farm why a says why\n"


def test_a_log_that_retention_took_is_named_with_the_reason(
    run: Run, project: Project
) -> None:
    drop(project, "a")
    one = ENDED | {"stdout_path": ".farm/logs/a.1.out"}
    told = {"status": "succeeded", "stdout": "its tail", "attempts": [one]}
    Path(project.result_path("a")).write_text(json.dumps(told))
    code, out, err = run("logs", "-C", project.root, "a")

    assert (code, out) == (1, "")
    assert err == (
        "farm: .farm/logs/a.1.out is gone: [logs] in farm.toml says how long logs are"
        " kept\n"
    )


def test_a_retry_that_is_to_come_shows_what_the_first_attempt_printed(
    run: Run, project: Project
) -> None:
    drop(project, "a", retries={"max": 1, "base_delay": "2d", "max_delay": "2d"})
    attempt(project, "a", Why.FAILED, NOW)
    code, _, err = run("logs", "-C", project.root, "a")

    assert (code, err) == (0, "attempt 1 wrote nothing to stdout\n")


# -- a log of gigabytes --------------------------------------------------------------


@pytest.mark.parametrize("end_of_it", [b"", b"one\ntwo\n"], ids=["NULs", "lines"])
@pytest.mark.parametrize("tail", [0, 1, 1000])
def test_of_a_huge_log_only_the_end_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end_of_it: bytes, tail: int
) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.truncate(2 << 30)
        file.seek(0, os.SEEK_END)
        file.write(end_of_it)
    read = []
    real = os.pread

    def counted(fd: int, size: int, offset: int) -> bytes:
        raw = real(fd, size, offset)
        read.append(len(raw))
        return raw

    monkeypatch.setattr(os, "pread", counted)
    got = b"".join(logs._Reader(str(path), tail).read())

    assert sum(read) <= 32 << 20
    assert got.endswith(
        end_of_it if tail > 1 else (b"two\n" if end_of_it and tail else b"")
    )


def test_a_line_longer_than_what_is_looked_at_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_CHUNK", 10)
    monkeypatch.setattr(logs, "_FARTHEST", 30)
    path = tmp_path / "log"
    path.write_bytes(b"x" * 1000 + b"end")
    got = b"".join(logs._Reader(str(path), 2).read())

    assert len(got) <= 40
    assert got.endswith(b"xend")


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("tail", range(6))
@pytest.mark.parametrize("last", [b"four", b"four\n", b"\n"], ids=ascii)
def test_a_tail_does_not_depend_on_how_a_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, tail: int, last: bytes
) -> None:
    monkeypatch.setattr(logs, "_CHUNK", chunk)
    path = tmp_path / "log"
    lines = [b"one\n", b"\n", b"three\r\n", last]
    path.write_bytes(b"".join(lines))
    got = b"".join(logs._Reader(str(path), tail).read())

    assert got == b"".join(lines[max(0, 4 - tail) :])


# -- on a terminal -------------------------------------------------------------------


class Screen(io.TextIOWrapper):
    """A stdout that says it is a terminal."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO())

    def isatty(self) -> bool:
        """Yes."""
        return True

    @property
    def shown(self) -> bytes:
        """What was printed."""
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue()


def shown(monkeypatch: pytest.MonkeyPatch, *writes: bytes, ends: bool = True) -> bytes:
    """What a terminal shows of these writes."""
    there = Screen()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", there)
        printer = logs._Printer()
    for raw in writes:
        printer.write(raw)
    if ends:
        printer.end()
    return there.shown


def test_on_a_terminal_control_sequences_are_left_out(ended: Farm) -> None:
    terminal = Terminal(ended, 80, "logs", "steer")

    assert terminal.read_all() == 0
    assert terminal.said == "red\r\nbold"


@pytest.mark.parametrize("cut", range(1, len(STEER)))
def test_a_sequence_that_is_cut_over_two_writes_is_left_out(
    monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    assert shown(monkeypatch, STEER[:cut], STEER[cut:] + b"\n") == b"red\n"


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_letter_that_is_cut_over_two_writes_is_whole(
    monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    raw = "\U0001f680\n".encode()

    assert shown(monkeypatch, raw[:cut], raw[cut:]) == raw


def test_a_last_line_without_an_end_comes_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert shown(monkeypatch, b"one\ntwo") == b"one\ntwo"


def test_bytes_that_are_no_text_are_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, b"a\xffb\n") == "a\ufffdb\n".encode()


def test_lines_come_in_their_order_although_the_last_is_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As of output that a large `inline_output` keeps in the result."""
    raw = b"first\n" + b"x" * 100_000

    assert shown(monkeypatch, raw) == raw


def test_of_a_line_that_never_ends_what_there_is_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A progress bar writes `\\r`, and a question waits for no line's end."""
    assert b"20%" in shown(monkeypatch, b"10%\r20%", ends=False)


# -- while it runs -------------------------------------------------------------------


class Follower:
    """`farm logs -f` in the background, and what it has printed."""

    def __init__(self, farm: Farm, *args: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-P", "-m", "farm", "logs", *args, "-f"],
            cwd=farm.root,
            env=farm.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        farm.processes.append(self.popen)
        self._describe = farm.describe
        self._said = {"out": b"", "err": b""}
        assert self.popen.stdout is not None
        assert self.popen.stderr is not None
        pipes = {"out": self.popen.stdout, "err": self.popen.stderr}
        self._readers = [
            threading.Thread(target=self._read, args=item) for item in pipes.items()
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str, pipe: IO[bytes]) -> None:
        with pipe:
            while raw := os.read(pipe.fileno(), 65536):
                self._said[name] += raw

    def wait_said(self, words: bytes, stream: str = "out") -> None:
        """Until it has printed these bytes."""
        wait_until(lambda: words in self._said[stream], on_timeout=self._told)

    def ended(self) -> tuple[int, bytes, bytes]:
        """Its exit code, and all it printed."""
        code = self.popen.wait(30)
        for reader in self._readers:
            reader.join(30)
        return code, self._said["out"], self._said["err"]

    def _told(self) -> str:
        return f"{self._said}\n{self._describe()}"


def test_a_running_command_is_followed_until_it_ends(farm: Farm) -> None:
    first, second = farm.gate("first"), farm.gate("second")
    farm.drop(
        "a", run=f"echo one; {first.command}; echo two; {second.command}; echo three"
    )
    farm.start_worker()
    first.wait_reached()
    follower = Follower(farm, "a")
    follower.wait_said(b"one\n")
    first.open()
    follower.wait_said(b"two\n")
    second.open()

    assert follower.ended() == (0, b"one\ntwo\nthree\n", b"")


def test_stderr_is_followed_as_well(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=f"echo out; echo one >&2; {gate.command}; echo two >&2")
    farm.start_worker()
    gate.wait_reached()
    follower = Follower(farm, "a", "--stderr")
    follower.wait_said(b"one\n")
    gate.open()

    assert follower.ended() == (0, b"one\ntwo\n", b"")


def test_without_f_a_running_command_shows_what_there_is(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=f"echo one; {gate.command}; echo two")
    farm.start_worker()
    gate.wait_reached()

    assert printed(farm, "a") == b"one\n"


def test_following_begins_with_the_last_ten_lines(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=f"seq 1 50000; {gate.command}; echo end")
    farm.start_worker()
    gate.wait_reached()
    follower = Follower(farm, "a")
    follower.wait_said(b"50000\n")
    gate.open()
    _, out, _ = follower.ended()

    assert out.split() == [str(n).encode() for n in range(49_991, 50_001)] + [b"end"]


def call(farm: Farm, *lines: str) -> None:
    """Drop `a`, a call that does this."""
    body = "".join(f"    {line}\n" for text in lines for line in text.splitlines())
    farm.write("m.py", f"def f():\n{body}")
    farm.drop("a", call="m:f")


def test_a_running_callable_is_followed_until_it_ends(farm: Farm) -> None:
    gate = farm.gate()
    call(farm, "print('one', flush=True)", gate.python, "print('two')")
    farm.start_worker()
    gate.wait_reached()
    follower = Follower(farm, "a")
    follower.wait_said(b"one\n")
    gate.open()

    assert follower.ended() == (0, b"one\ntwo\n", b"")


def test_a_callable_that_prints_more_than_fits_is_followed_to_its_end(
    farm: Farm,
) -> None:
    """Its scratch file gets another name while it is read."""
    gate = farm.gate()
    numbers = "for n in range(50_000): print(n)"
    call(farm, "print('here', flush=True)", gate.python, numbers)
    farm.start_worker()
    gate.wait_reached()
    follower = Follower(farm, "a")
    follower.wait_said(b"here\n")
    gate.open()
    code, out, _ = follower.ended()

    assert code == 0
    wanted = b"here\n" + "".join(f"{n}\n" for n in range(50_000)).encode()
    is_whole = out == wanted  # a comparison of so many bytes by pytest takes minutes
    assert is_whole, (len(out), len(wanted))


def test_a_retry_is_followed_too(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop(
        "a",
        run=f"echo try $FARM_ATTEMPT; {gate.command}; test $FARM_ATTEMPT = 2",
        retries=QUICK,
    )
    farm.start_worker()
    gate.wait_reached()
    follower = Follower(farm, "a")
    follower.wait_said(b"try 1\n")
    gate.open()

    assert follower.ended() == (0, b"try 1\ntry 2\n", b"attempt 2 begins\n")


def test_one_attempt_is_followed_to_the_end_of_that(farm: Farm) -> None:
    gate = farm.gate()
    again = {"max": 2, "base_delay": "1h", "max_delay": "1h"}
    farm.drop("a", run=f"echo one; {gate.command}; exit 1", retries=again)
    farm.start_worker()
    gate.wait_reached()
    follower = Follower(farm, "a", "--attempt", "1")
    follower.wait_said(b"one\n")
    gate.open()

    assert follower.ended() == (0, b"one\n", b"")


def test_the_first_attempt_is_waited_for(farm: Farm) -> None:
    farm.drop("a", run="echo hi")
    follower = Follower(farm, "a")
    follower.wait_said(b"waiting for the first attempt of a\n", "err")
    farm.work()
    code, out, _ = follower.ended()

    assert (code, out) == (0, b"hi\n")


def test_whoever_waits_for_a_task_that_is_removed_waits_no_more(farm: Farm) -> None:
    farm.drop("a", run="echo hi")
    follower = Follower(farm, "a")
    follower.wait_said(b"waiting for the first attempt of a\n", "err")
    (farm.tasks / "a.json").unlink()

    assert follower.ended()[:2] == (0, b"")


def test_whoever_waits_for_a_task_that_is_cancelled_waits_no_more(farm: Farm) -> None:
    farm.drop("a", run="echo hi")
    follower = Follower(farm, "a")
    follower.wait_said(b"waiting for the first attempt of a\n", "err")
    farm.farm("cancel", "a")

    assert follower.ended()[:2] == (0, b"")


def test_a_killed_worker_is_followed_into_the_next_attempt(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=f"echo try $FARM_ATTEMPT; {gate.command}")
    worker = farm.start_worker()
    gate.wait_reached()
    follower = Follower(farm, "a")
    follower.wait_said(b"try 1\n")
    farm.kill(worker)
    farm.start_worker()
    gate.wait_reached(2)
    gate.open()

    assert follower.ended() == (0, b"try 1\ntry 2\n", b"attempt 2 begins\n")


@pytest.mark.parametrize("runs", [True, False], ids=["runs", "waits"])
def test_ctrl_c_ends_with_130(farm: Farm, *, runs: bool) -> None:
    gate = farm.gate()
    farm.drop("a", run=f"echo one; {gate.command}")
    if runs:
        farm.start_worker()
        gate.wait_reached()
    follower = Follower(farm, "a")
    follower.wait_said(b"one\n" if runs else b"waiting", "out" if runs else "err")
    farm.signal(follower.popen, signal.SIGINT)
    code, _, err = follower.ended()

    assert code == 130
    assert err.endswith(b"farm: interrupted\n")


# -- races ---------------------------------------------------------------------------


@pytest.fixture
def running(project: Project, alive: Life) -> Project:
    """A project in which ada has claimed the command `a`."""
    drop(project, "a")
    begin(project, "a", alive, NOW)
    return project


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is waited for in these tests comes at once, or never."""
    real = poll.until

    def until(look: Callable[[], Any]) -> Any:
        found = real(look, timeout=5.0)
        assert found is not None, "it waits for what does not come"
        return found

    monkeypatch.setattr(poll, "until", until)


def once_looked(
    monkeypatch: pytest.MonkeyPatch, then: Callable[[], object], *, before: bool
) -> None:
    """Let something happen just before, or after, output is looked for at first."""
    todo = [then]

    def output(*args: Any) -> Output:
        happens = todo.pop() if todo else None
        if happens and before:
            happens()
        found = history.output(*args)
        if happens and not before:
            happens()
        return found

    monkeypatch.setattr("farm.cli.logs.output", output)


def lay_end(project: Project, stdout: str) -> None:
    """The result of `a`, which printed this; its log is in there."""
    one = ENDED | {"stdout_path": None}
    told = {"status": "succeeded", "stdout": stdout, "attempts": [one]}
    Path(project.result_path("a")).write_text(json.dumps(told))
    Path(project.log_path("a", 1, "out")).unlink(missing_ok=True)


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("words", [[], ["-f"]], ids=["once", "-f"])
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_output_that_moves_into_the_result_while_it_is_looked_for_is_shown(
    run: Run,
    running: Project,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    *,
    before: bool,
) -> None:
    """RACE: its log is removed as soon as the result has it."""
    Path(running.log_path("a", 1, "out")).write_text("hello\n")
    once_looked(monkeypatch, partial(lay_end, running, "hello\n"), before=before)
    code, out, _ = run("logs", "-C", running.root, "a", *words)

    assert (code, out) == (0, "hello\n")


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("has_scratch", [True, False])
def test_a_command_that_is_followed_from_before_its_first_byte_is_shown(
    run: Run,
    running: Project,
    monkeypatch: pytest.MonkeyPatch,
    *,
    has_scratch: bool,
) -> None:
    """RACE: it is claimed, and has not opened its log yet."""
    if has_scratch:  # every worker has one, for callables
        Path(running.aside_path("ada", "out")).touch()
    once_looked(monkeypatch, partial(lay_end, running, "hello\n"), before=False)
    _, out, _ = run("logs", "-C", running.root, "a", "-f")

    assert out == "hello\n"


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("words", [[], ["-f"]], ids=["once", "-f"])
def test_what_the_workers_next_callable_prints_is_not_shown(
    run: Run,
    project: Project,
    alive: Life,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
) -> None:
    """RACE: a scratch file stays, and is the next task's, if this one wrote nothing."""
    Path(project.task_path("a")).write_text('{"call": "m:f"}')
    taken = begin(project, "a", alive, NOW)
    scratch = Path(project.aside_path("ada", "out"))
    scratch.touch()

    def ends() -> None:
        end(project, taken, Why.SUCCEEDED, NOW + 1.0)
        scratch.write_text("somebody else's\n")

    once_looked(monkeypatch, ends, before=False)
    _, out, _ = run("logs", "-C", project.root, "a", *words)

    assert out == ""


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("words", [[], ["--attempt", "1"]], ids=["last", "named"])
def test_an_attempt_that_is_taken_away_while_it_is_looked_for_is_no_crash(
    run: Run, project: Project, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """RACE: somebody deletes the result, or retries the task."""
    drop(project, "a")
    lay_end(project, "hello\n")
    todo = [Path(project.result_path("a")).unlink]

    def read_history(*args: Any) -> history.History:
        found = history.read_history(*args)
        if todo:
            todo.pop()()  # gone once the attempts are known
        return found

    monkeypatch.setattr("farm.cli.logs.read_history", read_history)
    code, out, err = run("logs", "-C", project.root, "a", *words)

    assert (code, out, "Traceback" in err) == (1, "", False)
