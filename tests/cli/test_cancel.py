"""`farm cancel`, and cancelling by hand."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from farm import life, process, register
from farm.control import give, pause_name
from farm.ledger import Claimed, Ledger, open_attempt, peek
from farm.project import Project
from farm.report import survey
from farm.result import rfc3339
from farm.states import Why
from tests.attempts import attempt, drop
from tests.cli.conftest import Run
from tests.driver import Farm, Gate, said, whys
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

SLOW = {"max": 1, "base_delay": "2d", "max_delay": "2d"}  # retries
LATE = "2999-01-01T00:00:00Z"


def result(project: Project, task_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(project.result_path(task_id)).read_text())
    return found


def left(project: Project) -> list[str]:
    """Ledgers, orders and temporary files that are still there."""
    folders = (project.locks, project.control, project.tmp)
    return [path.name for folder in folders for path in Path(folder).iterdir()]


# -- nobody runs it --------------------------------------------------------------------


ODD_IDS = ["a", "tiles/0-0", "50%", "a b", "\u00e9/%2F", "long" * 60]


@pytest.mark.parametrize("task_id", ODD_IDS)
def test_a_ready_task_ends_cancelled(run: Run, project: Project, task_id: str) -> None:
    drop(project, task_id)
    code, out, err = run("cancel", "-C", project.root, task_id)

    assert (code, out, err) == (0, f"{task_id}\n", "")
    assert result(project, task_id)["status"] == "cancelled"
    assert left(project) == []


def test_its_result_says_who_did_it_and_that_it_never_ran(
    run: Run, project: Project
) -> None:
    drop(project, "a")
    run("cancel", "-C", project.root, "a")
    found = result(project, "a")

    assert found["error"]["kind"] == "cancelled"
    assert process.identify().host in found["error"]["message"]
    assert found["attempts"] == []


@pytest.mark.parametrize(
    "task",
    [{"needs": ["other"]}, {"not_before": LATE}, {"runn": "misspelt"}],
    ids=["needs", "a time", "a better file"],
)
def test_a_task_that_waits_ends_cancelled(
    run: Run, project: Project, task: dict[str, Any]
) -> None:
    drop(project, "a", **task)
    code, out, _ = run("cancel", "-C", project.root, "a")

    assert (code, out) == (0, "a\n")
    assert result(project, "a")["status"] == "cancelled"


@pytest.mark.parametrize("glob", [None, "a", "*"])
def test_a_paused_task_ends_cancelled(
    run: Run, project: Project, glob: str | None
) -> None:
    drop(project, "a")
    give(project, pause_name(glob))
    code, _, _ = run("cancel", "-C", project.root, "a")

    assert code == 0
    assert result(project, "a")["status"] == "cancelled"


def test_a_cancelled_task_has_ended_when_it_was_cancelled(
    run: Run, project: Project
) -> None:
    drop(project, "a", retries=SLOW)
    attempt(project, "a", Why.FAILED, time.time() - 3600)
    before = rfc3339(time.time())
    run("cancel", "-C", project.root, "a")
    found = result(project, "a")

    assert before <= found["finished"] == found["started"]
    assert found["duration_s"] == 0.0


def test_a_task_between_two_attempts_ends_cancelled_with_the_first(
    run: Run, project: Project
) -> None:
    drop(project, "a", retries=SLOW)
    attempt(project, "a", Why.FAILED, time.time())
    code, _, _ = run("cancel", "-C", project.root, "a")
    found = result(project, "a")

    assert code == 0
    assert found["status"] == "cancelled"
    assert whys(found) == ["failed"]
    assert left(project) == []


def test_a_task_that_a_dead_worker_left_ends_cancelled(
    run: Run, project: Project
) -> None:
    drop(project, "a")
    dead = msgspec.structs.replace(process.identify(), pid=2**22 + 1)
    sha256 = register.sha256(project, "a")
    ledger = Ledger.open(project.ledger_path("a"))
    assert ledger is not None
    ledger.append(Claimed("a", 1, "token", "eve", dead, time.time(), sha256))
    ledger.let_go()
    code, _, _ = run("cancel", "-C", project.root, "a")

    assert code == 0
    assert result(project, "a")["status"] == "cancelled"
    assert whys(result(project, "a")) == ["lost"]


def test_everybody_sees_it_at_once(run: Run, project: Project) -> None:
    drop(project, "a")
    drop(project, "b")
    attempt(project, "b", Why.SUCCEEDED, time.time())
    before = survey(project).counts
    run("cancel", "-C", project.root, "a")
    after = survey(project).counts

    assert (before["ready"], before["cancelled"]) == (1, 0)
    assert (after["ready"], after["cancelled"]) == (0, 1)


# -- it has ended ----------------------------------------------------------------------


def test_a_named_task_that_has_ended_stays_so_and_that_is_said(
    run: Run, project: Project
) -> None:
    for task_id in ("a", "b"):
        drop(project, task_id)
    attempt(project, "a", Why.FAILED, time.time())
    before = Path(project.result_path("a")).read_bytes()
    code, out, err = run("cancel", "-C", project.root, "a", "b")

    assert (code, out, err) == (1, "b\n", "a is not cancelled: failed\n")
    assert Path(project.result_path("a")).read_bytes() == before
    assert left(project) == []


def test_cancelling_twice_is_no_mistake(run: Run, project: Project) -> None:
    drop(project, "a")
    run("cancel", "-C", project.root, "a")
    code, out, _ = run("cancel", "-C", project.root, "a")

    assert (code, out) == (0, "a\n")


@pytest.mark.parametrize("choice", [["**"], ["a", "[bc]"], ["--status", "ready"]])
def test_a_glob_passes_over_what_has_ended(
    run: Run, project: Project, choice: list[str]
) -> None:
    for task_id in ("a", "b", "c"):
        drop(project, task_id)
    attempt(project, "b", Why.SUCCEEDED, time.time())
    code, out, err = run("cancel", "-C", project.root, *choice)

    assert (code, out, err) == (0, "a\nc\n", "")
    assert result(project, "b")["status"] == "succeeded"


@pytest.mark.parametrize("choice", [["*"], ["--failed"], ["--status", "ready"]])
def test_nothing_to_cancel_is_said(
    run: Run, project: Project, choice: list[str]
) -> None:
    drop(project, "a")
    attempt(project, "a", Why.FAILED, time.time())
    code, out, err = run("cancel", "-C", project.root, *choice)

    assert (code, out) == (0, "")
    assert "nothing to cancel" in err


def test_a_result_without_a_task_file_stays(run: Run, project: Project) -> None:
    drop(project, "a")
    attempt(project, "a", Why.FAILED, time.time())
    Path(project.task_path("a")).unlink()
    code, _, err = run("cancel", "-C", project.root, "a")

    assert (code, err) == (1, "a is not cancelled: failed\n")


def test_an_order_that_lay_there_is_gone_too(run: Run, project: Project) -> None:
    drop(project, "a")
    attempt(project, "a", Why.FAILED, time.time())
    give(project, "cancel-a", "an old token")
    run("cancel", "-C", project.root, "a")

    assert left(project) == []


# -- how it is typed -------------------------------------------------------------------


def test_which_tasks_must_be_said(run: Run, project: Project) -> None:
    drop(project, "a")
    code, _, err = run("cancel", "-C", project.root)

    assert (code, "say which tasks" in err) == (2, True)
    assert not Path(project.result_path("a")).exists()


@pytest.mark.parametrize(
    ("word", "said"), [("biuld", "did you mean `build`"), ("x*", "no task matches x*")]
)
def test_a_slip_cancels_nothing(
    run: Run, project: Project, word: str, said: str
) -> None:
    for task_id in ("a", "build"):
        drop(project, task_id)
    code, _, err = run("cancel", "-C", project.root, "a", word)

    assert (code, said in err) == (1, True)
    assert not Path(project.result_path("a")).exists()


def test_json_names_the_cancelled_and_the_missed(run: Run, project: Project) -> None:
    for task_id in ("a", "b"):
        drop(project, task_id)
    attempt(project, "b", Why.SUCCEEDED, time.time())
    code, out, _ = run("cancel", "-C", project.root, "a", "b", "--json")

    assert code == 1
    assert json.loads(out) == {"cancelled": ["a"], "missed": {"b": "succeeded"}}


def test_what_is_no_ledger_keeps_no_other_task_from_its_end(
    run: Run, project: Project
) -> None:
    for task_id in ("a", "b"):
        drop(project, task_id)
    Path(project.ledger_path("a")).mkdir()
    code, _, err = run("cancel", "-C", project.root, "*")

    assert (code, "is not a regular file" in err) == (1, True)
    assert result(project, "b")["status"] == "cancelled"


def test_an_order_that_is_a_folder_keeps_no_other_task_from_its_end(
    run: Run, project: Project
) -> None:
    for task_id in ("a", "b"):
        drop(project, task_id)
    Path(project.control, "cancel-a").mkdir()
    run("cancel", "-C", project.root, "*")

    assert result(project, "a")["status"] == "cancelled"
    assert result(project, "b")["status"] == "cancelled"


# -- a command runs --------------------------------------------------------------------


def pid_in(path: Path) -> int:
    """The process id in a file, once it is there."""
    return int(wait_until(lambda: path.exists() and path.read_text().strip()))


def is_gone(pid: int) -> bool:
    """Whether no code of this process runs any more."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def orders(farm: Farm) -> list[str]:
    return [path.name for path in (farm.state / "control").iterdir()]


