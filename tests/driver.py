"""`Farm`: a project in a temporary folder, with real workers. Tests talk to it.

    farm.drop("build", run="make")
    worker = farm.start_worker()
    farm.kill(worker)
    farm.wait_for("succeeded", "build")

Processes are real; nothing sleeps to synchronise. A task is held in the middle by
a *gate*: it says that it is there (`farm.gate("g").reached()`) and goes on when the
test opens the gate. After each test every process is ended, and what they said is
shown if the test failed.
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from farm.shield import looks_secret
from tests.waiting import wait_until

#: settings with which a worker that is silent for a second is replaced
IMPATIENT = {
    "FARM_HEARTBEAT": "0.1",
    "FARM_HEARTBEAT_TIMEOUT": "1",
    "FARM_GRACE": "0.5",
}


CHANGED = """
import os, sys, time
from unittest.mock import patch
from farm.cli import run

{change}
sys.exit(run(sys.argv[1:]))
"""

#: a worker that looks each second, also after a look in which the machine stood still
LOOKS_OFTEN = 'patch("farm.worker.REFRESH_SHARE", 0).start()'


class Gate:
    """Holds tasks in the middle of their run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def command(self) -> str:
        """Shell text: say that we are here, then wait for the gate to open."""
        mark = f": > '{self.folder}/reached.'$$"
        wait = f"while [ ! -e '{self.folder}/open' ]; do sleep 0.02; done"
        return f"{mark}; {wait}"

    @property
    def mark(self) -> str:
        """A statement of Python that says that we are here, and goes on."""
        return f"open(f'{self.folder}/reached.{{os.getpid()}}', 'w').close()"

    @property
    def python(self) -> str:
        """The same as statements of Python."""
        return (
            "import os, threading, time, pathlib\n"
            f"pathlib.Path({str(self.folder)!r}, f'reached.{{os.getpid()}}').touch()\n"
            f"while not os.path.exists({str(self.folder / 'open')!r}):"
            " threading.Event().wait(0.02)\n"
        )

    def reached(self) -> list[int]:
        """Process ids that came this far."""
        found = self.folder.glob("reached.*")
        return [int(path.suffix[1:]) for path in found]

    def wait_reached(self, count: int = 1) -> list[int]:
        """Until so many came this far."""
        return wait_until(
            lambda: self.reached() if len(self.reached()) >= count else []
        )

    def open(self) -> None:
        """Let everybody go on."""
        (self.folder / "open").touch()


