"""What a callable leaves behind in its worker's process does not reach the next task."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.driver import Farm, said, whys
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

#: each leaves something; `shows` tells of all of it
LEAVES = """
import asyncio, concurrent.futures, faulthandler, gc, io, locale, os, resource, signal
import socket, sys, threading, time, warnings

def nothing(): pass
def alarm(): signal.alarm(600)
def real_timer(): signal.setitimer(signal.ITIMER_REAL, 600)
def virtual_timer(): signal.setitimer(signal.ITIMER_VIRTUAL, 600)
def prof_timer(): signal.setitimer(signal.ITIMER_PROF, 600)
def watchdog(): faulthandler.dump_traceback_later(1, exit=True)
def umask(): os.umask(0o777)
def nice(): os.nice(3)
def batch(): os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
def processors(): os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
def descriptors(): limit("NOFILE", 9)
def file_size(): limit("FSIZE", 0)
def memory(): limit("AS", 1 << 31)
def core(): limit("CORE", 0)
def stack(): limit("STACK", 1 << 20)
def ignored(): signal.signal(signal.SIGPIPE, signal.SIG_DFL)
def handler(): signal.signal(signal.SIGHUP, lambda *_: None)
def children(): signal.signal(signal.SIGCHLD, signal.SIG_IGN)
def blocked(): signal.pthread_sigmask(signal.SIG_BLOCK, set(range(1, 32)))
def wakeup(): signal.set_wakeup_fd(-1)
def recursion(): sys.setrecursionlimit(123)
def collector(): gc.disable()
def tracer(): sys.settrace(lambda *_: None)
def profiler(): sys.setprofile(lambda *_: None)
def arguments(): sys.argv = ["program", "--flag"]
def no_arguments(): del sys.argv
def path(): sys.path.clear()
def no_path(): sys.path = None
def filters(): warnings.simplefilter("error")
def language(): locale.setlocale(locale.LC_ALL, "C")
def timeout(): socket.setdefaulttimeout(0.1)
def stdin_text(): sys.stdin = io.StringIO("left")
def stdin_closed(): sys.stdin.close()
def stdin_fd_closed(): os.close(0)
def stdin_other(): os.dup2(os.open(__file__, os.O_RDONLY), 0)
def folder(): os.chdir("/")
def variable(): os.environ["LEFT"] = "1"

def zone():
    os.environ["TZ"] = "XYZ-3"
    time.tzset()

def limit(name, soft):
    number = getattr(resource, f"RLIMIT_{name}")
    resource.setrlimit(number, (soft, resource.getrlimit(number)[1]))

def mask():
    was = os.umask(0)
    os.umask(was)
    return was

def shows():
    signals = sorted(signal.valid_signals() - {signal.SIGALRM})
    return {
        "timers": [signal.getitimer(number) for number in range(3)],
        "umask": mask(),
        "nice": [os.getpriority(0, 0), os.sched_getscheduler(0)],
        "processors": sorted(os.sched_getaffinity(0)),
        "limits": [resource.getrlimit(number) for number in range(16)],
        "handlers": [repr(signal.getsignal(number)) for number in signals],
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "python": [sys.getrecursionlimit(), gc.isenabled(), sys.argv, sys.path],
        "tracers": [repr(sys.gettrace()), repr(sys.getprofile())],
        "filters": list(map(repr, warnings.filters)),
        "locale": locale.setlocale(locale.LC_ALL),
        "zone": [time.tzname, time.timezone, time.localtime(0).tm_hour],
        "timeout": socket.getdefaulttimeout(),
        "stdin": [sys.stdin.read(), os.read(0, 10).decode(), sys.stdin.fileno()],
        "folder": os.getcwd(),
        "left": os.environ.get("LEFT"),
    }
