"""Prompts over HTTP in a real farm: how many at once, what ends them, what they leave."""

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.driver import LOOKS_OFTEN, Farm, said, whys
from tests.processes.test_secrets import holding
from tests.prompts import Prompts, told
from tests.provider.answers import Says, Stall
from tests.provider.rows import ROWS
from tests.provider.server import Provider
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

HOUR = ROWS["rate_limit"].with_headers(retry_after="3600")
IN_HALF_A_MINUTE = ROWS["rate_limit"].with_headers(retry_after="30")


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as there:
        yield there


@pytest.fixture
def prompts(farm: Farm, provider: Provider) -> Prompts:
    return Prompts(farm, provider)


def stop(farm: Farm, worker: "subprocess.Popen[bytes]") -> None:
    """Ask it to stop, and wait until it has heard that."""
    farm.signal(worker, signal.SIGTERM)
    wait_until(lambda: "finishing what runs" in said(farm, worker))


# -- how many -----------------------------------------------------------------------


def test_as_many_calls_as_the_agent_allows_are_under_way_at_once(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    prompts.agent_with_key(concurrency=5)
    names = prompts.drop(12)
    provider.hold()
    farm.start_worker()
    provider.wait_for_calls(5)
    at_once, calls = prompts.running(), provider.count()
    (worker,) = json.loads(farm.farm("workers", "--json").stdout)["workers"]
    shown = farm.farm("workers").stdout
    provider.release()
    farm.wait_for("succeeded", *names)

    assert (len(at_once), calls) == (5, 5)
    assert (worker["task"] in at_once, worker["others"]) == (True, 4)
    assert f"{worker['task']} and 4 more" in shown
    assert sorted(prompts.asked()) == [f"prompt {n:02}" for n in range(12)]
    assert farm.result("p07")["text"] == "echo: prompt 07"


def test_an_agent_without_concurrency_answers_one_prompt_after_the_other(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    prompts.agent_with_key()
    prompts.drop(3)
    provider.hold(times=1)
    worker = farm.start_worker("--until-done")
    provider.wait_for_calls(1)
    at_once = prompts.running()
    provider.release()
    wait_until(lambda: worker.poll() is not None)

    assert len(at_once) == 1
    assert prompts.asked() == ["prompt 00", "prompt 01", "prompt 02"]


def test_two_workers_ask_no_prompt_twice(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    prompts.agent_with_key(concurrency=5)
    names = prompts.drop(40)
    provider.hold()
    workers = [farm.start_worker("--until-done") for _ in range(2)]
    provider.wait_for_calls(10)
    provider.release()
    wait_until(lambda: all(worker.poll() == 0 for worker in workers))
    results = [farm.result(name) for name in names]

    assert Counter(prompts.asked()) == Counter(f"prompt {n:02}" for n in range(40))
    assert {whys(result) == ["succeeded"] for result in results} == {True}
    assert len({result["worker"] for result in results}) == 2


def test_two_hundred_calls_are_under_way_in_two_processes(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    prompts.agent_with_key(concurrency=100)
    names = prompts.drop(200)
    provider.hold()
    workers = [farm.start_worker() for _ in range(2)]
    provider.wait_for_calls(200, timeout=50)
    sizes = [psutil.Process(worker.pid).memory_info().rss for worker in workers]
    provider.release()
    farm.wait_for("succeeded", *names)
    print(f"200 calls in two processes take {sum(sizes) / 1e6:.0f} MB resident")

    assert provider.count() == 200


def test_no_more_calls_are_under_way_than_files_may_be_open(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    prompts.agent_with_key(concurrency=50)
    names = prompts.drop(30)
    provider.hold()
    limit = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (84, 84))"
    worker = farm.start_changed(limit)
    provider.wait_for_calls(10)
    at_once = prompts.running()
    provider.release()
    farm.wait_for("succeeded", *names)

    assert len(at_once) == 10
    assert "Too many open files" not in said(farm, worker)


def test_a_prompt_that_comes_while_calls_are_under_way_is_taken(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    prompts.agent_with_key(concurrency=5)
    provider.hold()
    farm.drop("before", run="true")
    farm.start_changed('patch("farm.worker.IDLE_LOOK", 1000.0).start()')
    farm.wait_for("succeeded", "before")
    farm.farm("status")  # meanwhile it begins to watch the folder
    farm.drop("first", prompt="first")
    provider.wait_for_calls(1)
    farm.drop("second", prompt="second")
    provider.wait_for_calls(2)
    provider.release()

    farm.wait_for("succeeded", "first", "second")


STANDS_STILL = """
import time
from farm import queue, worker
worker.LONGEST_LOOK = 0.1
jumped, look, tick = [0.0], queue.Queue.refresh, time.monotonic
def refresh(*words):
    jumped[0] += 60.0
    return look(*words)
time.monotonic, queue.Queue.refresh = lambda: tick() + jumped[0], refresh
"""


def test_looks_in_which_the_machine_stands_still_do_not_put_off_the_next_for_long(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    prompts.agent_with_key(concurrency=2)
    provider.hold()
    farm.drop("first", prompt="first")
    farm.start_changed(STANDS_STILL)
    provider.wait_for_calls(1)
    farm.drop("second", prompt="second")
    provider.wait_for_calls(2)
    provider.release()

    farm.wait_for("succeeded", "first", "second")


# -- other tasks ----------------------------------------------------------------------


def drop_when_busy(prompts: Prompts, **task: Any) -> None:
    """A `run` task that comes when two calls are under way: it notes who had a result."""
    prompts.provider.wait_for_calls(2)
    prompts.farm.drop("a-run", run="ls tasks > seen", **task)
    prompts.provider.release()


def test_a_task_of_another_kind_may_be_overtaken(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    prompts.agent_with_key(concurrency=2)
    names = prompts.drop(30)
    provider.slow(0.1)
    provider.hold(times=2)
    farm.start_worker()
    drop_when_busy(prompts)
    farm.wait_for("succeeded", *names, "a-run")

    assert "p29.result.json" in told(farm.root / "seen")


def test_a_task_of_another_kind_is_not_overtaken_for_ever(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    prompts.agent_with_key(concurrency=2)
    names = prompts.drop(60)
    provider.slow(0.1)
    provider.hold(times=2)
    farm.start_changed(f'{LOOKS_OFTEN}; patch("farm.calls.OTHERS_WAIT", 0.2).start()')
    drop_when_busy(prompts)
    farm.wait_for("succeeded", *names, "a-run")

    assert "p59.result.json" not in told(farm.root / "seen")


def test_a_task_of_higher_priority_is_overtaken_by_nobody(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    prompts.agent_with_key(concurrency=2)
    names = prompts.drop(60)
    provider.slow(0.1)
    provider.hold(times=2)
    farm.start_changed(LOOKS_OFTEN)
    drop_when_busy(prompts, priority=5)
    farm.wait_for("succeeded", *names, "a-run")

    assert "p59.result.json" not in told(farm.root / "seen")


def test_a_task_that_another_worker_runs_keeps_no_call_back(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    gate = farm.gate()
    prompts.agent_with_key(concurrency=2)
    farm.drop("a-run", run=gate.command, priority=5)
    farm.start_worker()
    gate.wait_reached()
    names = prompts.drop(30)
    provider.slow(0.1)
    provider.hold(times=1)
    farm.start_worker()
    # All but one end while that one is under way: in three seconds, so several looks.
    wait_until(lambda: sum(farm.status_of(n) is not None for n in names) == 29)
    provider.release()
    gate.open()

    farm.wait_for("succeeded", *names, "a-run")


def test_what_prompts_need_ends_before_they_are_asked(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    prompts.agent_with_key(concurrency=5)
    farm.drop("a", prompt="a", needs=["b"])
    farm.drop("b", prompt="b", needs=["c"])
    farm.drop("c", run="true", needs=["d"])
    farm.drop("d", prompt="d")
    farm.work()

    assert prompts.asked() == ["d", "b", "a"]


# -- stop, cancel, time out, crash --------------------------------------------------------


def five_held(prompts: Prompts, **first: Any) -> "subprocess.Popen[bytes]":
    """A worker that holds five calls of seven prompts."""
    prompts.agent_with_key(concurrency=5)
    prompts.drop(7)
    if first:
        prompts.farm.drop("p00", prompt="prompt 00", **first)
    prompts.provider.hold()
    worker = prompts.farm.start_worker()
    prompts.provider.wait_for_calls(5)
    return worker


def test_who_is_told_to_stop_finishes_its_calls_and_takes_no_more(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    worker = five_held(prompts)
    stop(farm, worker)
    provider.release()
    worker.wait(20)
    ended = [name for name in map("p{:02}".format, range(7)) if farm.status_of(name)]

    assert ended == ["p00", "p01", "p02", "p03", "p04"]
    assert provider.count() == 5


def test_who_is_told_twice_gives_its_calls_back(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    worker = five_held(prompts)
    stop(farm, worker)
    farm.signal(worker, signal.SIGTERM)
    worker.wait(20)
    found = [prompts.endings(f"p0{n}") for n in range(7)]

    assert [[(e.why, e.counted) for e in ended] for ended in found] == [
        *[[("drained", False)]] * 5,
        *[[]] * 2,
    ]
    provider.release()
    farm.work()
    assert whys(farm.result("p00")) == ["drained", "succeeded"]


def test_a_cancel_ends_one_call_and_no_other(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    five_held(prompts)
    farm.farm("cancel", "p02")
    farm.wait_for("cancelled", "p02")
    provider.wait_for_calls(6)  # its place is another's
    provider.release()
    others = [f"p0{n}" for n in range(7) if n != 2]
    farm.wait_for("succeeded", *others)

    assert {tuple(whys(farm.result(name))) for name in others} == {("succeeded",)}
    assert farm.result("p02")["error"]["message"] == "cancelled while it ran"


def test_the_time_of_one_call_ends_no_other(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    five_held(prompts, timeout=0.5)
    result = farm.wait_for("timed_out", "p00")
    provider.release()
    others = [f"p0{n}" for n in range(1, 7)]
    farm.wait_for("succeeded", *others)

    assert result["error"]["message"] == "timed out after 0.5 s of calls"
    assert result["asked"] == {"model": "m", "credential": "anthropic-1"}


def test_a_stream_that_stalls_is_ended_by_the_time_of_its_task(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    prompts.agent_with_key()
    provider.answer_with(Stall())
    prompts.drop(1, timeout=0.5)
    farm.work()

    assert farm.status_of("p00") == "timed_out"


def test_calls_of_a_worker_that_was_killed_are_asked_again(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    farm.kill(five_held(prompts))
    provider.release()
    farm.start_worker()
    names = [f"p0{n}" for n in range(7)]
    farm.wait_for("succeeded", *names)
    again = {"lost", "succeeded"}

    assert [set(whys(farm.result(name))) for name in names] == [
        *[again] * 5,
        *[{"succeeded"}] * 2,
    ]
    asked = Counter(prompts.asked())
    assert sorted(asked.values()) == [1, 1, 2, 2, 2, 2, 2]


def wait_for_a_turn(prompts: Prompts) -> "subprocess.Popen[bytes]":
    """A worker whose only call waits for half a minute, and holds it meanwhile."""
    prompts.agent_with_key()
    prompts.provider.answer_with(IN_HALF_A_MINUTE, times=None)
    prompts.drop(1)
    worker = prompts.farm.start_worker()
    wait_until(prompts.rests)
    return worker


def test_who_waits_for_a_turn_is_ended_by_a_second_stop_at_once(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    worker = wait_for_a_turn(prompts)
    stop(farm, worker)
    farm.signal(worker, signal.SIGTERM)
    worker.wait(20)

    assert [ended.why for ended in prompts.endings("p00")] == ["drained"]
    assert provider.count() == 1


def test_who_waits_for_a_turn_is_ended_by_a_cancel_at_once(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    wait_for_a_turn(prompts)
    farm.farm("cancel", "p00")
    farm.wait_for("cancelled", "p00", timeout=20)

    assert provider.count() == 1


# -- keys -----------------------------------------------------------------------------------


def test_a_key_that_rests_for_an_hour_frees_the_worker(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    prompts.agent_with_key(concurrency=3)
    provider.answer_with(HOUR, times=None)
    prompts.drop(1)
    farm.start_worker()
    wait_until(lambda: prompts.endings("p00"))
    farm.drop("z-call", call="os:getpid")
    farm.drop("z-run", run="true", needs=["z-call"])
    farm.wait_for("succeeded", "z-call", "z-run")
    (ended,) = prompts.endings("p00")
    report = json.loads(farm.farm("status", "--json").stdout)

    assert (ended.why, ended.counted) == ("throttled", False)
    assert ended.not_before > ended.finished + 3590
    assert ended.error is not None
    assert "rate limit (429 rate_limit_error)" in ended.error.message
    assert "anthropic-1 cools down until" in ended.error.message
    assert [one["id"] for one in report["waiting"]] == ["p00"]
    assert provider.count() == 1


def test_a_prompt_whose_need_broke_is_skipped_although_all_keys_rest(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    prompts.agent_with_key()
    provider.answer_with(HOUR, times=None)
    prompts.drop(1)
    farm.start_worker()
    wait_until(lambda: prompts.endings("p00"))
    farm.drop("a", prompt="never asked", needs=["b"])
    farm.drop("b", run="exit 1")

    farm.wait_for("skipped", "a")
    assert provider.count() == 1


def test_a_key_that_is_refused_gives_way_to_the_next_and_comes_back_with_a_new_value(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    prompts.agent()
    first, second = prompts.key(1), prompts.key(2)
    provider.remove_key(first)
    names = prompts.drop(6)
    farm.work()
    used = {farm.result(name)["asked"]["credential"] for name in names}
    refused = provider.count(status=401)
    rests = prompts.rests()

    assert used == {second}
    assert (refused in (0, 1), rests <= {("disabled", "dead key")}) == (True, True)
    provider.remove_key(second)
    prompts.key(1)
    farm.drop("again", prompt="again")
    farm.work()
    assert farm.result("again")["asked"]["credential"] == first
    assert farm.status_of("again") == "succeeded"


def test_an_overload_is_waited_out_with_the_same_key_and_rests_none(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    prompts.agent()
    prompts.key(1)
    provider.answer_with(ROWS["overloaded"], times=2)
    prompts.drop(1)
    farm.work()

    assert whys(farm.result("p00")) == ["succeeded"]
    assert provider.count(status=529) == 2
    assert prompts.rests() == set()


#: what a call waits for comes at once, and all clocks say that it took its time
JUMPS = """
import time
from farm import asking
jumped = [0.0]
def that_jumps(real):
    return lambda: real() + jumped[0]
time.time, time.monotonic = map(that_jumps, (time.time, time.monotonic))
async def sleep_until(at):
    jumped[0] += max(0.0, at - time.time())
asking._sleep_until = sleep_until
"""


def test_a_rate_limit_counts_neither_against_the_task_nor_its_time_nor_the_worker(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    prompts.agent_with_key()
    provider.answer_with(IN_HALF_A_MINUTE)
    prompts.drop(1, timeout=20, retries=0)
    farm.start_changed(JUMPS)
    farm.wait_for("succeeded", "p00")
    health = [path.read_text() for path in (farm.state / "workers").glob("*.json")]

    assert whys(farm.result("p00")) == ["succeeded"]
    assert provider.count(status=429) == 1
    assert [text for text in health if "failures" in text] == []


def test_a_prompt_is_not_put_off_for_ever(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    prompts.agent_with_key()
    provider.answer_with(ROWS["authentication"], times=None)
    prompts.drop(1)
    farm.start_worker(FARM_MAX_WAIT="0.01s")
    result = farm.wait_for("failed", "p00")

    assert result["error"]["message"].startswith("put off by its provider for longer")
    assert {attempt["counted"] for attempt in result["attempts"]} == {False}


# -- what goes wrong with the machine ---------------------------------------------------------


#: until two are answered
FULL = """
from farm import calls, commit
ask, write, answered = calls.answer, commit.finish, []
async def answer(*words):
    outcome = await ask(*words)
    answered.append(outcome)
    return outcome
def finish(*words):
    if len(answered) < 2:
        raise OSError(28, "No space left on device")
    return write(*words)
calls.answer, commit.finish = answer, finish
"""
UNSEEN = """
import os
from farm.worker import Worker
real, count = Worker.refresh, []
def refresh(self):
    count.append(1)
    if self.running and not os.path.exists("failed"):
        open("failed", "w").close()
        raise OSError(5, "Input/output error")
    real(self)
Worker.refresh = refresh
"""
UNWRITTEN = """
import errno
from farm.ledger import Ledger, Using
real, left = Ledger.append, [1]
def append(self, line):
    if isinstance(line, Using) and left[0]:
        left[0] -= 1
        raise OSError(errno.ETIMEDOUT, "Connection timed out")
    real(self, line)
Ledger.append = append
"""


def test_answers_that_the_disk_does_not_take_are_kept_and_not_asked_again(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    prompts.agent_with_key(concurrency=2)
    provider.answer_with(Stall())
    names = prompts.drop(2)
    farm.start_changed(FULL)
    wait_until(lambda: "cannot write the result" in said(farm))
    provider.release()  # while the disk is full the other is answered, too
    farm.wait_for("succeeded", *names)

    assert provider.count() == 2


def test_a_folder_that_cannot_be_read_for_a_moment_ends_no_call(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    prompts.agent_with_key(concurrency=2)
    provider.hold()
    names = [farm.drop("p00", prompt="first")]
    farm.start_changed(LOOKS_OFTEN + UNSEEN, "--until-done")
    provider.wait_for_calls(1)
    wait_until(lambda: "cannot look for tasks" in said(farm))
    provider.release()
    farm.wait_for("succeeded", *names)

    assert (provider.count(), whys(farm.result("p00"))) == (1, ["succeeded"])


def test_a_ledger_that_cannot_be_written_is_the_machines_fault(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    prompts.agent_with_key(concurrency=2)
    prompts.drop(2)
    farm.start_changed(UNWRITTEN, "--until-done")
    farm.wait_for("succeeded", "p00", "p01")
    found = sorted(whys(farm.result(name)) for name in ("p00", "p01"))

    assert found == [["fault", "succeeded"], ["succeeded"]]
    assert provider.count() == 2


# -- prompts and agents ---------------------------------------------------------------------------


def test_a_prompt_file_that_cannot_be_read_is_its_tasks_failure(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    prompts.agent_with_key(concurrency=3)
    farm.write("good.md", "from a file")
    farm.write("empty.md", " \n")
    (farm.root / "latin.md").write_bytes(b"caf\xe9")
    os.mkfifo(farm.root / "fifo.md")
    (farm.root / "out.md").symlink_to(farm.write("../outside.md", "a secret"))
    (farm.root / "in.md").symlink_to("good.md")
    (farm.root / "folder.md").mkdir()
    names = ["empty", "latin", "fifo", "out", "folder", "missing"]
    for name in [*names, "good", "in"]:
        farm.drop(name, prompt_file=f"{name}.md")
    farm.work()
    words = {name: farm.result(name)["error"]["message"] for name in names}

    assert [farm.result(name)["text"] for name in ("good", "in")] == [
        "echo: from a file"
    ] * 2
    assert {farm.result(name)["error"]["kind"] for name in names} == {"environment"}
    assert "is empty" in words["empty"]
    assert "is not UTF-8" in words["latin"]
    assert "leads out of the project" in words["out"]
    assert "fifo.md" in words["fifo"]
    assert "No such file" in words["missing"]
    assert "Is a directory" in words["folder"]
    assert provider.count() == 2


def test_a_prompt_for_an_agent_that_farm_does_not_know_fails(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    prompts.agent_with_key()
    prompts.drop(1, agent="nobody")
    farm.work()

    assert farm.result("p00")["error"]["kind"] == "agent"
    assert provider.count() == 0


SETTINGS = {
    "kind": "messages",
    "model": "other",
    "system": "Be brief.",
    "max_tokens": 77,
    "temperature": 0.5,
}


@pytest.mark.parametrize("stream", [True, False])
def test_an_agent_in_the_task_itself_says_all_that_is_sent(
    prompts: Prompts, farm: Farm, provider: Provider, *, stream: bool
) -> None:
    prompts.key()
    agent = SETTINGS | {"stream": stream, "auth": "x-api-key"}
    farm.drop("a", prompt="hello", agent=agent)
    farm.work()
    (call,) = provider.calls

    assert farm.result("a")["text"] == "echo: hello"
    assert call.key_header == "x-api-key"
    assert call.body == {
        "model": "other",
        "max_tokens": 77,
        "messages": [{"role": "user", "content": "hello"}],
        "stream": stream,
        "system": "Be brief.",
        "temperature": 0.5,
    }


@pytest.mark.parametrize("stream", [True, False])
def test_a_compatible_server_needs_no_key(
    prompts: Prompts, farm: Farm, provider: Provider, *, stream: bool
) -> None:
    provider.add_key("nobody", "")
    agent = SETTINGS | {
        "kind": "openai",
        "base_url": f"{provider.url}/v1",
        "stream": stream,
    }
    farm.drop("a", prompt="hello", agent=agent)
    farm.work()
    (call,) = provider.calls
    result = farm.result("a")

    assert (result["text"], call.key_header) == ("echo: hello", None)
    assert call.body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hello"},
    ]
    assert (call.body["max_tokens"], call.body["temperature"]) == (77, 0.5)
    assert result["usage"]["turns"] == 1
    assert result["usage"]["output_tokens"] == 2


@pytest.mark.parametrize("kind", ["messages", "openai"])
def test_a_schema_makes_a_value_of_the_answer(
    prompts: Prompts, farm: Farm, provider: Provider, kind: str
) -> None:
    provider.add_key("nobody", "")
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    url = provider.url if kind == "messages" else f"{provider.url}/v1"
    agent = {"kind": kind, "model": "m", "output_schema": schema, "base_url": url}
    farm.drop("a", prompt="hello", agent=agent)
    farm.work()

    assert farm.result("a")["value"] == {"n": 5}


@pytest.mark.parametrize("text", ["", "not JSON", "1" * 41, "[" * 5000, "[1e999]"])
def test_an_answer_that_no_value_can_be_made_of_fails_and_is_kept(
    prompts: Prompts, farm: Farm, provider: Provider, text: str
) -> None:
    provider.add_key("nobody", "")
    provider.answer_with(Says(text))
    agent = {"kind": "messages", "model": "m", "base_url": provider.url}
    farm.drop("a", prompt="hello", agent=agent | {"output_schema": {"type": "object"}})
    farm.work(DEMO_API_KEY="something else")

    assert farm.result("a")["error"]["message"].startswith("the answer is not the JSON")
    assert farm.result("a")["text"] == text


def test_a_result_says_what_was_used_and_by_what_the_provider_knows_it(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    prompts.agent(model="claude-next")
    key = prompts.key()
    farm.drop("a", prompt="three words here")
    farm.work()
    result = farm.result("a")
    (call,) = provider.calls

    assert result["usage"] == {"input_tokens": 3, "output_tokens": 4, "turns": 1}
    assert result["asked"] == {
        "model": "claude-next",
        "credential": key,
        "request_id": call.request_id,
    }
    assert result["attempts"][0]["asked"] == result["asked"]


# -- secrets ----------------------------------------------------------------------------------


def test_nothing_of_a_key_is_in_any_place_while_calls_are_under_way_and_after(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    prompts.agent(concurrency=5)
    for number in (1, 2, 3):
        prompts.key(number, pool="acme")
    provider.answer_with(ROWS["key_echoed"], times=1)
    names = prompts.drop(6)
    provider.hold()
    farm.start_worker()
    provider.wait_for_calls(5)
    before = holding(farm, *prompts.secrets)
    provider.release()
    farm.wait_for("succeeded", *names)
    farm.drop("env", run="env; cat /proc/self/environ")
    farm.wait_for("succeeded", "env")
    for verb in (["keys"], ["status"], ["show", "p00"], ["keys", "--json"]):
        farm.farm(*verb)
    farm.said.append(farm.describe())
    after = holding(farm, *prompts.secrets)

    assert (before, after) == ([], [])
    assert provider.count(status=401) == 1


@pytest.mark.parametrize("stalls", [True, False], ids=["midway", "from the start"])
def test_a_call_that_shows_no_sign_of_work_is_ended(
    prompts: Prompts, farm: Farm, provider: Provider, *, stalls: bool
) -> None:
    prompts.agent_with_key(idle_timeout="0.7s", concurrency=2)
    if stalls:
        provider.answer_with(Stall())
    else:
        provider.hold()
    names = prompts.drop(1 if stalls else 2)
    farm.start_worker()
    results = [farm.wait_for("timed_out", name) for name in names]
    provider.release()

    for result in results:
        assert result["error"]["kind"] == "idle"
        assert "no sign of work for 700 ms" in result["error"]["message"]
        assert result["asked"] == {"model": "m", "credential": "anthropic-1"}


def test_a_call_whose_answer_comes_slowly_is_at_work(
    prompts: Prompts, farm: Farm, provider: Provider
) -> None:
    prompts.agent_with_key(idle_timeout="30s")
    provider.answer_with(Stall())
    prompts.drop(1)
    farm.start_worker()
    provider.wait_for_calls(1)
    provider.release()

    assert farm.wait_for("succeeded", "p00")["status"] == "succeeded"
