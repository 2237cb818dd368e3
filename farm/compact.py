"""Pack the journals of the dead: what is still true, and the sums of the rest.

    compact(project, at_rest=...)     one at a time; False if there was nothing to do

Into `.farm/journal.jsonl` goes one short line for each result that lies there and of which
a journal tells, by the file that the line names; what attempts came to goes into sums
(`journal.Sums`). So journals are bounded by what lies in `tasks/`: what was archived or
deleted leaves nothing but its part in the sums.

Idle workers and supervisors do it when they sweep, a worker at its end and `farm archive`
when there is much to pack. Packed are the files of workers that are dead, the closed parts
of those that live (`Journal.seal`), and the files that verbs share. A living supervisor
tells people what these files say: beside one only such are packed as nobody has written
for `QUIET` seconds, by the file system's own clock.

What may go wrong. The new file is on the platter before it gets its name, and has it before
a packed file is removed. Its first line says which files are in it, and how much of each:
a run that was killed in between leaves files that nobody reads again, and the next run
removes them. So each line counts once, whenever a run is killed. Older farms read only the
files of workers: they read the results themselves of which no line is left there.

The first line also says in which state each folder of `tasks/` was while all its results
were compared with their lines. Who only looks need not compare them again while a folder
is as it was (`Listing.states`), on the same boot: a power cut empties files.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import msgspec

from farm import disk, journal, life, process
from farm.errors import LedgerError, MountError
from farm.flock import lock_descriptor
from farm.journal import REBUILT, VERBS, Compacted, Entry, Head, Told
from farm.ledger import open_lock, try_lock
from farm.life import LifeLock
from farm.listing import Listing
from farm.project import Project
from farm.singleton import supervisors

FEW = 8  # files that may lie there before it is worth while
LEAST = 1 << 16  # bytes that may
QUIET = 60.0  # seconds
_SHARED = (VERBS, REBUILT)
_ENTRY = msgspec.json.Decoder(Entry)


class _Source(msgspec.Struct, frozen=True):
    """A file that can be packed."""

    name: str
    size: int  #: bytes


def compact(project: Project, *, at_rest: bool) -> bool:
    """Pack what is worth while; `at_rest` also if only folders have changed.

    A disk that does not take it is no error: then all is as it was.
    """
    try:
        return _compact(project, at_rest=at_rest)
    except (OSError, LedgerError, MountError):
        return False


def _compact(project: Project, *, at_rest: bool) -> bool:
    with _alone(project) as now, ExitStack() as locks:
        if now is None:
            return False
        before = journal.read_compacted(project)
        _remove_merged(project, before.head)
        sources = _sources(project, now, locks)
        if not _is_worthwhile(project, before, sources, at_rest=at_rest):
            return False
        head = _write(project, before, sources)
        _remove_merged(project, head)
    return True


@contextmanager
def _alone(project: Project) -> Iterator[float | None]:
    """The right to pack: the time now, by the file system's clock; None: another packs."""
    fd, _ = open_lock(project.journal_lock)
    try:
        if not try_lock(fd, project.journal_lock):
            yield None
            return
        os.utime(fd)
        yield os.fstat(fd).st_mtime
    finally:
        os.close(fd)


def _sources(project: Project, now: float, locks: ExitStack) -> list[_Source]:
    """The files that nobody writes any more, or that are locked for us."""
    files = journal.files_of(project)
    last: dict[str, int] = {}  # worker -> its last part
    for name, _, _ in files:
        worker, part = _parted(name)
        last[worker] = max(part, last.get(worker, 0))
    alive = {w for w in last if life.observe(project, w) is LifeLock.HELD}
    before = now - QUIET if supervisors(project) else float("inf")
    return [
        _Source(name, size)
        for name, _, size in files
        if (_parted(name)[0] not in alive or _parted(name)[1] < last[_parted(name)[0]])
        and _is_quiet(project, name, before)
        and (_parted(name)[0] not in _SHARED or _lock(project, name, locks))
    ]