def hold(farm: Farm, task_id: str, **task: Any) -> Gate:
    """A task whose command waits at a gate of its own."""
    gate = farm.gate(task_id.replace("/", "-").replace("%", "-"))
    farm.drop(task_id, run=gate.command, **task)
    return gate


@pytest.mark.parametrize("task_id", ["a", "tiles/0%"])
def test_a_running_command_ends_cancelled(farm: Farm, task_id: str) -> None:
    gate = hold(farm, task_id, retries=3)
    farm.start_worker()
    gate.wait_reached()
    ended = farm.farm("cancel", task_id)

    assert (ended.returncode, ended.stdout) == (0, f"{task_id}\n"), ended.stderr
    assert "1 task still running" in ended.stderr
    assert farm.status_of(task_id) == "cancelled"
    assert whys(farm.result(task_id)) == ["cancelled"]
    assert orders(farm) == []


def test_all_of_its_process_group_is_gone(farm: Farm) -> None:
    inner = "while :; do sleep 0.02; done"
    script = farm.write("stubborn.sh", f"trap '' TERM\necho $$ > grandchild\n{inner}\n")
    farm.drop("a", run=f"echo $$ > leader; (sh {script} & wait) & {inner}")
    farm.start_worker(FARM_GRACE="0.3")
    pids = [pid_in(farm.root / name) for name in ("leader", "grandchild")]
    ended = farm.farm("cancel", "a")

    assert ended.returncode == 0
    assert [is_gone(pid) for pid in pids] == [True, True]


