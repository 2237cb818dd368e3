"""The life of a task, drawn once: the only moves that farm makes in it.

             claim                     commit
    READY ------------> RUNNING ---------------------> FINAL
    ^ | ^                | | |                         | |
    | | |  give back     | | |                         | |
    | | `----------------' | | retry later             | |
    | |    owner died      | v                         | |
    | `-----------------> WAITING --- cannot run ----> | |
    | needs, not_before,   | |        (skipped)          |
    | pause                | |                           |
    `----------------------' `---- new bytes, or the ----'
         its time came             result was deleted

Where a task *is* (`State`) and how it *ended* (`Status`) are two types and are
never mixed. A state is derived from the folder whenever somebody asks; it is
stored nowhere, so `ls mv rm sed` are legal repairs.
"""

from enum import StrEnum


class State(StrEnum):
    """Where a task is; `farm status` prints these words."""

    READY = "ready"  #: a task file, no result, and nothing it waits for
    RUNNING = "running"  #: a living worker holds its ledger
    WAITING = "waiting"  #: for needs, a time, a retry delay or the end of a pause
    FINAL = "final"  #: a result lies beside it


class Status(StrEnum):
    """How a task ended: the `status` of its result."""

    SUCCEEDED = "succeeded"  #: it did what it should
    FAILED = "failed"  #: it said so itself: exit code, signal, exception
    TIMED_OUT = "timed_out"  #: it was still running at its deadline
    CANCELLED = "cancelled"  #: a person or program took it back
    SKIPPED = "skipped"  #: something it needs did not succeed
    INVALID = "invalid"  #: its file cannot be used; tried again when it changes
    LOST = "lost"  #: its workers died under it too often

    @property
    def words(self) -> str:
        """As people read it: `timed out`."""
        return self.value.replace("_", " ")


#: It ended, did not succeed, and nobody wanted that.
FAILURES = frozenset({Status.FAILED, Status.TIMED_OUT, Status.LOST, Status.INVALID})


class Why(StrEnum):
    """How one *attempt* ended; the last word of its `ended` line."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LOST = "lost"  #: its worker vanished; not counted against `retries`
    DRAINED = "drained"  #: given back by a worker that was told to stop at once
    THROTTLED = "throttled"  #: its provider put it off: a limit, an overload, no key
    FAULT = "fault"  #: the machine's fault: no process, disk or memory to be had
    RELEASED = "released"  #: a `TaskLock` was let go without a result
