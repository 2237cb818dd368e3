"""One line for each ended attempt: what happened, without opening results.

Each worker appends to a file of its own, `.farm/journal/<name>.jsonl`. Readers
(`Reader.poll`) follow all of them. The journal is a cache: results are the
truth, and what it does not know (it was deleted, results were copied in) is read
from the results. A torn or foreign line is ignored.

A line that tells of a result names its file (`disk.identity`), and counts only while
that very file lies there: so no clock decides which of two lines is right, and a line
that was lost costs one reading of the result. Lines of older farms name no file; such
a line counts if the file was written within a second after what it tells.

A worker's file is closed after so many lines (`SEALED_AFTER`), and the next one begun. What
is closed, or of the dead, is packed into `.farm/journal.jsonl` (`farm.compact`): the lines
of what still lies there, and the sums of all others.

A result that goes (`farm retry`) is told by a line in a file that all verbs share, for
older farms, which believe the latest line.
"""

import os
import zlib
from collections import Counter, defaultdict
from collections.abc import Generator, Iterable
from contextlib import suppress
from typing import Generic, NamedTuple, TypeVar

import msgspec

from farm import disk, poll
from farm.flock import lock_descriptor
from farm.project import Project
from farm.result import Usage, total
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
    rescue: float | None = None  #: seconds from its worker's last sign of life to this

    @property
    def is_ending(self) -> bool:
        """Whether something ended; else a result was taken away, or a worker died."""
        if self.why is Why.LOST and self.status is None:
            return False  # it is told as the death of its worker
        return self.why is not None or self.status is not None


