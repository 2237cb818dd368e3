"""Commands that people want run when a task has ended: `[hooks]` in farm.toml.

    hooks.fire(task_id, status)     after each result that this worker has committed
    hooks.end(patience, ...)        at the worker's end

`on_failure` runs for results that are failed, timed_out, lost or invalid, `on_done`
for every result that a worker commits (not for those of verbs: whoever calls `farm
cancel` knows). A string goes to `sh -c` and finds the result's path as `$1`; a list
gets it as its last word. Hooks run in the project's folder, one after the other, in a
thread of their own: whatever they do, no task waits for them (but a worker that ends,
or starts afresh with a changed module, lets them finish), and a worker only says how
one failed. They are run at most once: one whose worker is killed is not.
"""

import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from farm import disk, process
from farm.config import Settings
from farm.project import Project
from farm.readers import Hook
from farm.states import FAILURES, Status

LONGEST = 60.0  # seconds; then a hook is killed
_LOOK = 1.0  # seconds between two looks at what a hook has printed
_PAUSE = 0.05  # seconds between two looks whether it has become urgent


class Hooks:
    """One worker's hooks; see the module's docstring."""

    def __init__(
        self,
        project: Project,
        settings: Settings,
        environ: Mapping[str, str],
        say: Callable[[str], None],
    ) -> None:
        self._project = project
        self.obey(settings)
        self._environ = {n: v for n, v in environ.items() if not n.startswith("FARM_")}
        self._say = say
        self._due: queue.SimpleQueue[tuple[str, Hook] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None
        self._given_up = False
        self._fired = self._begun = self._ended = 0

    def obey(self, settings: Settings) -> None:
        """From now on these hooks are run."""
        self._on_failure = settings.hooks_on_failure
        self._on_done = settings.hooks_on_done

    def fire(self, task_id: str, status: Status) -> None:
        """A task has ended so: run its hooks soon."""
        wanted = [self._on_failure if status in FAILURES else None, self._on_done]
        for hook in wanted:
            if hook is None:
                continue
            try:
                self._begin()
            except RuntimeError as error:  # the machine starts no more threads
                self._say(f"the hook for {task_id} could not be started: {error}")
                continue
            self._fired += 1
            self._due.put((task_id, hook))

    def _begin(self) -> None:
        if self._thread is None:
            new = threading.Thread(target=self._run_all, name="farm-hooks", daemon=True)
            new.start()
            self._thread = new

    def end(
        self, patience: float, is_urgent: Callable[[], bool] = lambda: False
    ) -> None:
        """Run what is due, for at most so many seconds; say what was not run.

        As soon as it is urgent nothing is waited for.
        """
        if self._thread is None:
            return
        self._due.put(None)
        until = time.monotonic() + patience
        how = f"took longer than {patience:g} s"
        while self._ended < self._fired and time.monotonic() < until:
            if is_urgent():
                how = "were given up"
                break
            self._thread.join(_PAUSE)
        if self._ended == self._fired:
            return
        with self._lock:  # RACE: none may begin after we gave up
            self._given_up = True
            killed = self._kill()
            left = self._fired - self._begun
        said = ["one was killed"] if killed else []
        said += [f"{left} not run"] if left else []
        if said:  # else the last one has ended in this moment
            self._say(f"hooks {how}: {', '.join(said)}")

    def _run_all(self) -> None:
        while (due := self._due.get()) is not None and not self._given_up:
            task_id, hook = due
            try:
                how = self._run(task_id, hook)
            except (OSError, ValueError) as error:
                how = f"could not be started: {error}"
            if how:
                self._say(f"the hook for {task_id} {how}; see .farm/logs/hooks.log")
            self._ended += 1

    def _run(self, task_id: str, hook: Hook) -> str:
        """Run one to its end; how it failed, or nothing."""
        path = self._project.result_path(task_id)
        argv = (
            ["/bin/sh", "-c", "--", hook, "sh"] if isinstance(hook, str) else list(hook)
        )
        running = self._start([*argv, path])
        if running is None:
            return ""  # it is among those that were said not to have run
        try:
            code = self._wait(running)
        except subprocess.TimeoutExpired:
            self._kill()
            running.wait()
            return f"took longer than {LONGEST:g} s and was killed"
        return f"ended with code {code}" if code else ""

    def _wait(self, running: "subprocess.Popen[bytes]") -> int:
        """Its code; meanwhile what it prints is kept within bounds."""
        until = time.monotonic() + LONGEST
        while True:
            try:
                return running.wait(min(_LOOK, max(0.0, until - time.monotonic())))
            except subprocess.TimeoutExpired:
                if time.monotonic() >= until:
                    raise
                with suppress(OSError):  # no room for it: it is cut off
                    disk.set_aside(self._project.hooks_log_path(), disk.MOST_LOG)

    def _start(self, argv: list[str]) -> "subprocess.Popen[bytes] | None":
        """Start one, unless all were given up meanwhile."""
        log = disk.open_to_append(self._project.hooks_log_path(), disk.MOST_LOG)
        try:
            with self._lock, process.starting:
                if self._given_up:
                    return None
                self._begun += 1
                self._running = subprocess.Popen(
                    argv,
                    cwd=self._project.root,
                    env={**self._environ, "FARM_PROJECT": self._project.root},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
                return self._running
        finally:
            os.close(log)

    def _kill(self) -> bool:
        """End the one that runs; whether one did."""
        running = self._running
        if running is None or running.poll() is not None:
            return False
        with suppress(ProcessLookupError):  # it ended in this moment
            os.killpg(running.pid, signal.SIGKILL)
        return True
