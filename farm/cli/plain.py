"""One worker process, from its order to its exit code; nothing of click in here."""

import os
import sys
import threading
import time

from farm import shield
from farm.cli import INTERRUPTED, Order, clean_threads, cleaners, leavers, say, streams
from farm.config import load_settings
from farm.control import DRAIN
from farm.process_state import SPOILT, ProcessState, busy_threads
from farm.project import Project
from farm.words import plain
from farm.work import LoopEnd, work_loop
from farm.worker import Worker

UNWELL = 75  # the machine failed it three times in a row; see farm.supervisor


def work(project: str, order: Order) -> int:
    """Work in the project of that path, if it is ours."""
    for warning in Project(project).check_trust():
        if order.supervisor is None:  # a supervisor has said it already
            say(f"warning: {plain(warning)}")
    return work_in(Project.open(project), order)


def work_in(project: Project, order: Order) -> int:
    """Work until asked to stop, or until nothing is left if that was ordered."""
    if order.secrets is not None:
        os.environ.update(shield.taken(order.secrets))
    shield.shut(os.environ)
    settings = load_settings(project.settings, os.environ, {})
    sys.dont_write_bytecode = True  # a .pyc cannot tell two edits in one second apart
    began = time.monotonic()
    with (
        streams.unguarded(),
        Worker.begin(
            project, settings, name=order.name, supervisor=order.supervisor
        ) as worker,
    ):
        cleaners.append(worker.secrets.clean_text)
        clean_threads()
        worker.say(f"worker {worker.life.name} works on {project.root}")
        ours = sys.path.copy()
        sys.path.insert(0, project.root)
        end = work_loop(worker, until_done=order.until_done)
        sys.path[:] = ours  # what is imported from here on is no task's
        worker.say(f"worker {worker.life.name} ends: {_reason(worker, end)}")
        environ = worker.secrets.back_into(os.environ)
    if end is LoopEnd.RELOAD and not worker.stop.soon:  # asked while hooks finished
        worker.state.end_children()
        _start_afresh(project, environ, order)
    leavers.append(lambda code: _leave(code, worker.state, settings.grace))
    if end is LoopEnd.SPOILT and not worker.stop.soon:
        return SPOILT
    if end is LoopEnd.UNWELL:
        return UNWELL
    if order.supervisor is not None:
        return 0  # anything else is a death to the supervisor
    if worker.stop.asked:
        return INTERRUPTED
    if not order.until_done:
        return 0
    return _judged(project, worker.around, time.monotonic() - began)


def _reason(worker: Worker, end: LoopEnd) -> str:
    if end is LoopEnd.STOPPED and worker.stop.reason == DRAIN:
        return f"drained; remove .farm/control/{DRAIN} to let workers start again"
    return worker.stop.reason or end.value


def _judged(project: Project, around: str | None, seconds: float) -> int:
    """Say what came of it; the exit code."""
    from farm.cli.screen import summarize  # noqa: PLC0415 - only at the very end
    from farm.report import survey  # noqa: PLC0415 - the same

    report = survey(project, around)
    summarize(report, seconds)
    return 0 if report.all_succeeded else 1


def _start_afresh(project: Project, environ: dict[str, str], order: Order) -> None:
    """Become a new worker in the same process; a given name was used up."""
    arguments = [sys.executable, "-P", "-m", "farm", "worker", project.root]
    if order.until_done:
        arguments.append("--until-done")
    if order.supervisor is not None:
        arguments += ["--supervisor", str(order.supervisor)]
    with shield.handed(environ) as to:
        for fd in to.fds:
            os.set_inheritable(fd, True)  # noqa: FBT003 - its own signature
        arguments += to.words
        os.execve(sys.executable, arguments, to.env)  # noqa: S606 - no shell is wanted


def _leave(code: int, state: ProcessState, patience: float) -> None:
    """End with this exit code, whatever tasks have left in this process.

    Python waits at its end for threads, and calls what modules have registered.
    """

    def end() -> None:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:  # nobody may read what is said any more
            os._exit(code)

    if state.end_children() or busy_threads():
        end()
    late = threading.Timer(patience, end)
    late.daemon = True
    try:
        late.start()
    except RuntimeError:  # a task took away the right to start a thread
        end()