def test_a_command_may_tidy_up(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=f"trap 'echo tidied; exit 0' TERM; {gate.command}")
    farm.start_worker()
    gate.wait_reached()
    farm.farm("cancel", "a")

    assert farm.status_of("a") == "cancelled"
    assert farm.result("a")["stdout"] == "tidied\n"


def test_the_worker_goes_on_with_the_next_task(farm: Farm) -> None:
    gate = hold(farm, "a")
    farm.drop("b", run="true")
    farm.drop("needs-it", run="true", needs=["a"])
    worker = farm.start_worker()
    gate.wait_reached()
    farm.farm("cancel", "a")
    done = farm.wait_for("succeeded", "b")
    farm.wait_for("skipped", "needs-it")

    assert worker.poll() is None
    assert done["worker"] == farm.result("a")["worker"]


def test_running_and_ready_ones_end_together(farm: Farm) -> None:
    gates = [hold(farm, task_id) for task_id in ("a", "b")]
    for _ in gates:
        farm.start_worker()
    for gate in gates:
        gate.wait_reached()
    farm.drop("c", run="true", needs=["a"])
    ended = farm.farm("cancel", "**", "--json")

    assert ended.returncode == 0, ended.stderr
    assert sorted(json.loads(ended.stdout)["cancelled"]) == ["a", "b", "c"]
    assert {farm.status_of(i) for i in "abc"} == {"cancelled"}


# -- a callable runs -------------------------------------------------------------------

SLEEPS = """
import os, pathlib, time

def go():
    try:
        {mark}
        time.sleep(1000)
    except BaseException as error:
        pathlib.Path("raised").write_text(type(error).__name__)
        raise
"""

STUBBORN = """
import os, pathlib, time

def go():
    while True:
        try:
            {mark}
            while True:
                time.sleep(0.02)
        except BaseException:
            continue
"""


