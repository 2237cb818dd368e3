"""One line for each ended attempt: what happened, without opening results.

Each worker appends to a file of its own, `.farm/journal/<name>.jsonl`. Readers
(`Reader.poll`) follow all of them. The journal is a cache: results are the
truth, and what it does not know (it was deleted, results were copied in) is read
from the results. A torn or foreign line is ignored.

A line that tells of a result names its file (`disk.identity`), and counts only while
that very file lies there: so no clock decides which of two lines is right, and a line
that was lost costs one reading of the result. Lines of older farms name no file; such
a line counts if the file was written within a second after what it tells.

A result that goes (`farm retry`) is told by a line in a file that all verbs share, for
older farms, which believe the latest line.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Generic, TypeVar

import msgspec

from farm import disk
from farm.project import Project
from farm.result import Usage
from farm.states import Status, Why


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One attempt that ended, one result that came without a run, or one that went."""

    id: str
    at: float  #: POSIX seconds
    worker: str
    why: Why | None = None  #: None: a result without a run (skipped, invalid ...)
    status: Status | None = None  #: None: it will run again; without `why`: it went
    attempt: int = 0
    duration: float = 0.0  #: seconds
    message: str = ""  #: why it did not succeed
    file: int = 0  #: the identity of the result's file; 0: none, or not known
    usage: Usage | None = None  #: of the attempt

    @property
    def is_ending(self) -> bool:
        """Whether something ended; else a result was taken away."""
        return self.why is not None or self.status is not None


class Told(msgspec.Struct, frozen=True, gc=False):
    """As much of a line as those need who count results."""

    id: str
    at: float
    why: Why | None = None
    status: Status | None = None
    duration: float = 0.0
    file: int = 0


VERBS, REBUILT = "verbs", "rebuilt"  # files that are no worker's
_CHUNK = 1 << 20  # bytes
Lines = TypeVar("Lines", Entry, Told)


class Journal:
    """The calling worker's own file; made with the first line."""

    def __init__(self, project: Project, worker: str) -> None:
        self._path = project.journal_path(worker)
        self._fd = -1
        self._torn = False  # the last line may have been cut short

    def append(self, entry: Entry) -> None:
        """Add one line. OSError if the disk does not take it."""
        if self._fd < 0:
            self._fd = disk.open_to_append(self._path)
        line = msgspec.json.encode(entry) + b"\n"
        start, self._torn = (b"\n" if self._torn else b""), True
        disk.write_all(self._fd, start + line)
        self._torn = False

    def close(self) -> None:
        """No more lines."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Reader(Generic[Lines]):
    """Follows every worker's journal from the beginning, or from now on.

    `kind` is what each line is read as: `Entry`, or `Told`.
    """

    def __init__(
        self, project: Project, kind: type[Lines], *, from_now: bool = False
    ) -> None:
        self._folder = project.journal
        self._decoder: msgspec.json.Decoder[Lines] = msgspec.json.Decoder(kind)
        self._offsets: dict[str, int] = {}
        if from_now:
            self._offsets = dict(self._files())

    def poll(self) -> list[Lines]:
        """The lines that came since the last call, each worker's in order."""
        entries: list[Lines] = []
        for name, size in self._files():
            offset = self._offsets.get(name, 0)
            if size <= offset:
                continue
            for lines in self._read(name, offset):
                offset += len(lines)
                entries.extend(_parse(lines, self._decoder))
            self._offsets[name] = offset
        return entries

    def _files(self) -> list[tuple[str, int]]:
        try:
            with os.scandir(self._folder) as entries:
                files = [e for e in entries if e.is_file(follow_symlinks=False)]
                return [(e.name, e.stat().st_size) for e in files]
        except FileNotFoundError:
            return []  # .farm was deleted: nothing is known

    def _read(self, name: str, offset: int) -> Iterator[bytes]:
        """The whole lines from there on, many at once and never all of a huge file."""
        # It may have been deleted since it was listed.
        with (
            suppress(FileNotFoundError),
            disk.open_file(f"{self._folder}/{name}") as file,
        ):
            file.seek(offset)
            lines = b"\n"
            while lines.endswith(b"\n"):
                lines = file.read(_CHUNK) + file.readline(disk.LONGEST_LINE)
                # The last may be half written; of one without end nobody reads on.
                yield lines[: lines.rfind(b"\n") + 1]


def _parse(raw: bytes, decoder: msgspec.json.Decoder[Lines]) -> list[Lines]:
    try:
        return decoder.decode_lines(raw)
    except disk.NO_JSON:
        lines = raw.splitlines()
    if len(lines) == 1:
        return []  # the module's promise
    half = len(lines) // 2  # one bad line of a million costs no million calls
    parts = (b"\n".join(lines[:half]), b"\n".join(lines[half:]))
    return [line for part in parts for line in _parse(part, decoder)]


def note(project: Project, writer: str, entries: Iterable[Entry]) -> None:
    """Write down what no worker tells; `writer` is the name of a shared file.

    Only a cache, so a disk that does not take it is no error.
    """
    journal = Journal(project, writer)
    try:
        with suppress(OSError):
            for entry in entries:
                journal.append(entry)
    finally:
        journal.close()
