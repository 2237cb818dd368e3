"""A real farm in a temporary project, and everything that is done to it.

    storm = Storm(root, options)      the project; nothing runs yet
    storm.rage(until)                 drop, kill, stop, delete, edit, cancel ...
    storm.calm()                      let it come to rest, and end it
    storm.record()                    what is known then, for `verdict`

Every random choice comes from the seed; what processes make of it is theirs. Signals
go to processes of this project alone, which are found by its path in their arguments
or their environment.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.storm.verdict import Record, parsed, read_archives, read_notes

HERE = Path(__file__).parent
SETTINGS = "max_lost = 900\nheartbeat = 0.5\nheartbeat_timeout = 3\ngrace = 1\n"
RETRIES = {"max": 200, "base_delay": 0.02, "max_delay": 0.1}
LONGEST_STOP = 2.0  # seconds; one in ten is stopped beyond every deadline instead
BEYOND = 5.0  # seconds
FAILS = (0, 0, 0, 0, 1, 2)  # how often a task fails before it succeeds
HOLDS = (0.0, 0.0, 0.0, 0.0, 0.01, 0.1)  # seconds that it lasts
FORKS = (0,) * 18 + (1, 2)  # children that a callable leaves behind
CALLS = 0.95  # of all tasks are callables, the others commands
DROPPING = 0.8  # of the time; then the rest is tormented without new tasks
#: exit codes; of other verbs 0 and 1. With 2 it says that another moves tasks.
ENDS = {"wait": {0, 1, 124}, "archive": {0, 1, 2}, "restore": {0, 1, 2}}
UNEVEN = (0.2, 1.8)  # shares of the mean pause between two acts
# What somebody made who was killed before he had a name is swept after an hour: so the
# last sweep is later than it is.
TIDY = """
import sys, time
from farm import rescue
from farm.claim import Holder
from farm.project import Project

later = time.time() + 2 * rescue.OLD
rescue.sweep(Project.open(sys.argv[1]), Holder.passing(), later)
"""


class Options(NamedTuple):
    """What was asked for on the command line."""

    seed: int
    tasks: int
    workers: int
    faults: frozenset[str]
    pace: float  #: acts a second, on average
    patience: float  #: seconds without any progress, once it is calm
    plug: str | None  #: a folder for PYTHONPATH, whose sitecustomize breaks farm


class Process(NamedTuple):
    """A living process of the storm's farm."""

    pid: int
    role: str  #: worker, supervisor or child


class Order(NamedTuple):
    """A verb of farm that the storm has started."""

    verb: str
    popen: "subprocess.Popen[bytes]"
    began: float  #: monotonic
    ids: frozenset[str]  #: of tasks whose results it may take away
    waits_for: str  #: an id

    def __str__(self) -> str:
        return " ".join(map(str, self.popen.args))  # type: ignore[arg-type]  # a list


