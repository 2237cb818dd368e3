"""`ParallelSessionManager`: the pattern's face of a farm, for programs of one's own.

    manager = ParallelSessionManager(4)
    results = await manager.run_parallel_agents(tasks, process)

Each task becomes a task file, and `process(task, worker_id)` is called in a real worker
process: one for each of `max_workers` *slots*, numbered from 0. What comes back is a
dict for each task, in the order in which they ended:

    {"task": ..., "result": ..., "success": True}
    {"task": ..., "error": ..., "success": False}          "exhausted_recovery": True

**Where.** In a temporary project, which is gone afterwards, and the processor finds the
caller's current folder; or in `project`, where it finds that project's folder, as all
tasks there. There each run has a folder of its own in `tasks/`, with a random name, and
what it ran stays as a record: one task file and its last result for each task.

Other workers of that project may take such tasks, as ours may take others'. Then
`worker_id` is still one of ours, but more than one may have it at a time. No more than
`max_workers` tasks of a run lie there unfinished, so no more run at a time, whoever
runs them.

**Failures.** A slot whose worker failed a task is *recovered*: that process ends and
another is started; once it is alive, the task is tried again by whoever is free.
`health_states[n]` counts the failures and recoveries of slot n. A failure is final

- with `exhausted_recovery` if the slot's `should_attempt_recovery()` says no; if this
  task was tried again `MAX_RECOVERY_ATTEMPTS` times already, for other tasks' successes
  forgive a slot but not the task; or if its runs took a worker with them `max_lost`
  times (`farm.retry`);
- without it if the slot could not be recovered, or if somebody took the task back.

A failure in somebody else's worker is no slot's: the task is tried again at once, by
the same bound. A worker that dies is a failure of its slot, which is recovered; its
task runs again, as farm promises. A slot that does not recover starts no more, and if
none is left, all that has not ended fails.

**The end.** When all tasks have ended, the workers are told to end, too. One that is busy
with somebody else's task has the setting `grace` to finish it; then that is given back,
uncounted. Cancelling the coroutine (Ctrl-C under `asyncio.run`) ends what runs and takes
back what has not ended, before it raises; `farm status` calls such tasks cancelled. If
the calling process is killed, its workers finish what they run and end.

A thread of the caller's does the watching; it sleeps until something happens, and the
event loop is never blocked.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

from farm import disk, processor
from farm.errors import UsageError
from farm.health import WorkerHealthState
from farm.processor import Processor
from farm.project import MAX_TASK_BYTES, Project
from farm.session import Session
from farm.tomlfile import FilePath
from farm.value import fault_in, plain_text


class ParallelSessionManager:
    """Runs tasks in real worker processes; see the module's docstring.

    `env_from` names variables to pass on to the processor although they look like
    secrets (`farm help tasks`).
    """

    def __init__(
        self,
        max_workers: int = 3,
        *,
        project: FilePath | None = None,
        env_from: Sequence[str] = (),
    ) -> None:
        if max_workers < 1:
            raise UsageError(f"max_workers is {max_workers}, and work needs at least 1")
        self.max_workers = max_workers
        self.health_states = [WorkerHealthState(n) for n in range(max_workers)]
        self._project = project
        self._env_from = tuple(env_from)
        for name in self._env_from:
            if name not in os.environ:
                raise UsageError(f"env_from names {name}, which is not set: set it")

    async def run_parallel_agents(
        self, tasks: Iterable[dict[str, Any]], task_processor: Processor
    ) -> list[dict[str, Any]]:
        """What became of each task, in order of completion.

        UsageError, before anything starts, if a worker could not import the processor
        or JSON cannot hold a task.
        """
        processor.refuse_at_import()
        function = processor.named(task_processor)
        name = f"session-{os.urandom(8).hex()}"
        session = processor.Caller(
            name=name,
            function=function,
            path=processor.search_path(),
            folder=os.getcwd() if self._project is None else None,
            worker_id=0,
            argv=[plain_text(word) for word in sys.argv],
        )
        tasks = list(tasks)
        files = [self._file(n, task, session) for n, task in enumerate(tasks)]
        if not files:
            return []
        with _opened(self._project) as project:
            runs = Session(project, name, tasks, files, self.health_states)
            runs.is_shared = self._project is not None
            return await _in_a_thread(runs)

    def _file(self, number: int, task: object, session: processor.Caller) -> bytes:
        """The task file of one task; UsageError if there can be none."""
        if not isinstance(task, dict):
            kind = type(task).__qualname__
            raise UsageError(f"tasks[{number}] is of type {kind}: a task is a dict")
        if fault := fault_in(task, f"tasks[{number}]"):
            raise UsageError(
                f"a task goes through a file, and JSON cannot hold {fault}"
            )
        seated = msgspec.structs.replace(session, worker_id=number % self.max_workers)
        raw = disk.encode(
            {
                "call": "farm.processor:run",
                "args": [task, msgspec.to_builtins(seated)],
                "retries": 0,  # they are ours, whatever the project's settings say
                "env_from": self._env_from,
            }
        )
        if len(raw) > MAX_TASK_BYTES:
            raise UsageError(
                f"tasks[{number}] needs {len(raw)} bytes, and a task may have 50 MB: put"
                " the data into a file of its own and name it in the task"
            )
        return raw


@contextmanager
def _opened(root: FilePath | None) -> Iterator[Project]:
    """The project of that path, or one that is gone afterwards."""
    if root is not None:
        Project(root).check_trust()  # before a folder is made there
        yield Project.open(root)
        return
    # What a processor left running may write there still.
    with tempfile.TemporaryDirectory(
        prefix="farm-session-", ignore_cleanup_errors=True
    ) as folder:
        yield Project.open(folder)


async def _in_a_thread(session: Session) -> list[dict[str, Any]]:
    """Its results. If we are cancelled, it is over before this raises."""
    try:
        with ThreadPoolExecutor(1, "farm-session") as pool:  # waits for it at the end
            running = asyncio.get_running_loop().run_in_executor(pool, session.run)
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError as cancelled:
                while not running.done():
                    session.stop()
                    with suppress(asyncio.CancelledError):  # once more: more urgent
                        await asyncio.wait([running])
                raise cancelled from running.exception()
            except GeneratorExit:  # its loop is gone, and nothing can be awaited
                session.stop()
                raise
    finally:
        session.close()
