"""Which results count and how each task ended, read as seldom as possible.

    counting = results.refresh(names)     at each look, with the names that lie there
    results.status(id)                    how a task ended

Journals tell how tasks ended; a line counts for the very file that it was written for
(`disk.identity`), so each new name costs a `stat`. A result of which no journal tells is
read, once. Names that stay are trusted beyond that, with three exceptions that are
*doubtful* and read at each look: a verdict of `invalid` (its file may have changed
since), a file that was empty, and what an event or a claim found to be no result.

A result may be replaced by another, or emptied in place, without a new name: `recheck`
asks every file once more. A worker does it now and then when it is idle; who decides an
exit code does it at the end.
"""

import os
from collections.abc import Iterator, Sequence, Set

import msgspec

from farm import disk, process, register
from farm.journal import REBUILT, Entry, Reader, Told, file_of, note
from farm.listing import Listing
from farm.project import RESULT, Project
from farm.result import Head, posix
from farm.states import Status


class Known(msgspec.Struct, frozen=True, gc=False):
    """How and when (POSIX seconds) a task ended, and how long its last run took."""

    status: Status
    at: float
    duration: float = 0.0  #: seconds
    file: int = 0  #: the identity of its result; 0 if that is not known

    def entry(self, task_id: str) -> Entry:
        """As a line of the journal."""
        return Entry(
            task_id,
            self.at,
            REBUILT,
            status=self.status,
            duration=self.duration,
            file=self.file,
        )


class Results:
    """One process's knowledge of a project's results."""

    def __init__(
        self, project: Project, *, writes: bool = True, listing: Listing | None = None
    ) -> None:
        """With `writes`, what journals do not tell at first is written into one.

        With the `listing` that the names are of, results are not compared at first that
        were when journals were packed, while their folder is as it was then.
        """
        self._listing = listing
        self._project = project
        self._writes = writes
        self._journal = Reader(project, Told)
        self._first = True
        self._names: Set[str] = frozenset()
        self.doubtful: set[str] = set()  #: read at each look
        self._lines: list[Told] = []  # that may be about a name of the next listing
        self._packed: list[Told] = []  # the same, of an earlier time
        self._counting: set[str] = set()
        self._known: dict[str, Known] = {}
        self._ends: dict[str, Known] | None = None  # of those that count

    def refresh(self, names: Set[str]) -> set[str]:
        """Those of these ids whose result counts; the caller may change this set.

        Only what is `doubtful`, or what a journal tells, is looked at while `names` is
        the very same object.
        """
        told = self._listen()
        if told or self.doubtful:
            self._ends = None
        if names is not self._names:
            self._compare(names, told)
        elif told:
            self._read(self._match(names & told))
        for task_id in self.doubtful:
            if self.counts(task_id):
                self._counting.add(task_id)
            else:
                self._counting.discard(task_id)
        return self._counting

    def _compare(self, names: Set[str], told: Set[str]) -> None:
        before, self._ends = self._names, None
        for gone in before - names:
            self.forget(gone)
        new = names - before if before else names
        if self._first and self._listing is not None:
            new -= self._compared_before(self._listing, new)
        self._read(self._match(new | (told & names) if before else new))
        self.doubtful &= names
        # Only now: the next look makes up for one that failed.
        self._names, self._first = names, False
        self._lines, self._packed = [], []  # what is in no name lies there no more
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
            # Before its bytes: were it replaced in between, it is read again later.
            file = disk.identity_of(self._project.result_path(task_id))
            head = self._head(task_id)
            if head is None:
                return None
            at = posix(head.finished)
            self._known[task_id] = Known(head.status, at, head.duration_s, file)
        return self._known[task_id]

    def forget(self, task_id: str) -> None:
        """Read it again when its status is asked for."""
        self._known.pop(task_id, None)
        self._ends = None

    def doubt(self, task_id: str) -> None:
        """Read it at each look from now on, until a journal tells how it ended."""
        self.doubtful.add(task_id)

    def recheck(self) -> None:
        """Ask every file once more, and read what is not what it was."""
        names = list(self._names & self._known.keys())
        files = zip(names, self._files(names), strict=True)
        self._read({i for i, file in files if self._known[i].file != file})

    def _listen(self) -> Set[str]:
        """Take in what journals tell; the ids of which they tell that a result came, or went."""
        # After an attempt with a `why` and no status the task runs again.
        ends = [line for line in self._journal.poll() if line.status or not line.why]
        self._packed += self._journal.take_compacted()
        self._lines += ends
        return {line.id for line in ends}

    def _compared_before(self, listing: Listing, names: Set[str]) -> Set[str]:
        """Those of which packed lines tell, in folders that are as they were then."""
        head = self._journal.head
        if self._project.network or head.boot != process.identify().boot:
            return frozenset()
        states = listing.states()
        same = {
            name for name, state in head.folders.items() if states.get(name) == state
        }
        all_same = same >= listing.folders.keys()
        known = {
            line.id: Known(line.status, line.at, line.duration, line.file)
            for line in self._packed
            if line.id in names
            and line.status
            and line.status is not Status.INVALID  # its task may have changed since
            and (all_same or line.id[: line.id.rfind("/") + 1] in same)
        }
        self._known.update(known)
        return known.keys()

    def _match(self, ids: Set[str]) -> Set[str]:
        """Take in what journals tell of these; those of which they tell nothing."""
        lines = [line for line in (*self._packed, *self._lines) if line.id in ids]
        files = self._files([line.id for line in lines])
        told, older = {}, []
        for line, file in zip(lines, files, strict=True):
            if line.status is None:
                continue
            if line.file == file:
                told[line.id] = Known(line.status, line.at, line.duration, file)
            elif file and not line.file:
                older.append((line, file))
        for line, file in older:  # what names its file is right, whatever others tell
            path = self._project.result_path(line.id)
            if line.status and line.id not in told and file_of(line, path):
                told[line.id] = Known(line.status, line.at, line.duration, file)
        self._known.update(told)
        self.doubtful -= told.keys()
        invalid = Status.INVALID
        self.doubtful |= {i for i, k in told.items() if k.status is invalid}
        return ids - told.keys()

    def _files(self, ids: Sequence[str]) -> Iterator[int]:
        """The identities of these results' files, in order; there may be a million.

        0 for what cannot be seen: it was deleted since it was listed.
        """
        if not ids:
            return  # tasks/ itself may be gone
        stat, identity = os.stat, disk.identity
        with disk.opened_folder(self._project.tasks) as tasks:
            for task_id in ids:
                name = f"{task_id}{RESULT}"
                try:
                    yield identity(stat(name, dir_fd=tasks, follow_symlinks=False))
                except OSError:
                    yield 0

    def _read(self, untold: Set[str]) -> None:
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
