"""What the benchmark changes in a farm's processes; no line of it is in farm.

Python imports this file when it starts, if its folder is on PYTHONPATH. Without one
of these variables it does nothing:

    BENCH_WITHOUT=journal       ended attempts are noted nowhere
    BENCH_WITHOUT=heartbeats    the heart does not beat
    BENCH_SAMPLES=PATH          where a worker's Python is, a thousand times a second

The sampler is a thread over `sys._current_frames`. It sees the main thread when that
gives the interpreter's lock away, which is at system calls and, with the short switch
interval set here, within 50 µs elsewhere: a little more often at calls than is fair.
"""

import atexit
import os
import sys
import threading
from collections import Counter
from types import FrameType

EVERY = 0.001  # seconds
SWITCH = 0.00005  # seconds


def leave_out(part: str) -> None:
    """Take one duty from the workers."""
    if part == "journal":
        from farm.journal import Journal  # noqa: PLC0415 - only where it is wanted

        Journal.append = lambda self, entry: None  # type: ignore[method-assign]
    elif part == "heartbeats":
        from farm.heart import Heart  # noqa: PLC0415 - only where it is wanted

        Heart.run = lambda self: None  # type: ignore[method-assign]
    else:
        sys.exit(f"BENCH_WITHOUT: there is no part {part}")


def sample(path: str) -> None:
    """From now to the end: which functions the main thread is in."""
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


if part := os.environ.get("BENCH_WITHOUT"):
    leave_out(part)
if path := os.environ.get("BENCH_SAMPLES"):
    sample(path)