def _parted(name: str) -> tuple[str, int]:
    """Whose file it is, and which of its parts."""
    worker, _, part = name.removesuffix(".jsonl").partition(".")
    return worker, int(part) if part.isdecimal() else 0


def _is_quiet(project: Project, name: str, before: float) -> bool:
    try:
        return os.stat(f"{project.journal}/{name}").st_mtime < before
    except FileNotFoundError:
        return False


def _lock(project: Project, name: str, locks: ExitStack) -> bool:
    """Lock a file that verbs share until we have removed it; see `journal.note`."""
    try:
        fd = disk.open_to_append(f"{project.journal}/{name}")
    except OSError:
        return False
    locks.callback(os.close, fd)
    return lock_descriptor(fd)


def _is_worthwhile(
    project: Project, before: Compacted, sources: list[_Source], *, at_rest: bool
) -> bool:
    packed = journal.merged_part(project, before.head)
    more = sum(s.size - packed.get(s.name, (0, 0))[1] for s in sources)
    if len(sources) > FEW or more > max(LEAST, before.file and _size(project) // 2):
        return True
    if not at_rest:
        return False
    listing = Listing(project)
    listing.refresh()
    states = listing.states()
    unsettled = len(states) < len(listing.folders)
    return bool(sources) or unsettled or states != before.head.folders


def _size(project: Project) -> int:
    return os.stat(project.compacted).st_size


def _write(project: Project, before: Compacted, sources: list[_Source]) -> Head:
    """Make the new file from the old one and these; what it says first."""
    entries: list[Entry] = []
    packed = journal.merged_part(project, before.head)
    merged = {name: before.head.merged[name] for name in packed}
    for source in sources:
        path = f"{project.journal}/{source.name}"
        _, offset = packed.get(source.name, (0, 0))
        for raw in journal.read_lines(path, offset):
            entries += journal.parse(raw, _ENTRY)
            offset += len(raw)
        size = max(offset, source.size)  # half a line at its end will never be whole
        merged[source.name] = (journal.beginning(path, size), size)
    kept, folders = _compared(project, [*before.lines, *map(_short, entries)])
    head = Head(
        boot=process.identify().boot,
        folders=folders,
        merged=merged,
        sums=journal.added(before.head.sums, entries),
    )
    lines = [msgspec.json.encode(line) for line in (head, *kept)]
    aside = project.aside_path(f"journal-{os.urandom(8).hex()}", "new")
    disk.write_aside(aside, b"\n".join([*lines, b""]), sync=True)
    os.replace(aside, project.compacted)
    disk.sync_folder(project.farm)
    return head


def _short(entry: Entry) -> Told:
    return Told(entry.id, entry.at, None, entry.status, entry.duration, entry.file)


def _compared(project: Project, lines: list[Told]) -> tuple[list[Told], dict[str, int]]:
    """The lines of the files that lie there, and how the folders were meanwhile."""
    listing = Listing(project)
    listing.refresh()
    states, names = listing.states(), listing.results()
    ends = [line for line in lines if line.status and line.id in names]
    kept = {}
    for line in sorted(ends, key=_names_no_file):
        path = project.result_path(line.id)
        if line.id not in kept and (file := journal.file_of(line, path)):
            kept[line.id] = msgspec.structs.replace(line, file=file)
    # RACE: a result may have come, or been replaced, since the folder was listed.
    listing.refresh()
    after = listing.states()
    same = {name: state for name, state in states.items() if after.get(name) == state}
    return list(kept.values()), same


def _names_no_file(line: Told) -> bool:
    return not line.file


def _remove_merged(project: Project, head: Head) -> None:
    """Remove the files that are in there as a whole."""
    sizes = {name: size for name, _, size in journal.files_of(project)}
    for name, (_, packed) in journal.merged_part(project, head).items():
        if sizes.get(name) == packed:
            # RACE: a worker that was given this name anew may write just now; then
            # its first lines are lost, and what they tell of is read.
            disk.unlink(f"{project.journal}/{name}")