"""
KINDS = [
    line.removeprefix("def ").partition("(")[0]
    for line in LEAVES.splitlines()
    if line.startswith("def ") and "limit(name" not in line
]
KINDS = [kind for kind in KINDS if kind not in ("nothing", "mask", "shows")]
if os.geteuid() != 0:
    KINDS.remove(
        "nice"
    )  # a user raises no priority again, and a new process inherits it


def kinds() -> list[str]:
    """Those that a worker can put back; what becomes of others, see below."""
    raises = "import os; os.nice(1); os.setpriority(os.PRIO_PROCESS, 0, 0)"
    command = [sys.executable, "-c", raises]
    done = subprocess.run(command, check=False, stderr=subprocess.DEVNULL)
    return [kind for kind in KINDS if kind != "nice" or done.returncode == 0]


@pytest.fixture
def leaves(farm: Farm) -> Farm:
    """A farm whose module `leaves` has functions that leave something behind."""
    farm.write("leaves.py", LEAVES)
    return farm


def test_the_next_callable_finds_all_as_it_was(leaves: Farm) -> None:
    known = kinds()
    leaves.drop("0", call="leaves:nothing", priority=9999)
    leaves.drop("before", call="leaves:shows", priority=9998)
    for number, kind in enumerate(known):
        leaves.drop(f"{kind}-1", call=f"leaves:{kind}", priority=1000 - 2 * number)
        leaves.drop(f"{kind}-2", call="leaves:shows", priority=999 - 2 * number)
    leaves.work()
    before = leaves.result("before")
    ended = {kind: leaves.result(f"{kind}-1")["status"] for kind in known}
    after = {kind: leaves.result(f"{kind}-2")["value"] for kind in known}
    felt = {
        kind: {
            name: (was, now[name])
            for name, was in before["value"].items()
            if now[name] != was
        }
        for kind, now in after.items()
    }

    assert {kind: what for kind, what in felt.items() if what} == {}
    assert {kind: how for kind, how in ended.items() if how != "succeeded"} == {}
    assert {leaves.result(f"{kind}-2")["worker"] for kind in known} == {
        before["worker"]
    }


def test_the_next_command_finds_all_as_it_was(leaves: Farm) -> None:
    known = kinds()
    shows = "umask; ulimit -S -a; nice; grep -E '^(Sig|Cpus_allowed:)' /proc/self/status; cat"
    leaves.drop("0", run=shows, priority=9999)
    for kind in known:
        leaves.drop(f"{kind}-1", call=f"leaves:{kind}", priority=1)
    leaves.drop("z", run=shows)
    leaves.work()

    assert leaves.result("z")["stdout"] == leaves.result("0")["stdout"]


def test_what_a_module_sets_in_python_at_its_import_stays(farm: Farm) -> None:
    farm.write("lib/helper.py", "")
    text = "import sys\nsys.setrecursionlimit(5432)\nsys.path.append('lib')\n"
    body = (
        "def go(last):\n    if last: import helper\n    return sys.getrecursionlimit()"
    )
    farm.write("sets.py", f"{text}{body}\n")
    farm.drop("a", call="sets:go", args=[False])
    farm.drop("b", call="sets:go", args=[True])
    farm.work()

    assert [farm.result(name)["value"] for name in "ab"] == [5432, 5432]


# -- stdin ------------------------------------------------------------------------------


def test_what_the_worker_was_given_to_read_is_left_for_its_shell(farm: Farm) -> None:
    farm.write("reads.py", "import sys\ndef go():\n    return sys.stdin.read()\n")
    farm.drop("a", call="reads:go")
    farm.drop("b", run="cat")
    given = farm.write("given", "one\ntwo\n")
    worker = f"{sys.executable} -P -m farm worker . --until-done; cat"
    with given.open("rb") as stdin:
        done = subprocess.run(
            ["sh", "-c", worker],
            cwd=farm.root,
            env=farm.environ,
            stdin=stdin,
            stdout=subprocess.PIPE,
            timeout=50,
            check=True,
        )

    assert farm.result("a")["value"] == ""
    assert farm.result("b")["stdout"] == ""
    assert done.stdout.decode().endswith("one\ntwo\n")


def test_a_worker_may_be_started_without_a_stdin(farm: Farm) -> None:
    farm.write("reads.py", "import sys\ndef go():\n    return sys.stdin.read()\n")
    farm.drop("a", call="reads:go")
    worker = f"exec {sys.executable} -P -m farm worker . --until-done <&-"
    code = farm.start_command("sh", "-c", worker).wait(50)

    assert (code, farm.result("a")["value"]) == (0, "")


# -- deadlines --------------------------------------------------------------------------

OWN_SIGNALS = """
import signal, time

def alarm():
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    time.sleep(0.02)
    signal.setitimer(signal.ITIMER_REAL, 0)
    wait()

