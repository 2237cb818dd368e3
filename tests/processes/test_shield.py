"""Secrets of workers and supervisors are not to be read by the tasks that they run."""

import json
import os
import secrets
import signal
from pathlib import Path

import pytest

from farm.process import Mark, carries
from tests.driver import Farm
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

#: what a task may find out of a process: how often its environment tells of a key, and
#: which files of it can be opened
PROBE = """
import json, os, sys
seen = {}
pid = os.getppid()
while pid > 1:
    name = open(f"/proc/{pid}/comm").read().strip()
    parent = int(open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1])
    words = open(f"/proc/{pid}/cmdline").read().split("\\0")
    if "farm" in words:
        try:
            told = b"DEMO_API_KEY=s" in open(f"/proc/{pid}/environ", "rb").read()
        except PermissionError:
            told = "refused"
        try:
            fds = len(os.listdir(f"/proc/{pid}/fd"))
        except PermissionError:
            fds = "refused"
        seen[words[words.index("farm") + 1]] = told, fds, "".join(words).count("sk-")
    pid = parent
print(json.dumps(seen))
"""
GIVEN = 'test "$DEMO_API_KEY" = "$(cat expected)" && test "$DEMO_API_KEY"'
CALLS = """
import os, time

def forks(folder):
    if os.fork() == 0:
        os.setsid()
        open(f"{folder}/reached.{os.getpid()}", "w").close()
        while True:
            time.sleep(1)

def pid():
    return os.getpid()
"""


@pytest.fixture
def key(farm: Farm) -> str:
    """A key, in the environment in which farms are started."""
    made = f"sk-{secrets.token_hex(16)}"
    farm.environ["DEMO_API_KEY"] = made
    return made


def probed(farm: Farm) -> dict[str, tuple[object, object, int]]:
    found: dict[str, tuple[object, object, int]] = json.loads(
        farm.result("probe")["stdout"]
    )
    return found


def test_a_task_finds_no_key_in_the_environment_of_its_worker_or_supervisor(
    farm: Farm, key: str
) -> None:
    farm.write("probe.py", PROBE)
    farm.drop("probe", run=["python3", "probe.py"])

    farm.farm("supervise", str(farm.root), "-j", "1", "--until-done")

    seen = probed(farm)
    assert set(seen) == {"worker", "supervise"}
    for told, fds, words in seen.values():
        assert told in (False, "refused")
        assert words == 0
        if os.geteuid() != 0:  # root reads all
            assert (told, fds) == ("refused", "refused")
    assert key not in farm.result_path("probe").read_text()


def test_who_names_a_key_gets_it_from_every_kind_of_worker(
    farm: Farm, key: str
) -> None:
    farm.write("expected", key)
    farm.drop("given", run=GIVEN, env_from=["DEMO_API_KEY"])
    farm.farm("supervise", str(farm.root), "-j", "1", "--until-done")
    farm.drop("alone", run=GIVEN, env_from=["DEMO_API_KEY"])
    farm.work()

    assert farm.status_of("given") == farm.status_of("alone") == "succeeded"


def test_a_worker_that_starts_afresh_has_its_keys_still(farm: Farm, key: str) -> None:
    farm.write("expected", key)
    farm.write("calls.py", CALLS)
    farm.write("probe.py", PROBE)
    farm.drop("first", call="calls:pid")
    worker = farm.start_worker()
    farm.wait_for("succeeded", "first")
    before = farm.worker_names()
    farm.write("calls.py", f"{CALLS}# another line\n")
    farm.drop("second", call="calls:pid")
    wait_until(lambda: farm.worker_names() not in ([], before))
    farm.drop("given", run=GIVEN, env_from=["DEMO_API_KEY"])
    farm.drop("probe", run=["python3", "probe.py"])
    farm.wait_for("succeeded", "given")
    farm.wait_for("succeeded", "probe")

    assert farm.result("first")["value"] == worker.pid
    assert farm.result("given")["worker"] not in before
    assert [told in (False, "refused") for told, _, _ in probed(farm).values()] == [
        True
    ]


def test_what_a_callable_forked_is_found_although_its_worker_hides(
    farm: Farm, key: str
) -> None:
    gate = farm.gate()
    farm.write("calls.py", CALLS)
    farm.drop("forks", call="calls:forks", args=[str(gate.folder)], timeout=60)
    worker = farm.start_worker()
    [forked] = gate.wait_reached()

    os.kill(worker.pid, signal.SIGSTOP)
    assert list(Path(f"/proc/{forked}/fd").iterdir())  # as an ordinary user, too
    assert not carries(forked, Mark("no-such-token"))
    os.kill(worker.pid, signal.SIGCONT)

    wait_until(lambda: not Path(f"/proc/{forked}").exists() or farm.status_of("forks"))


def test_a_failed_task_says_what_was_withheld_from_it(farm: Farm, key: str) -> None:
    farm.drop("needy", run='test "$DEMO_API_KEY"')
    farm.drop("given", run="false", env_from=["DEMO_API_KEY"])
    farm.work(GH_PAT="of-nobody")

    names = farm.result("needy")["error"]["withheld"]
    assert {"DEMO_API_KEY", "GH_PAT"} <= set(names)
    assert "DEMO_API_KEY" not in farm.result("given")["error"]["withheld"]
    told = farm.farm("why", "needy").stdout
    assert "withheld from it, as they look like secrets: " in told
    assert '"env_from": ["' in told
    assert key not in told
