"""Which results count and how each task ended, read as seldom as possible.

    counting = results.refresh(names)     at each look, with the names that lie there
    results.status(id)                    how a task ended

Journals tell how tasks ended; a result of which no journal tells is read, once.
Names are trusted beyond that, with three exceptions that are *doubtful* and read
at each look: a verdict of `invalid` (its file may have changed since), a file that
was empty, and whatever an event or a claim found to be no result.

Files are empty after a power cut, so who only looks asks for the size of those alone
that ended before this machine started. A worker asks for all at first, and now and then
when it is idle (`doubt_empty`): people empty files in place, and no folder tells of it.
"""

import os
from collections.abc import Iterable, Set
from operator import attrgetter

import msgspec

from farm import process, register
from farm.journal import REBUILT, Entry, Reader, note
from farm.project import RESULT, Project
from farm.result import Head, posix
from farm.states import Status


class Known(msgspec.Struct, frozen=True, gc=False):
    """How and when (POSIX seconds) a task ended, and how long its last run took."""

    status: Status
    at: float
    duration: float = 0.0  #: seconds

    def entry(self, task_id: str) -> Entry:
        """As a line of the journal."""
        return Entry(
            task_id, self.at, REBUILT, status=self.status, duration=self.duration
        )


class Results:
    """One process's knowledge of a project's results."""

    def __init__(self, project: Project, *, writes: bool = True) -> None:
        """With `writes`, what journals do not tell at first is written into one."""
        self._project = project
        self._writes = writes
        self._journal = Reader(project)
        self._first = True
        self._names: Set[str] = frozenset()
        self.doubtful: set[str] = set()  #: read at each look
        self._counting: set[str] = set()
        self._known: dict[str, Known] = {}
        self._ends: dict[str, Known] | None = None  # of those that count

    def refresh(self, names: Set[str]) -> set[str]:
        """Those of these ids whose result counts; the caller may change this set.

        Only `doubtful` ones are looked at while `names` is the very same object.
        """
        told = self._listen()
        if told or self.doubtful:
            self._ends = None
        if names is not self._names:
            self._compare(names, told)
        for task_id in self.doubtful:
            if self.counts(task_id):
                self._counting.add(task_id)
            else:
                self._counting.discard(task_id)
        return self._counting

    def _compare(self, names: Set[str], told: Set[str]) -> None:
        before, self._names, self._ends = self._names, names, None
        for gone in before - names:
            self.forget(gone)
        new = names - before if before else names
        self._read_untold(new - told)
        if self._first:
            self.doubtful |= self._empty(self._may_be_empty(names))
            self._first = False
        self.doubtful &= names
        self._counting = set(names)

    def ends(self) -> dict[str, Known]:
        """How all that count have ended; the very same object while nothing changed."""
        if self._ends is None:
            counting, known = self._counting, self._known
            unread = [i for i in counting - known.keys() if self.known(i) is None]
            if len(known) == len(counting) - len(unread):
                self._ends = known.copy()  # all that is known counts
            else:
                # In this order: a million leaps through memory take a second.
                self._ends = {i: k for i, k in known.items() if i in counting}
        return self._ends

    def counts(self, task_id: str) -> bool:
        """Whether a result lies there that counts, or one that we may not read."""
        try:
            return register.counts(self._project, task_id) is not None
        except OSError:
            return True

    def status(self, task_id: str) -> Status | None:
        """How a task ended; None if what lies there is no result, or unreadable."""
        known = self.known(task_id)
        return known.status if known else None

    def known(self, task_id: str) -> Known | None:
        """The same, with when."""
        if task_id not in self._known:
            head = self._head(task_id)
            if head is None:
                return None
            at = posix(head.finished)
            self._known[task_id] = Known(head.status, at, head.duration_s)
        return self._known[task_id]

    def forget(self, task_id: str) -> None:
        """Read it again when somebody asks."""
        self._known.pop(task_id, None)
        self._ends = None

    def doubt(self, task_id: str) -> None:
        """Read it at each look from now on, until a journal tells how it ended."""
        self.doubtful.add(task_id)

    def doubt_empty(self) -> None:
        """Ask for the size of every file; what is empty is read at the next look."""
        if self._names:  # else tasks/ itself may be gone
            self.doubtful |= self._empty(self._names)

    def _listen(self) -> Set[str]:
        """Take in what journals tell, the latest line last; the ids."""
        told: dict[str, Known] = {}
        for e in sorted(self._journal.poll(), key=attrgetter("at")):
            if e.status is not None:
                told[e.id] = Known(e.status, e.at, e.duration)
            elif not e.is_ending:  # its result was taken away
                told.pop(e.id, None)
                self.forget(e.id)
        self._known.update(told)
        self.doubtful = {i for i in self.doubtful if i not in told}
        invalid = Status.INVALID
        self.doubtful.update([i for i, k in told.items() if k.status is invalid])
        return told.keys()

    def _read_untold(self, untold: Set[str]) -> None:
        found = []
        for task_id in untold:
            self.forget(task_id)
            known = self.known(task_id)
            if known is None or known.status is Status.INVALID:
                self.doubtful.add(task_id)
            if known is not None:
                found.append(known.entry(task_id))
        if found and self._first and self._writes:
            note(self._project, REBUILT, found)

    def _head(self, task_id: str) -> Head | None:
        try:
            head = register.look(self._project, task_id)
        except OSError:
            return None  # another user's: nothing is known of it
        return head if isinstance(head, Head) else None

    def _may_be_empty(self, names: Set[str]) -> Set[str]:
        """Those whose file is to be asked for its size; see the module's docstring.

        Of which nothing is known is doubtful anyway.
        """
        if self._writes or self._project.network:
            return names
        booted = process.booted()
        return names & {i for i, k in self._known.items() if k.at <= booted}

    def _empty(self, names: Iterable[str]) -> set[str]:
        """Those of these whose file is empty; relative names, as there may be a million."""
        tasks = os.open(self._project.tasks, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return {i for i in names if _is_empty(f"{i}{RESULT}", tasks)}
        finally:
            os.close(tasks)


def _is_empty(name: str, folder: int) -> bool:
    try:
        return os.stat(name, dir_fd=folder).st_size == 0
    except OSError:
        return True  # deleted since it was listed, or a link to itself
