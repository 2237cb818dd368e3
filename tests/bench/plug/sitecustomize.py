"""What the benchmark changes in a farm's processes; no line of it is in farm.

Python imports this file when it starts, if its folder is on PYTHONPATH. Without one
of these variables it does nothing:

    BENCH_PARTS=FOLDER          what a process takes of processor time, and its duties
    BENCH_SAMPLES=PATH          where a worker's Python is, a thousand times a second
    BENCH_APART=FOLDER          what a process knows of keys is shared with no other

The parts are written at the process's end into a file named after it: "all", and the
threads' time inside "journal" and "heartbeats", as the kernel counts both.

The sampler is a thread over `sys._current_frames`. It sees the main thread when that
gives the interpreter's lock away, which is at system calls and, with the short switch
interval set here, within 50 µs elsewhere: a little more often at calls than is fair.

Whatever it needs is imported only then: the start of a worker is measured, too.
"""

# ruff: noqa: PLC0415 - see above

import os
import sys
from types import FrameType

EVERY = 0.001  # seconds
SWITCH = 0.00005  # seconds


def count_parts(folder: str) -> None:
    """Note, from now to the end, what the duties of a worker take."""
    import atexit
    import json
    import time

    from farm.heart import Heart
    from farm.journal import Entry, Journal

    spent = {"journal": 0.0, "heartbeats": 0.0}
    append, run = Journal.append, Heart.run

    def counted_append(journal: Journal, entry: Entry) -> None:
        began = time.thread_time()
        try:
            append(journal, entry)
        finally:
            spent["journal"] += time.thread_time() - began

    def counted_run(heart: Heart) -> None:
        run(heart)
        spent["heartbeats"] += time.thread_time()

    def write() -> None:
        found = spent | {"all": time.process_time()}
        with open(f"{folder}/{os.getpid()}", "w") as file:  # noqa: PTH123 - no more than needed
            json.dump(found, file)

    Journal.append = counted_append  # type: ignore[assignment, method-assign]
    Heart.run = counted_run  # type: ignore[assignment, method-assign]
    atexit.register(write)


def sample(path: str) -> None:
    """From now to the end: which functions the main thread is in."""
    import atexit
    import threading
    from collections import Counter

    main, over = threading.main_thread().ident or 0, threading.Event()
    stacks: Counter[str] = Counter()

    def look() -> None:
        while not over.wait(EVERY):
            frame = sys._current_frames().get(main)
            stacks[";".join(names(frame))] += 1

    def write() -> None:
        over.set()
        with open(path, "w") as file:  # noqa: PTH123 - nothing more than needed
            file.writelines(f"{n} {stack}\n" for stack, n in stacks.items())

    sys.setswitchinterval(SWITCH)
    threading.Thread(target=look, name="bench-sampler", daemon=True).start()
    atexit.register(write)


def names(frame: FrameType | None) -> list[str]:
    """`module.function` of a stack, the innermost first."""
    found = []
    while frame is not None:
        name = frame.f_globals.get("__name__", "?")
        found.append(f"{name}.{frame.f_code.co_qualname}")
        frame = frame.f_back
    return found


def set_apart(folder: str) -> None:
    """Keep what this process knows of keys in a project of its own below there."""
    from farm.credentials import Credentials
    from farm.project import Project

    begin = Credentials.__init__

    def begin_apart(shared: Credentials, _: Project, writer: str) -> None:
        begin(shared, Project.open(f"{folder}/{os.getpid()}"), writer)

    Credentials.__init__ = begin_apart  # type: ignore[assignment, method-assign]


if folder := os.environ.get("BENCH_PARTS"):
    count_parts(folder)
if path := os.environ.get("BENCH_SAMPLES"):
    sample(path)
if folder := os.environ.get("BENCH_APART"):
    set_apart(folder)