def call(farm: Farm, task_id: str, text: str) -> Gate:
    """A task that calls `go` in this text; it reaches the gate and goes on."""
    gate = farm.gate()
    farm.write("module.py", text.replace("{mark}", gate.mark))
    farm.drop(task_id, call="module:go")
    return gate


def test_a_sleeping_callable_is_interrupted_and_its_worker_goes_on(farm: Farm) -> None:
    gate = call(farm, "a", SLEEPS)
    farm.drop("b", run="true")
    farm.start_worker()
    gate.wait_reached()
    ended = farm.farm("cancel", "a")
    done = farm.wait_for("succeeded", "b")

    assert (ended.returncode, ended.stdout) == (0, "a\n")
    assert farm.status_of("a") == "cancelled"
    assert (farm.root / "raised").read_text() == "TaskCancelledError"
    assert done["worker"] == farm.result("a")["worker"]


TIDIES = """
import os, pathlib, time

def go():
    try:
        {mark}
        time.sleep(1000)
    finally:
        while len(os.listdir("beats")) < 4:  # the order is seen again at each of them
            pathlib.Path("beats", str(time.monotonic())).touch()
            time.sleep(0.2)
        pathlib.Path("tidy").touch()
"""


def test_a_callable_that_tidies_up_is_interrupted_only_once(farm: Farm) -> None:
    (farm.root / "beats").mkdir()
    gate = call(farm, "a", TIDIES)
    farm.start_worker(FARM_HEARTBEAT="0.1")
    gate.wait_reached()
    farm.farm("cancel", "a")

    assert farm.status_of("a") == "cancelled"
    assert (farm.root / "tidy").exists()


def test_without_any_grace_a_callable_that_yields_costs_no_worker(farm: Farm) -> None:
    gate = call(farm, "a", SLEEPS)
    farm.drop("b", run="true")
    farm.start_worker(FARM_GRACE="0")
    gate.wait_reached()
    farm.farm("cancel", "a")
    done = farm.wait_for("succeeded", "b")

    assert whys(farm.result("a")) == ["cancelled"]
    assert done["worker"] == farm.result("a")["worker"]


FORKS = """
    import multiprocessing, subprocess
    fork = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
    fork.start()
    command = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    for name, pid in (("fork", fork.pid), ("command", command.pid)):
        pathlib.Path(f"{name}.aside").write_text(str(pid))
        pathlib.Path(f"{name}.aside").rename(name)
"""


@pytest.mark.parametrize("text", [SLEEPS, STUBBORN], ids=["yields", "does not"])
def test_what_a_callable_started_is_gone_too(farm: Farm, text: str) -> None:
    gate = call(farm, "a", text.replace("def go():", f"def go():{FORKS}"))
    farm.start_worker(FARM_GRACE="0.3")
    gate.wait_reached()
    pids = [pid_in(farm.root / name) for name in ("fork", "command")]
    ended = farm.farm("cancel", "a", FARM_GRACE="0.3")

    assert ended.returncode == 0
    assert [is_gone(pid) for pid in pids] == [True, True]


def test_a_callable_that_swallows_everything_is_ended_with_its_worker(
    farm: Farm,
) -> None:
    gate = call(farm, "a", STUBBORN)
    farm.drop("b", run="true")
    farm.supervise("-j", "1", FARM_GRACE="0.3")
    gate.wait_reached()
    ended = farm.farm("cancel", "a", FARM_GRACE="0.3")
    done = farm.wait_for("succeeded", "b")

    assert (ended.returncode, ended.stdout) == (0, "a\n")
    assert farm.status_of("a") == "cancelled"
    assert whys(farm.result("a")) == ["cancelled"]
    assert "module.py" in farm.result("a")["attempts"][0]["error"]["traceback"]
    assert done["worker"] != farm.result("a")["attempts"][0]["worker"]
    assert len(gate.reached()) == 1
    assert orders(farm) == []


def test_a_worker_alone_that_ends_so_says_it_by_its_exit_code(farm: Farm) -> None:
    gate = call(farm, "a", STUBBORN)
    worker = farm.start_worker(FARM_GRACE="0.3")
    gate.wait_reached()
    ended = farm.farm("cancel", "a", FARM_GRACE="0.3")

    assert worker.wait(30) == 70
    assert ended.returncode == 0
    assert farm.status_of("a") == "cancelled"


# -- by hand ---------------------------------------------------------------------------