class Told(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """As much of a line as those need who count results."""

    id: str
    at: float
    why: Why | None = None
    status: Status | None = None
    duration: float = 0.0
    file: int = 0


class Sums(msgspec.Struct, frozen=True, omit_defaults=True):
    """What many attempts came to; each counts once."""

    attempts: dict[str, int] = {}  #: how many ended so, by `Why`
    seconds: dict[str, float] = {}  #: how long these took together
    usage: Usage = Usage()
    rescues: int = 0  #: attempts that were taken from dead workers
    rescue_s: float = 0.0  #: seconds that this took, from their last signs of life
    longest_rescue_s: float = 0.0


class Head(msgspec.Struct, frozen=True, omit_defaults=True):
    """The first line of `.farm/journal.jsonl`; all others are read as `Told`."""

    version: int = 1
    boot: str = ""  #: of the machine, as its kernel names it
    folders: dict[
        str, int
    ] = {}  #: `Listing.states`, of those whose results were compared
    merged: dict[str, tuple[int, int]] = {}  #: name -> `beginning`, bytes
    sums: Sums = Sums()  #: of all attempts that these files told of


class Compacted(NamedTuple):
    """What `.farm/journal.jsonl` says, and which file it was (0: there is none)."""

    head: Head
    lines: list[Told]
    file: int


VERBS, REBUILT = "verbs", "rebuilt"  # files that are no worker's
#: seconds; so long after the time in a line that names no file its file may be written
SOON = 1.0
_SLACK = 0.01  # seconds; the kernel's stamps are of its last tick, a line's time of ms
SEALED_AFTER = 10_000  # lines; some 1.3 MB
PATIENCE = 1.0  # seconds, for who packs a shared file
_CHUNK = 1 << 20  # bytes
_BEGINNING = 1 << 12  # bytes; the first lines, each with its times
Lines = TypeVar("Lines", Entry, Told)


class Journal:
    """The calling worker's own file; made with the first line."""

    def __init__(self, project: Project, worker: str) -> None:
        self._project, self._worker = project, worker
        self._part = 0
        self._lines = 0  # in this part
        self._fd = -1
        self._torn = False  # the last line may have been cut short

    def append(self, entry: Entry) -> None:
        """Add one line. OSError if the disk does not take it."""
        if self._lines >= SEALED_AFTER:
            self.seal()
        if self._fd < 0:
            path = self._project.journal_path(self._worker, self._part)
            self._fd = disk.open_to_append(path)
        self._lines += 1
        line = msgspec.json.encode(entry) + b"\n"
        start, self._torn = (b"\n" if self._torn else b""), True
        disk.write_all(self._fd, start + line)
        self._torn = False

    def seal(self) -> None:
        """What is written is closed; the next line begins another file."""
        if self._lines:
            self.close()
            self._part, self._lines = self._part + 1, 0
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
        self._project: Project = project
        self._decoder: msgspec.json.Decoder[Lines] = msgspec.json.Decoder(kind)
        self._read: dict[str, tuple[int, int]] = {}  # name -> inode, bytes
        #: what was packed when the first lines were read; None before that
        self.compacted: Compacted | None = None
        if from_now:
            self._read = {name: (ino, size) for name, ino, size in files_of(project)}
            self.compacted = _NOTHING

    def poll(self) -> list[Lines]:
        """The lines that came since the last call, each worker's in order."""
        if self.compacted is not None:
            return self._news()
        # RACE: files may be packed and removed while we read.
        lines: list[Lines] = []
        while self.compacted is None or self.compacted.file != _file(self._project):
            wanted = self._decoder.type is Told  # only who counts results needs them
            self.compacted = read_compacted(self._project, lines=wanted)
            self._read = merged_part(self._project, self.compacted.head)
            lines = self._news()
        return lines

    @property
    def head(self) -> Head:
        """What was said first of it."""
        return self.compacted.head if self.compacted else Head()

    def take_compacted(self) -> list[Told]:
        """What was packed when the first lines were read; only once, as it may be much."""
        assert self.compacted is not None, "asked after a poll"  # noqa: S101 - for mypy
        lines = self.compacted.lines
        self.compacted = self.compacted._replace(lines=[])
        return lines

    def _news(self) -> list[Lines]:
        entries: list[Lines] = []
        found: dict[str, tuple[int, int]] = {}
        for name, inode, size in files_of(self._project):
            before, offset = self._read.get(name, (inode, 0))
            if before != inode or size < offset:
                offset = 0  # one of this name was packed, and another begun
            if size > offset:
                for lines in read_lines(f"{self._project.journal}/{name}", offset):
                    offset += len(lines)
                    entries.extend(parse(lines, self._decoder))
            found[name] = (inode, offset)
        self._read = found
        return entries


def _file(project: Project) -> int:
    return disk.identity_of(project.compacted)


def files_of(project: Project) -> list[tuple[str, int, int]]:
    """Name, inode and bytes of each file that workers and verbs write."""
    found = []
    with suppress(FileNotFoundError), os.scandir(project.journal) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):  # RACE: it was packed just now
                    seen = entry.stat(follow_symlinks=False)
                    found.append((entry.name, seen.st_ino, seen.st_size))
    return found  # none if .farm was deleted: nothing is known


def merged_part(project: Project, head: Head) -> dict[str, tuple[int, int]]:
    """Inode of each file that lies there and is packed, and how many bytes of it are.

    The same name, and the same inode, may be another file's by now: so how it begins
    is compared, and no two begin alike.
    """
    found = {}
    for name, inode, size in files_of(project) if head.merged else ():
        begins, packed = head.merged.get(name, (0, 0))
        path = f"{project.journal}/{name}"
        if 0 < packed <= size and begins == beginning(path, packed):
            found[name] = (inode, packed)
    return found


def beginning(path: str, size: int) -> int:
    """A sum over the first bytes of a file of that size."""
    try:
        with disk.open_file(path) as file:
            return zlib.crc32(file.read(min(size, _BEGINNING)))
    except FileNotFoundError:
        return 0


def read_compacted(project: Project, *, lines: bool = True) -> Compacted:
    """What was packed, or only what is said first; nothing of what cannot be read."""
    file, found = _file(project), Compacted(Head(), [], 0)
    parts = read_lines(project.compacted, 0)
    try:
        first, _, rest = next(parts, b"").partition(b"\n")
        head = msgspec.json.decode(first, type=Head)
        if lines:
            found = found._replace(lines=parse(rest, _TOLD))
            found.lines.extend(line for raw in parts for line in parse(raw, _TOLD))
    except (OSError, *disk.NO_JSON):
        return Compacted(Head(), [], file)
    finally:
        parts.close()
    return found._replace(head=head, file=file)