def ignores():
    for number in (signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    wait()

def wait():
    while True:
        time.sleep(60)
"""


@pytest.mark.parametrize("how", ["alarm", "ignores"])
def test_a_callable_that_uses_signals_itself_meets_its_deadline(
    farm: Farm, how: str
) -> None:
    farm.write("own.py", OWN_SIGNALS)
    farm.drop("a", call=f"own:{how}", timeout=0.3)
    farm.drop("b", run="true", priority=-1)
    code = farm.work(FARM_GRACE="20")

    assert (code, farm.status_of("b")) == (1, "succeeded")
    assert farm.result("a")["status"] == "timed_out"
    assert farm.result("a")["worker"] == farm.result("b")["worker"]


def test_an_alarm_of_a_callable_is_its_own(farm: Farm) -> None:
    rings = "    signal.signal(signal.SIGALRM, rang)\n    signal.alarm(1)\n    time.sleep(60)"
    raises = "def rang(*_):\n    raise RuntimeError('rang')"
    farm.write("own.py", f"import signal, time\n{raises}\ndef go():\n{rings}\n")
    farm.drop("a", call="own:go", timeout=30)
    farm.work()

    assert farm.result("a")["error"]["message"] == "RuntimeError: rang"


NO_THREADS = """
import threading
start = threading.Thread.start
def refuse(self):
    if self.name == "farm-deadline" and not os.path.exists("refused"):
        open("refused", "w").close()
        raise RuntimeError("can't start new thread")
    start(self)
threading.Thread.start = refuse
"""


def test_a_deadline_that_no_thread_can_watch_is_the_machines_fault(farm: Farm) -> None:
    farm.drop("a", call="os:getpid", timeout=60)
    farm.start_changed(NO_THREADS, "--until-done")
    farm.wait_for("succeeded", "a")

    assert whys(farm.result("a")) == ["fault", "succeeded"]


# -- threads and processes ----------------------------------------------------------------

THREADS = """
import atexit, concurrent.futures, multiprocessing, os, threading, time

POOL = concurrent.futures.ThreadPoolExecutor(2)

def thread(seconds=600, daemon=False):
    threading.Thread(target=time.sleep, args=(seconds,), daemon=daemon).start()

def timer():
    threading.Timer(600, print).start()

def executor():
    concurrent.futures.ThreadPoolExecutor(1).submit(time.sleep, 600)

def pool():
    return POOL.submit(os.getpid).result()

def busy_pool():
    POOL.submit(time.sleep, 600)

def process():
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,)).start()

def process_pool():
    context = multiprocessing.get_context("fork")
    concurrent.futures.ProcessPoolExecutor(1, context).submit(time.sleep, 600)

def at_exit():
    atexit.register(time.sleep, 600)

def pid():
    return os.getpid()