def touch(farm: Farm, task_id: str, text: str = "") -> None:
    """Give the order as a person does, for an id that is short."""
    name = task_id.replace("%", "%25").replace("/", "%2F")
    folder = farm.state / "control"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".aside").write_text(text)
    (folder / ".aside").rename(folder / f"cancel-{name}")


IDS = ["a", "tiles/0-0", "50%", "a/b%2Fc"]


@pytest.mark.parametrize("task_id", IDS)
def test_an_empty_file_cancels_what_is_ready(farm: Farm, task_id: str) -> None:
    farm.drop(task_id, run="touch ran")
    touch(farm, task_id)
    farm.work()

    assert farm.status_of(task_id) == "cancelled"
    assert not (farm.root / "ran").exists()
    assert orders(farm) == []


@pytest.mark.parametrize("task_id", IDS)
def test_an_empty_file_cancels_what_runs(farm: Farm, task_id: str) -> None:
    gate = hold(farm, task_id, retries=2)
    farm.start_worker()
    gate.wait_reached()
    touch(farm, task_id)
    farm.wait_for("cancelled", task_id)
    wait_until(lambda: orders(farm) == [], on_timeout=farm.describe)

    assert whys(farm.result(task_id)) == ["cancelled"]


@pytest.mark.parametrize(
    "task",
    [{"needs": ["other"]}, {"not_before": LATE}],
    ids=["needs", "a time"],
)
def test_an_empty_file_cancels_what_waits(farm: Farm, task: dict[str, Any]) -> None:
    farm.drop("a", run="true", **task)
    farm.start_worker()
    touch(farm, "a")
    farm.wait_for("cancelled", "a")


def test_an_empty_file_cancels_what_is_paused(farm: Farm) -> None:
    farm.drop("a", run="true")
    touch(farm, "a")
    (farm.state / "control" / "pause").touch()
    farm.work()

    assert farm.status_of("a") == "cancelled"
    assert orders(farm) == ["pause"]


def test_an_empty_file_cancels_what_waits_for_its_next_attempt(farm: Farm) -> None:
    farm.drop("a", run="exit 1", retries=SLOW)
    farm.start_worker()
    path = farm.state / "locks" / "task-a.lock"
    wait_until(lambda: path.exists() and '"ended"' in path.read_text())
    touch(farm, "a")
    farm.wait_for("cancelled", "a")

    assert whys(farm.result("a")) == ["failed"]


def token(farm: Farm, task_id: str) -> str:
    """The token of the attempt that runs."""
    path = Project(farm.root).ledger_path(task_id)
    past = open_attempt(peek(path))
    assert past is not None
    return past.claimed.token


def test_the_token_of_the_running_attempt_cancels_it(farm: Farm) -> None:
    gate = hold(farm, "a")
    farm.start_worker()
    gate.wait_reached()
    touch(farm, "a", f"{token(farm, 'a')}\n")
    farm.wait_for("cancelled", "a")


def wait_beats(farm: Farm, count: int = 2) -> None:
    """Until the only worker's heart has beaten so often: it read the orders."""
    project = Project(farm.root)
    (name,) = farm.worker_names()

    def beats() -> int:
        seen = life.read(project, name)
        return seen[0] if seen else 0

    until = beats() + count
    wait_until(lambda: beats() >= until, on_timeout=farm.describe)


def test_an_old_token_does_not_hit_the_next_run(farm: Farm) -> None:
    gate = hold(farm, "a")
    farm.start_worker()
    gate.wait_reached()
    touch(farm, "a", "0123456789abcdef")
    wait_beats(farm)
    gate.open()
    farm.wait_for("succeeded", "a")

    assert whys(farm.result("a")) == ["succeeded"]


def test_an_old_token_does_not_cancel_what_is_ready(farm: Farm) -> None:
    farm.drop("a", run="true")
    touch(farm, "a", "0123456789abcdef")
    farm.work()

    assert farm.status_of("a") == "succeeded"


def test_an_order_for_no_task_is_nobodys_business(farm: Farm) -> None:
    farm.drop("a", run="true")
    touch(farm, "b")
    farm.work()

    assert farm.status_of("a") == "succeeded"
    assert orders(farm) == ["cancel-b"]


# -- races -----------------------------------------------------------------------------


