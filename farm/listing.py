"""Which tasks and results there are: names only, nothing is opened.

`Listing.refresh()` first, then ask. Only folders whose mtime moved are read
again, so a look at a folder where nothing happens costs one `stat`. What a
reader may assume: ids are UTF-8 and name files inside `tasks/`; names that can
never be tasks (control characters, too long for a result, `.JSON`) are kept apart, each
with a sentence; so are folders below `tasks/` that belong to another user or that every user can write. Folders
that are symbolic links are not followed. Names are trusted: whether a result's
bytes are a result is seen when it is read.
"""

import os
from contextlib import suppress
from itertools import islice

import msgspec

from farm import disk
from farm.project import RESULT, TASK, Project, id_fault
from farm.trust import why_foreign

_LONGEST_NAME = 255  # bytes
_LONGEST_PATH = os.pathconf("/", "PC_PATH_MAX") - _LONGEST_NAME - 2  # of a folder
_PLAIN = 50  # letters; a shorter id of plain text is never at fault
_TRUST_IT = "chown or chmod o-w it, or set FARM_TRUST if that is meant"
_SLIPS = (".json", ".json.txt")  # in any letters, and with blanks and dots behind
_NOT_JSON = "a task file's name ends in .json, in small letters: rename it"
_TOO_DEEP = "its path is too long for the files in it: move it higher up"


class Folder(msgspec.Struct, frozen=True):
    """The names in one folder below `tasks/`, as ids."""

    tasks: list[str]
    results: list[str]
    folders: tuple[str, ...]  #: relative, each with a trailing slash
    unusable: dict[str, str]  #: file name -> sentence


class _Seen(msgspec.Struct, frozen=True):
    folder: Folder
    mtime_ns: int
    settled: bool  #: its last change was long enough ago to be seen by mtime


class Listing:
    """What was there at the last `refresh()`; see the module's docstring.

    `folders` has every folder by its relative path ("" is `tasks/` itself).
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self._seen: dict[str, _Seen] = {}
        self.folders: dict[str, Folder] = {}

    def refresh(self) -> bool:
        """Look again; whether any folder was read anew or is gone."""
        before, found, changed = self._seen, {}, False
        queue = [""]
        while queue:
            name = queue.pop()
            seen = self._look(name, before.get(name))
            if seen is None:
                continue
            changed |= seen is not before.get(name)
            found[name] = seen
            queue.extend(seen.folder.folders)
        self._seen = found
        changed |= before.keys() != found.keys()
        if changed:
            self.folders = {name: seen.folder for name, seen in found.items()}
        return changed

    def _look(self, name: str, before: _Seen | None) -> _Seen | None:
        path = f"{self._project.tasks}/{name}"
        if self._project.network:
            disk.drop_stale_names(path)
        try:
            now = os.stat(path)
            if name and (why := self._foreign(now)):
                return _passed_over(
                    name, f"{why}, and a task is a program: {_TRUST_IT}"
                )
            if len(os.fsencode(path)) > _LONGEST_PATH:
                return _passed_over(name, _TOO_DEEP)
            mtime = now.st_mtime_ns
            if before and before.settled and before.mtime_ns == mtime:
                return before
            settled = disk.has_settled(mtime, network=self._project.network)
            return _Seen(_read_folder(path, name), mtime, settled)
        except (FileNotFoundError, NotADirectoryError):
            return None  # removed while we looked: nothing is in it
        except PermissionError as error:
            return _passed_over(name, f"cannot look into this folder: {error.strerror}")

    def _foreign(self, now: os.stat_result) -> str | None:
        """Why what lies in a folder below `tasks/` may be a stranger's program."""
        why = why_foreign(now.st_uid, now.st_mode, self._project.owners)
        return None if why is None or self._project.trusts_others else why

    def states(self) -> dict[str, int]:
        """By what each folder is known to be as it was read: its mtime in nanoseconds.

        Without those that changed so lately that the next change may not show.
        """
        return {n: seen.mtime_ns for n, seen in self._seen.items() if seen.settled}

    def tasks(self) -> set[str]:
        """Every id that has a task file."""
        return set().union(*(folder.tasks for folder in self.folders.values()))

    def results(self) -> set[str]:
        """Every id that has a result's name."""
        return set().union(*(folder.results for folder in self.folders.values()))

    def unusable(self) -> dict[str, str]:
        """Names that can never be tasks, each with the reason."""
        every = (folder.unusable for folder in self.folders.values())
        return {_legible(name): why for each in every for name, why in each.items()}


def _legible(name: str) -> str:
    """A name as text; what is no UTF-8 in it is replaced."""
    return os.fsencode(name).decode(errors="replace")


def _passed_over(name: str, why: str) -> _Seen:
    """A folder with nothing in it but the reason."""
    empty = Folder([], [], (), {name: why})
    return _Seen(empty, 0, settled=False)


def _read_folder(path: str, prefix: str) -> Folder:
    tasks, results, folders, slips = [], [], [], []
    with os.scandir(path) as entries:
        for entry in entries:
            name = entry.name
            if name[0] == ".":
                continue
            if (stem := name.removesuffix(RESULT)) != name:
                results.append(prefix + stem)
            elif (stem := name.removesuffix(TASK)) != name:
                tasks.append(prefix + stem)
            elif entry.is_dir(follow_symlinks=False):
                folders.append(f"{prefix}{name}/")
            elif name.lower().rstrip(". ").endswith(_SLIPS):
                slips.append(prefix + name)  # dropped as a task, and would never run
    unusable = _faults(tasks) | dict.fromkeys(slips, _NOT_JSON)
    usable = [i for i in tasks if f"{i}{TASK}" not in unusable] if unusable else tasks
    return Folder(usable, results, tuple(folders), unusable)


def _faults(ids: list[str]) -> dict[str, str]:
    """The files of ids that can never be tasks, each with the reason."""
    # Nearly always all of a folder are plain: that is asked of a million at once.
    every = "".join(ids)
    longest = max(map(len, ids), default=0)
    if every.isascii() and every.isprintable() and longest < _PLAIN:
        return {}
    return {f"{i}{TASK}": fault for i in ids if (fault := id_fault(i))}


def holds_more(folder: str, most: int) -> bool:
    """Whether so many names and more lie in a folder and those below; counts no further."""
    left, folders = most, [folder]
    while folders and left >= 0:
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            found = list(islice(entries, left + 1))
            left -= len(found)
            folders += [e.path for e in found if e.is_dir(follow_symlinks=False)]
    return left < 0