class Storm:
    """See the module's docstring."""

    def __init__(self, root: Path, options: Options) -> None:
        self.root = root
        self.options = options
        self.counts: Counter[str] = Counter()
        self.kills: dict[int, float] = {}  # pid of a worker -> POSIX seconds
        self._random = random.Random(options.seed)
        self._dropped: list[str] = []
        self._needs: dict[str, list[str]] = {}
        self._cancelled: set[str] = set()
        self._acked: dict[str, bytes] = {}
        self._broken: list[str] = []
        self._stopped: list[tuple[float, int]] = []  # when it goes on, process id
        self._paused: list[tuple[float, Path]] = []
        self._touched: dict[str, float] = {}  # when we changed it last, monotonic
        self._orders: list[Order] = []
        self._crew: list[tuple[list[str], subprocess.Popen[bytes]]] = []
        for folder in ("tasks", "marks"):
            (root / folder).mkdir(parents=True)
        shutil.copy(HERE / "work.py", root / "work.py")
        (root / "farm.toml").write_text(SETTINGS)
        path = [str(HERE.parent.parent), *([options.plug] if options.plug else [])]
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("FARM_")}
        self._environ = inherited | {
            "PYTHONPATH": os.pathsep.join(reversed(path)),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    # -- the farm ----------------------------------------------------------------

    def _farm(self, *arguments: str) -> "subprocess.Popen[bytes]":
        durability = self._random.choice(["auto", "always"])
        return self._python("-m", "farm", *arguments, FARM_DURABILITY=durability)

    def _python(self, *arguments: str, **environ: str) -> "subprocess.Popen[bytes]":
        with (self.root / "said.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", *arguments],
                cwd=self.root,
                env=self._environ | environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def begin(self) -> None:
        """Half of the workers under a supervisor, the others by themselves.

        Some sync each result, and some only those that took long.
        """
        supervised = max(1, self.options.workers // 2)
        commands = [["supervise", str(self.root), "-j", str(supervised)]]
        alone = self.options.workers - supervised
        commands += [["worker", str(self.root)] for _ in range(alone)]
        self._crew = [(command, self._farm(*command)) for command in commands]

    def _replace_the_dead(self) -> None:
        if self._runs("drain"):
            return  # it waits until none is left
        self._crew = [
            (command, popen if popen.poll() is None else self._farm(*command))
            for command, popen in self._crew
        ]

    def processes(self) -> Iterator[Process]:
        """Living processes of this project."""
        mine = str(self.root).encode()
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (
                    path.joinpath("stat").read_text().rsplit(")", 1)[1].split()[0]
                    in "ZX"
                ):
                    continue
                words = path.joinpath("cmdline").read_bytes().split(b"\0")
                environ = path.joinpath("environ").read_bytes().split(b"\0")
                if mine in words and b"worker" in words:
                    yield Process(int(path.name), "worker")
                elif mine in words and b"supervise" in words:
                    yield Process(int(path.name), "supervisor")
                elif b"FARM_PROJECT=" + mine in environ:
                    yield Process(int(path.name), "child")

    # -- the storm ----------------------------------------------------------------

    def rage(self, until: float) -> None:
        """Do one thing after the other until monotonic `until`."""
        acts, began = self._acts(), time.monotonic()
        while time.monotonic() < until:
            gone = (time.monotonic() - began) / (until - began)
            while len(self._dropped) < min(1.0, gone / DROPPING) * self.options.tasks:
                self._drop()
            if acts:
                act = self._random.choices([a for a, _ in acts], [w for _, w in acts])
                with suppress(OSError):  # what it was about to hit is gone: good
                    act[0]()
            self._let_go(time.monotonic())
            self._replace_the_dead()
            self._look_at_results()
            time.sleep(self._random.uniform(*UNEVEN) / self.options.pace)

    def _acts(self) -> list[tuple[Callable[[], None], int]]:
        kill, stop = (
            [(self._kill_worker, 24), (self._kill_other, 12)],
            [(self._stop, 30)],
        )
        every: dict[str, list[tuple[Callable[[], None], int]]] = {
            "kill": kill,
            "stop": stop,
            "both": [*kill, *stop],
            "delete": [(self._delete, 8), (self._empty, 6)],
            "edit": [(self._edit, 8)],
            "pause": [(self._pause, 3)],
            "retry": [(self._retry, 5)],
            "cancel": [(self._cancel, 5)],
            "archive": [(self._archive, 4), (self._restore, 4), (self._kill_verb, 4)],
            "scale": [(self._scale, 3)],
            "drain": [(self._drain, 1)],
            "wait": [(self._wait_for_one, 5)],
        }
        return [act for name in self.options.faults for act in every[name]]

    def _drop(self) -> None:
        number = len(self._dropped)
        if number >= self.options.tasks:
            return
        task_id, pick = f"t{number:05d}", self._random
        fails, hold = pick.choice(FAILS), pick.choice(HOLDS)
        task: dict[str, object] = {"retries": RETRIES}
        if pick.random() < CALLS:
            forks = pick.choice(FORKS)
            kwargs = {"task_id": task_id, "fails": fails, "hold": hold, "forks": forks}
            task |= {"call": "work:body", "kwargs": kwargs}
        else:
            session = pick.choice(["own", "same"])
            words = [sys.executable, "work.py", task_id, str(fails), str(hold), session]
            task |= {"run": words}
        if number > 5 and pick.random() < 0.03:
            self._needs[task_id] = [f"t{pick.randrange(number):05d}"]
            task["needs"] = self._needs[task_id]
        self._dropped.append(task_id)
        self._write(task_id, task)

    def _write(self, task_id: str, task: object) -> None:
        aside = self.root / "tasks" / ".aside"
        aside.write_text(json.dumps(task))
        aside.rename(self._task(task_id))

    def _task(self, task_id: str) -> Path:
        return self.root / "tasks" / f"{task_id}.json"

    def _result(self, task_id: str) -> Path:
        return self.root / "tasks" / f"{task_id}.result.json"

    # -- one act each ----------------------------------------------------------------

    def _choose(self, *roles: str) -> int:
        found = [p.pid for p in self.processes() if p.role in roles]
        if not found:
            raise ProcessLookupError
        return self._random.choice(found)

    def _kill_worker(self) -> None:
        pid = self._choose("worker")
        self.kills[pid] = time.time()
        os.kill(pid, signal.SIGKILL)
        self.counts["SIGKILL to workers"] += 1

    def _kill_other(self) -> None:
        role = self._random.choice(["child", "child", "child", "supervisor"])
        os.kill(self._choose(role), signal.SIGKILL)
        many = {"child": "children", "supervisor": "supervisors"}[role]
        self.counts[f"SIGKILL to {many}"] += 1

    def _stop(self) -> None:
        pid = self._choose("worker", "worker", "child", "supervisor")
        os.kill(pid, signal.SIGSTOP)
        long = self._random.random() < 0.1
        seconds = BEYOND if long else self._random.uniform(0.05, LONGEST_STOP)
        self._stopped.append((time.monotonic() + seconds, pid))
        self.counts["SIGSTOP"] += 1

    def _runs(self, *verbs: str) -> bool:
        return any(order.verb in verbs for order in self._orders)

    def _leave_what_moves(self) -> None:
        """FileNotFoundError while tasks move: we change none that is in two places."""
        if self._runs("archive", "restore") or list(self.root.glob("archive/.*")):
            raise FileNotFoundError

    def _some_result(self) -> str:
        """A task of a few that has a result; FileNotFoundError if none has."""
        self._leave_what_moves()
        few = self._random.sample(self._dropped, min(50, len(self._dropped)))
        names = [task_id for task_id in few if self._result(task_id).exists()]
        if not names:
            raise FileNotFoundError
        self._touch({names[0]})  # what happens to it now is our own doing
        return names[0]

    def _touch(self, task_ids: Iterable[str]) -> None:
        for task_id in task_ids:
            self._acked.pop(task_id, None)
            self._touched[task_id] = time.monotonic()

    def _delete(self) -> None:
        self._result(self._some_result()).unlink()
        self.counts["results deleted"] += 1

    def _empty(self) -> None:
        os.truncate(self._result(self._some_result()), 0)
        self.counts["results emptied"] += 1

    def _edit(self) -> None:
        self._leave_what_moves()
        task_id = self._random.choice(self._dropped)
        task = json.loads(self._task(task_id).read_text())
        task["labels"] = [f"edit-{self.counts['task files edited']}"]
        self._write(task_id, task)
        self.counts["task files edited"] += 1

    def _pause(self) -> None:
        folder = self.root / ".farm" / "control"
        path = folder / self._random.choice(["pause", "pause-t00*", "pause-*7"])
        path.touch()
        until = time.monotonic() + self._random.uniform(0.1, 1.0)
        self._paused.append((until, path))
        self.counts["pauses"] += 1

    def _retry(self) -> None:
        task_id = self._random.choice(self._dropped)
        self._order("retry", task_id, ids={task_id})

    def _cancel(self) -> None:
        task_id = self._random.choice(self._dropped)
        self._cancelled.add(task_id)
        self._order("cancel", task_id, ids={task_id})

    def _archive(self) -> None:
        self._order("archive", self._some_glob())

    def _restore(self) -> None:
        self._order("restore", self._some_glob())

    def _some_glob(self) -> str:
        """Ten tasks, or a hundred."""
        return f"{self._random.choice(self._dropped)[: self._random.choice([4, 5])]}*"

    def _scale(self) -> None:
        self._order("scale", str(self._random.randint(1, self.options.workers)))

    def _drain(self) -> None:
        self._order("drain")

    def _wait_for_one(self) -> None:
        task_id = self._random.choice(self._dropped)
        self._order("wait", task_id, "--timeout", "5", waits_for=task_id)

    def _order(
        self, verb: str, *words: str, ids: Iterable[str] = (), waits_for: str = ""
    ) -> None:
        self._touch(self._needing(ids))  # what was skipped runs again as well
        popen = self._farm(verb, "-C", str(self.root), *words)
        order = Order(verb, popen, time.monotonic(), frozenset(ids), waits_for)
        self._orders.append(order)
        self.counts[f"farm {verb}"] += 1

    def _kill_verb(self) -> None:
        """SIGKILL to one that runs, unless its order would then last for ever."""
        running = [order for order in self._orders if order.verb != "drain"]
        if not running:
            raise ProcessLookupError
        self._random.choice(running).popen.kill()
        self.counts["SIGKILL to verbs"] += 1

    def _let_go(self, now: float) -> None:
        """Let what was stopped or paused long enough go on."""
        for stopped in [s for s in self._stopped if s[0] <= now]:
            self._stopped.remove(stopped)
            with suppress(ProcessLookupError):
                os.kill(stopped[1], signal.SIGCONT)
        for paused in [p for p in self._paused if p[0] <= now]:
            self._paused.remove(paused)
            paused[1].unlink(missing_ok=True)
        for order in [o for o in self._orders if o.popen.poll() is not None]:
            self._orders.remove(order)
            self._touch(self._needing(order.ids))
            self._broken += self._faults(order)

    def _faults(self, order: Order) -> Iterator[str]:
        """What was wrong with how a verb ended; SIGKILL was ours."""
        code = order.popen.returncode
        if code not in {-signal.SIGKILL, *ENDS.get(order.verb, {0, 1})}:
            yield f"{order} ended with exit code {code}"
        if code != 0 or not order.waits_for:
            return
        if self._touched.get(order.waits_for, 0.0) < order.began:
            result = parsed(self._bytes_of(order.waits_for))
            if result is None or result["status"] != "succeeded":
                yield f"{order} says that {order.waits_for} has succeeded: {result}"

    # -- what was acknowledged stays ----------------------------------------------------

    def _look_at_results(self) -> None:
        """A few results: those seen before must be as they were."""
        busy = self._needing(i for order in self._orders for i in order.ids)
        many = self._random.sample(self._dropped, min(20, len(self._dropped)))
        for task_id in set(many) - busy:
            raw = self._bytes_of(task_id)
            before = self._acked.get(task_id)
            if before is not None and before != raw:
                how = "changed" if raw else "vanished"
                self._broken.append(f"the result of {task_id} {how}")
            if parsed(raw) is not None:
                self._acked[task_id] = raw

    def _bytes_of(self, task_id: str) -> bytes:
        """Its result, wherever it is; b"" if it has none.

        RACE: it may move between our looks into both places, so we look again.
        """
        for _ in range(3):
            with suppress(FileNotFoundError):
                return self._result(task_id).read_bytes()
            with suppress(FileNotFoundError, KeyError):
                return read_archives(self.root)[task_id]["result"].encode()
        return b""

    # -- the end -----------------------------------------------------------------------

    def calm(self) -> None:
        """Let everything end: first the tasks, then what works on them."""
        self._let_go(float("inf"))
        for order in self._orders:
            self._wait(order.popen, str(order))
        self._let_go(float("inf"))
        self._bring_back()
        self._wait_for_all()
        for _, popen in self._crew:
            popen.terminate()
        for command, popen in self._crew:
            self._wait(popen, f"farm {command[0]}")
        self._wait_for_orphans()
        # Whoever was killed at the very end is tidied up after by the next to come.
        last = self._farm("supervise", str(self.root), "-j", "1", "--until-done")
        self._wait(last, "the last farm supervise --until-done")
        self._wait(self._python("-c", TIDY, str(self.root)), "the last sweep")

    def _bring_back(self) -> None:
        """Until nothing is archived that does not lie in tasks/ as well."""
        until = time.monotonic() + self.options.patience
        while away := [i for i in read_archives(self.root) if self._is_away(i)]:
            if time.monotonic() > until:
                self._broken.append(f"farm restore leaves {' '.join(sorted(away))}")
                return
            restore = self._farm("restore", "-C", str(self.root), "**")
            self._wait(restore, "farm restore")

    def _is_away(self, task_id: str) -> bool:
        return not (self._task(task_id).exists() and self._result(task_id).exists())

    def _wait_for_all(self) -> None:
        """Until every task has a result, or for `patience` no more of them has."""
        missing, since = len(self._dropped) + 1, time.monotonic()
        while (now := len(self._missing())) > 0:
            if now < missing:
                missing, since = now, time.monotonic()
            if time.monotonic() - since > self.options.patience:
                self._broken.append(f"{now} tasks came no nearer to their ends")
                return
            self._replace_the_dead()
            time.sleep(0.2)

    def _wait(self, popen: "subprocess.Popen[bytes]", what: str) -> None:
        try:
            popen.wait(self.options.patience)
        except subprocess.TimeoutExpired:
            self._broken.append(f"{what} did not end")

    def _wait_for_orphans(self) -> None:
        """Until the workers of supervisors that were killed have ended by themselves."""
        until = time.monotonic() + self.options.patience
        while left := [str(p.pid) for p in self.processes() if p.role == "worker"]:
            if time.monotonic() > until:
                self._broken.append(f"workers {' '.join(left)} did not end")
                return
            time.sleep(0.2)

    def _missing(self) -> list[str]:
        return [i for i in self._dropped if not _is_there(self._result(i))]

    def record(self) -> Record:
        """What is known when it is over."""
        marks = self.root / "marks"
        seen = marks / "VIOLATIONS"
        results = {
            p.name.removesuffix(".result.json"): p.read_bytes()
            for p in (self.root / "tasks").glob("*.result.json")
        }
        return Record(
            dropped=frozenset(self._dropped),
            notes=read_notes(marks),
            results=results,
            cancelled=frozenset(self._needing(self._cancelled)),
            seen=seen.read_text().splitlines() if seen.exists() else [],
            broken=self._broken,
            left=list(self._left()),
            counts=self._counts(),
        )

    def _counts(self) -> dict[str, int]:
        status = subprocess.run(
            [sys.executable, "-P", "-m", "farm", "status", "--json", str(self.root)],
            env=self._environ,
            capture_output=True,
            check=True,
        )
        counts: dict[str, int] = json.loads(status.stdout)["counts"]
        return counts

    def _needing(self, task_ids: Iterable[str]) -> set[str]:
        """These, and what may have been skipped because of one of them."""
        found = set(task_ids)
        for task_id, needs in sorted(self._needs.items()):  # needs are older
            if found & set(needs):
                found.add(task_id)
        return found

    def _left(self) -> Iterator[str]:
        for process in self.processes():
            yield f"{process.role} {process.pid}"
        for folder in ("locks", "tmp", "workers", "control"):
            for path in (self.root / ".farm" / folder).glob("*"):
                yield str(path.relative_to(self.root))

    def end(self) -> None:
        """Whatever still runs, by its process id."""
        for process in list(self.processes()):
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


def _is_there(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False