_NOTHING = Compacted(Head(), [], 0)
_TOLD = msgspec.json.Decoder(Told)


def file_of(line: Entry | Told, path: str) -> int:
    """The identity of what lies there if the line is about it, else 0."""
    try:
        seen = os.lstat(path)
    except OSError:
        return 0  # it was deleted since it was listed
    file = disk.identity(seen)
    if line.file:
        return file if file == line.file else 0
    return file if -_SLACK <= seen.st_mtime - line.at < SOON else 0


def totals(project: Project) -> Sums:
    """What all attempts came to of which journals tell, or have told."""
    reader = Reader(project, Entry)
    lines = reader.poll()
    return added(reader.head.sums, lines)


def added(sums: Sums, lines: Iterable[Entry]) -> Sums:
    """These sums and what these lines tell of attempts."""
    ended = [line for line in lines if line.why is not None]
    attempts: Counter[str] = Counter(sums.attempts)
    seconds: defaultdict[str, float] = defaultdict(float, sums.seconds)
    attempts.update(str(line.why) for line in ended)
    for line in ended:
        seconds[str(line.why)] += line.duration
    rescues = [line.rescue for line in ended if line.rescue is not None]
    return Sums(
        attempts=dict(attempts),
        seconds={why: round(s, 6) for why, s in seconds.items()},
        usage=total([sums.usage, *(line.usage for line in ended if line.usage)]),
        rescues=sums.rescues + len(rescues),
        rescue_s=round(sums.rescue_s + sum(rescues), 6),
        longest_rescue_s=max([sums.longest_rescue_s, *rescues]),
    )


def read_lines(path: str, offset: int) -> Generator[bytes]:
    """The whole lines from there on, many at once and never all of a huge file."""
    # It may have been deleted since it was listed.
    with suppress(FileNotFoundError), disk.open_file(path) as file:
        file.seek(offset)
        lines = b"\n"
        while lines.endswith(b"\n"):
            lines = file.read(_CHUNK) + file.readline(disk.LONGEST_LINE)
            # The last may be half written; of one without end nobody reads on.
            yield lines[: lines.rfind(b"\n") + 1]


def parse(raw: bytes, decoder: msgspec.json.Decoder[Lines]) -> list[Lines]:
    """These lines, but for those that cannot be read."""
    try:
        return decoder.decode_lines(raw)
    except disk.NO_JSON:
        lines = raw.splitlines()
    if len(lines) == 1:
        return []  # the module's promise
    half = len(lines) // 2  # one bad line of a million costs no million calls
    parts = (b"\n".join(lines[:half]), b"\n".join(lines[half:]))
    return [line for part in parts for line in parse(part, decoder)]


def note(project: Project, writer: str, entries: Iterable[Entry]) -> None:
    """Write down what no worker tells; `writer` is the name of a shared file.

    Only a cache, so a disk that does not take it is no error.
    """
    with suppress(OSError):
        fd = poll.until(lambda: _open_shared(project.journal_path(writer)), PATIENCE)
        if fd is not None:
            try:
                disk.write_all(
                    fd, b"".join(msgspec.json.encode(e) + b"\n" for e in entries)
                )
            finally:
                os.close(fd)


def _open_shared(path: str) -> int | None:
    """A file that many append to, locked for us; None if another has it just now.

    RACE: it may be packed and removed (`farm.compact`) between our open and our lock.
    """
    fd = disk.open_to_append(path)
    try:
        if lock_descriptor(fd) and os.path.samestat(os.fstat(fd), os.lstat(path)):
            fd, ours = -1, fd
            return ours
    except FileNotFoundError:
        pass  # it was removed just now
    finally:
        if fd >= 0:
            os.close(fd)
    return None