"""
LASTING = [
    "thread",
    "timer",
    "executor",
    "busy_pool",
    "process",
    "process_pool",
    "at_exit",
]


@pytest.fixture
def threads(farm: Farm) -> Farm:
    """A farm whose module `threads` has functions that leave something at work."""
    farm.write("threads.py", THREADS)
    return farm


@pytest.mark.parametrize("kind", LASTING)
def test_a_worker_ends_with_its_work_whatever_a_callable_left_running(
    threads: Farm, kind: str
) -> None:
    threads.drop("a", call=f"threads:{kind}")
    worker = threads.start_worker("--until-done", FARM_GRACE="0.5")

    assert worker.wait(50) == 0
    assert threads.status_of("a") == "succeeded"
    assert threads.left_behind() == []


def test_so_does_a_supervisor(threads: Farm) -> None:
    for kind in LASTING:
        threads.drop(kind, call=f"threads:{kind}")
    threads.drop("z", run="true", priority=-1)
    supervisor = threads.supervise("-j", "1", "--until-done", FARM_GRACE="0.5")

    assert supervisor.wait(50) == 0
    assert threads.left_behind() == []


def test_a_drain_is_over_when_the_work_is(threads: Farm) -> None:
    gate = threads.gate()
    body = gate.python.replace("\n", "\n    ")
    threads.write(
        "held.py", f"import threads\ndef go():\n    threads.thread()\n    {body}\n"
    )
    threads.drop("a", call="threads:at_exit", priority=1)
    threads.drop("b", call="held:go")
    worker = threads.start_worker(FARM_GRACE="0.5")
    gate.wait_reached()
    drain = threads.start("drain")
    wait_until((threads.state / "control" / "drain").exists)
    gate.open()

    assert (worker.wait(50), drain.wait(50)) == (0, 0)
    assert threads.status_of("b") == "succeeded"
    assert threads.left_behind() == []


def test_a_thread_that_stays_at_work_meets_no_other_task(threads: Farm) -> None:
    threads.drop("a", call="threads:thread")
    threads.drop("b", call="threads:pid", priority=-1)
    worker = threads.start_worker("--until-done")

    assert worker.wait(50) == 0
    assert threads.result("a")["worker"] != threads.result("b")["worker"]
    assert threads.result("b")["value"] == worker.pid  # the same process, begun afresh
    assert "a task has left threads at work (Thread-" in said(threads, worker)


@pytest.mark.parametrize(
    "call",
    [
        {"call": "threads:pool"},
        {"call": "threads:thread", "args": [0.1]},
        {"call": "threads:thread", "kwargs": {"daemon": True}},
    ],
)
def test_a_thread_that_is_idle_done_or_a_daemon_costs_no_worker(
    threads: Farm, call: dict[str, object]
) -> None:
    threads.drop("a", **call)
    threads.drop("b", call="threads:pid", priority=-1)
    worker = threads.start_worker("--until-done")

    assert worker.wait(50) == 0
    assert threads.result("a")["worker"] == threads.result("b")["worker"]


# -- what no process can put back -----------------------------------------------------------

LOWERS = """
import os, resource

def lower():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

def nice():
    os.nice(3)

def shows():
    return [os.getpriority(0, 0), resource.getrlimit(resource.RLIMIT_CORE)]
"""


def unprivileged(*command: str) -> Sequence[str]:
    """A command whose processes may raise no hard limit and no priority."""
    if os.getuid() != 0:
        return command
    if not shutil.which("setpriv"):
        pytest.skip("needs setpriv")
    return ("setpriv", "--bounding-set=-sys_resource,-sys_nice", *command)


def farm_command(*words: str) -> Sequence[str]:
    return unprivileged(sys.executable, "-P", "-m", "farm", *words)


@pytest.mark.parametrize("how", ["lower", "nice"])
def test_a_supervisor_replaces_a_worker_whose_process_is_not_what_it_was(
    farm: Farm, how: str
) -> None:
    farm.write("lowers.py", LOWERS)
    farm.drop("a", call="lowers:shows", priority=2)
    farm.drop("b", call=f"lowers:{how}", priority=1)
    farm.drop("c", call="lowers:shows")
    supervise = farm_command("supervise", str(farm.root), "-j", "1", "--until-done")
    supervisor = farm.start_command(*supervise)

    assert supervisor.wait(50) == 0, farm.describe()
    assert farm.result("c")["value"] == farm.result("a")["value"]
    assert farm.result("b")["worker"] != farm.result("c")["worker"]
    assert "ended, as a task had changed its process; another starts at once" in said(
        farm
    )


def test_a_worker_alone_says_so_and_goes_on(farm: Farm) -> None:
    farm.write("lowers.py", LOWERS)
    farm.drop("b", call="lowers:lower", priority=1)
    farm.drop("c", call="lowers:shows")
    worker = farm.start_command(*farm_command("worker", str(farm.root), "--until-done"))

    assert worker.wait(50) == 0, farm.describe()
    assert farm.result("b")["worker"] == farm.result("c")["worker"]
    assert (
        said(farm).count("a task has changed its hard limit RLIMIT_CORE (0, it was")
        == 1
    )


def test_a_result_that_a_lowered_limit_keeps_from_the_disk_is_lost_not_waited_for(
    farm: Farm,
) -> None:
    text = "import resource\ndef go():\n    "
    lowers = "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
    farm.write("lowers.py", f"{text}{lowers}")
    farm.drop("a", call="lowers:go")
    farm.drop("b", run="true", priority=-1)
    supervise = farm_command("supervise", str(farm.root), "-j", "1", "--until-done")
    supervisor = farm.start_command(*supervise)

    assert supervisor.wait(50) == 1, farm.describe()
    assert whys(farm.result("a")) == ["lost"] * 3
    assert farm.status_of("b") == "succeeded"