def wait_ordered(farm: Farm, task_id: str) -> str:
    """What the order to cancel a task that runs says, once it was given."""
    path = farm.state / "control" / f"cancel-{task_id}"
    wait_until(path.exists, on_timeout=farm.describe)
    return path.read_text()


def test_a_task_that_succeeds_first_has_succeeded_and_the_verb_says_so(
    farm: Farm,
) -> None:
    gate = hold(farm, "a")
    farm.start_worker(FARM_HEARTBEAT="30", FARM_HEARTBEAT_TIMEOUT="90")
    gate.wait_reached()
    verb = farm.start("cancel", "a")
    order = wait_ordered(farm, "a")
    names = token(farm, "a")
    gate.open()

    assert verb.wait(40) == 1, farm.describe()
    assert order == names
    assert "a is not cancelled: succeeded" in said(farm, verb)
    assert farm.status_of("a") == "succeeded"
    assert orders(farm) == []


def test_an_attempt_that_fails_first_is_not_followed_by_another(farm: Farm) -> None:
    gate = farm.gate()
    farm.drop("a", run=f"{gate.command}; exit 1", retries=SLOW)
    farm.start_worker(FARM_HEARTBEAT="30", FARM_HEARTBEAT_TIMEOUT="90")
    gate.wait_reached()
    verb = farm.start("cancel", "a")
    wait_ordered(farm, "a")
    gate.open()

    assert verb.wait(40) == 0, farm.describe()
    assert farm.status_of("a") == "cancelled"
    assert whys(farm.result("a")) == ["failed"]


@pytest.mark.parametrize("others", [0, 2])
def test_a_worker_that_is_killed_meanwhile_leaves_a_cancelled_task(
    farm: Farm, others: int
) -> None:
    gate = hold(farm, "a")
    worker = farm.start_worker(FARM_HEARTBEAT="30", FARM_HEARTBEAT_TIMEOUT="90")
    gate.wait_reached()
    for _ in range(others):
        farm.start_worker()
    verb = farm.start("cancel", "a")
    wait_ordered(farm, "a")
    farm.kill(worker)

    assert verb.wait(40) == 0, farm.describe()
    assert farm.status_of("a") == "cancelled"
    assert whys(farm.result("a")) == ["cancelled"]
    assert len(gate.reached()) == 1
    assert is_gone(gate.reached()[0])


def test_a_command_whose_worker_is_dead_is_ended_by_the_verb(farm: Farm) -> None:
    gate = hold(farm, "a")
    worker = farm.start_worker()
    (pid,) = gate.wait_reached()
    farm.kill(worker)
    lived_on = not is_gone(pid)
    ended = farm.farm("cancel", "a")

    assert lived_on
    assert (ended.returncode, ended.stdout) == (0, "a\n")
    assert is_gone(pid)
    assert farm.status_of("a") == "cancelled"
    assert orders(farm) == []


def test_two_who_cancel_the_same_task_both_see_it_cancelled(farm: Farm) -> None:
    gate = hold(farm, "a")
    farm.start_worker()
    gate.wait_reached()
    verbs = [farm.start("cancel", "a") for _ in range(2)]

    assert [verb.wait(40) for verb in verbs] == [0, 0], farm.describe()
    assert orders(farm) == []


def test_ctrl_c_ends_the_verb_and_the_order_stands(farm: Farm) -> None:
    gate = hold(farm, "a")
    worker = farm.start_worker(FARM_HEARTBEAT="30", FARM_HEARTBEAT_TIMEOUT="90")
    gate.wait_reached()
    verb = farm.start("cancel", "a")
    wait_until(lambda: "Ctrl-C does not take it back" in said(farm, verb))
    wait_ordered(farm, "a")
    farm.signal(verb, signal.SIGINT)
    code = verb.wait(30)
    still = orders(farm)
    farm.kill(worker)
    farm.work()

    assert (code, still) == (130, ["cancel-a"])
    assert "Traceback" not in said(farm, verb)
    assert farm.status_of("a") == "cancelled"
    assert orders(farm) == []


def test_a_retried_task_is_not_hit_by_the_order_of_its_first_run(farm: Farm) -> None:
    gate = hold(farm, "a")
    farm.start_worker()
    gate.wait_reached()
    farm.farm("cancel", "a")
    gate.open()
    farm.farm("retry", "a")
    farm.wait_for("succeeded", "a")

    assert whys(farm.result("a")) == ["succeeded"]