class Farm:
    """A project and the processes that work on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tasks = root / "tasks"
        self.state = root / ".farm"
        self.tasks.mkdir(parents=True, exist_ok=True)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.logs: list[Path] = []  #: what those in the background said
        self.said: list[str] = []  #: what those that we waited for said
        # Of whoever runs the tests; and with secrets in it, workers would hide themselves.
        not_ours = ("FARM_", "ANTHROPIC_", "OPENAI_")
        self.environ = {
            name: text
            for name, text in os.environ.items()
            if not name.startswith(not_ours) and not looks_secret(name)
        }
        self.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)
        self.environ["FARM_HEARTBEAT"] = "0.2"

    # -- dropping --------------------------------------------------------------

    def drop(self, task_id: str, **task: Any) -> str:
        """Put a task file there in one step; the id."""
        return self.drop_bytes(task_id, json.dumps(task).encode())

    def drop_bytes(self, task_id: str, raw: bytes) -> str:
        """Put these bytes there as a task file, in one step."""
        path = self.tasks / f"{task_id}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.aside")
        aside.write_bytes(raw)
        aside.rename(path)
        return task_id

    def write(self, name: str, text: str) -> Path:
        """A file of the project."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def gate(self, name: str = "gate") -> Gate:
        """A gate with this name."""
        return Gate(self.root / "gates" / name)

    # -- processes ---------------------------------------------------------------

    def farm(self, *args: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        """Run a verb to its end, in the project's folder."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "farm", *args],
            cwd=self.root,
            env=self.environ | environ,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        self.said.append(f"{' '.join(args)}\n{done.stdout}{done.stderr}")
        return done

    def start(self, *args: str, **environ: str) -> "subprocess.Popen[bytes]":
        """Start a verb in the background."""
        return self.start_python("-m", "farm", *args, **environ)

    def start_python(self, *args: str, **environ: str) -> "subprocess.Popen[bytes]":
        """Start Python with these arguments in the background."""
        return self.start_command(sys.executable, "-P", *args, **environ)

    def start_command(self, *argv: str, **environ: str) -> "subprocess.Popen[bytes]":
        """Start any command in the background."""
        log = self.root / f"process-{len(self.processes)}.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                argv,
                cwd=self.root,
                env=self.environ | environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.processes.append(popen)
        self.logs.append(log)
        return popen

    def start_worker(self, *args: str, **environ: str) -> "subprocess.Popen[bytes]":
        """Start one more worker and wait until it is born."""
        before = set(self.worker_names())
        popen = self.start("worker", str(self.root), *args, **environ)
        wait_until(
            lambda: set(self.worker_names()) - before or popen.poll() is not None,
            on_timeout=self.describe,
        )
        return popen

    def start_changed(self, change: str, *args: str) -> "subprocess.Popen[bytes]":
        """Start a worker in whose process these lines of Python were run before."""
        code = CHANGED.replace("{change}", change)
        return self.start_python("-c", code, "worker", str(self.root), *args)

    def supervise(self, *args: str, **environ: str) -> "subprocess.Popen[bytes]":
        """Start a supervisor in the background."""
        return self.start("supervise", str(self.root), *args, **environ)

    def work(self, *args: str, **environ: str) -> int:
        """Run one worker until nothing is left; its exit code."""
        return self.farm(
            "worker", str(self.root), "--until-done", *args, **environ
        ).returncode

    def worker_names(self) -> list[str]:
        """Names of workers with a life file."""
        folder = self.state / "workers"
        return [p.stem for p in folder.glob("*.lock")] if folder.is_dir() else []

    def worker_pids(self) -> list[int]:
        """Process ids of workers with a life file."""
        pids = []
        for path in (self.state / "workers").glob("*.lock"):
            try:
                pids.append(json.loads(path.read_text().splitlines()[1])["who"]["pid"])
            except (OSError, IndexError):
                continue  # it ended while we looked
        return pids

    def kill(self, process: "subprocess.Popen[bytes] | int") -> None:
        """SIGKILL one process, and only that one."""
        self.signal(process, signal.SIGKILL)
        if not isinstance(process, int):
            process.wait()

    def signal(self, process: "subprocess.Popen[bytes] | int", signum: int) -> None:
        """Send a signal."""
        pid = process if isinstance(process, int) else process.pid
        os.kill(pid, signum)

    # -- asking --------------------------------------------------------------------

    def result(self, task_id: str) -> dict[str, Any]:
        """The result of a task, as JSON."""
        found: dict[str, Any] = json.loads(self.result_path(task_id).read_text())
        return found

    def result_path(self, task_id: str) -> Path:
        """Where the result lies."""
        return self.tasks / f"{task_id}.result.json"

    def status_of(self, task_id: str) -> str | None:
        """How a task ended; None while it did not."""
        try:
            return str(self.result(task_id)["status"])
        except FileNotFoundError:
            return None

    def wait_for(
        self, status: str, *task_ids: str, timeout: float = 30.0
    ) -> dict[str, Any]:
        """Until all of these ended with this status; the last one's result.

        Fails at once if one of them ended otherwise.
        """

        def all_there() -> bool:
            seen = {i: self.status_of(i) for i in task_ids}
            wrong = {i: s for i, s in seen.items() if s not in (None, status)}
            if wrong:
                raise AssertionError(f"wanted {status}, got {wrong}\n{self.describe()}")
            return all(seen.values())

        wait_until(all_there, timeout, self.describe)
        return self.result(task_ids[-1])

    def describe(self) -> str:
        """What every process said so far, and what lies in the folder."""
        said = [f"--- {text}" for text in self.said[-5:]]
        said += [
            f"--- {log.name}\n{log.read_text(errors='replace')}" for log in self.logs
        ]
        said += [
            f"--- {log}\n{log.read_text(errors='replace')}"
            for log in (self.state / "logs").glob("worker-*.log")
        ]
        listing = sorted(str(p.relative_to(self.root)) for p in self.root.rglob("*"))
        return "\n".join([*said, *listing[:200]])

    def end(self) -> list[psutil.Process]:
        """End everything that was started; what had to be killed beside it."""
        for popen in self.processes:
            if popen.poll() is None:
                popen.kill()
            popen.wait()
        left = self.left_behind()
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=10)
        return left

    def left_behind(self) -> list[psutil.Process]:
        """Living processes that belong to this project, by their environment."""
        found = []
        for process in psutil.process_iter():
            mine = runs = False
            with suppress(psutil.Error):  # it is gone
                mine = str(self.root) in process.cmdline()
                runs = process.status() != psutil.STATUS_ZOMBIE
            with suppress(psutil.Error):  # another user's, or one that hides its own
                mine |= process.environ().get("FARM_PROJECT") == str(self.root)
            if mine and runs:
                found.append(process)
        return found


def ran(farm: Farm) -> list[str]:
    """The words that its tasks have put into the file `ran`, in order."""
    record = farm.root / "ran"
    return record.read_text().split() if record.exists() else []


def said(farm: Farm, process: "subprocess.Popen[bytes] | None" = None) -> str:
    """What a process has printed so far: this one, or the one that was started last."""
    number = farm.processes.index(process) if process else -1
    return farm.logs[number].read_text(errors="replace")


def whys(result: dict[str, Any]) -> list[str]:
    """How each attempt of a task ended, by its result."""
    return [attempt["why"] for attempt in result["attempts"]]
