"""`farm archive`: pack finished tasks and their results into `archive/`."""

import time
from collections.abc import Iterable

import click

from farm import archive, disk, pair, restore, shelf
from farm.claim import Holder
from farm.cli.common import (
    JSON_OPTION,
    PROJECT_OPTION,
    Place,
    Seconds,
    example,
    insist,
    open_project,
    refuse_archived,
    selects,
)
from farm.compact import compact
from farm.listing import Listing
from farm.pair import Moved
from farm.project import Project, is_usable
from farm.results import Results
from farm.selection import Choice, choose
from farm.words import counted, plain


@click.command(
    short_help="Pack finished tasks and their results into archive/.",
    epilog=example(
        "farm archive --older-than 7d",
        "farm archive 'tiles/*' --status succeeded",
        "farm archive '**'                 # everything that has ended",
    ),
)
@PROJECT_OPTION
@selects
@click.option(
    "--older-than",
    type=Seconds(),
    metavar="T",
    help="Only what ended so long ago, as 12h or 7d.",
)
@JSON_OPTION
@click.pass_obj
def command(
    place: Place,
    project: str | None,
    choice: Choice,
    older_than: float | None,
    *,
    as_json: bool,
) -> int:
    """Pack finished tasks and their results into a file in archive/.

    They leave tasks/, and farm restore brings them back byte by byte. What an
    unfinished task needs stays. Returns when all is on the disk; prints the ids that
    were moved. Exit code 1 if what you named by its id, or a file, stays in tasks/.
    """
    if older_than is None:
        insist(choice, "farm archive '**' for all that has ended, or --older-than 7d")
    there, holder = open_project(place.find(project)), Holder.passing()
    with pair.alone(there):
        before, faults = archive.finish(there, holder)
        faults += restore.finish(there, holder)
        ended = _Ended(there)
        ids = ended.chosen(choice, before, older_than)
        stays = ended.staying(choice, ids)
        ids = [i for i in ids if i not in stays]
        moved = archive.archive(there, holder, ids, time.time()) if ids else Moved()
        shelf.placed(there, writes=True)
        shelf.forget_removed(there)
        compact(there, at_rest=True)  # of what is archived the journal tells no more
    moved.ids = before + moved.ids
    troubled = bool(faults or moved.left or stays.keys() & set(choice.patterns))
    moved.left |= stays
    _report(there, moved, as_json=as_json)
    for fault in faults:
        click.echo(plain(fault), err=True)
    return 1 if troubled else 0


class _Ended:
    """What has ended in a project, at one moment."""

    def __init__(self, project: Project) -> None:
        listing = Listing(project)
        listing.refresh()
        self._project = project
        self._tasks = listing.tasks()
        self._results = Results(project, writes=False)
        usable = {i for i in listing.results() if is_usable(i)}
        self._ids = self._results.refresh(usable)

    def chosen(
        self, choice: Choice, moved: Iterable[str], older_than: float | None
    ) -> list[str]:
        """The ids that are meant; those that were `moved` just now may be named, too.

        `older_than` is in seconds.
        """
        known = self._tasks.union(self._ids, moved)
        refuse_archived(self._project, choice, known)
        ids = [i for i in choose(choice, known, self._word) if i in self._ids]
        if older_than is None:
            return ids
        before = time.time() - older_than
        return [i for i in ids if (end := self._results.known(i)) and end.at < before]

    def staying(self, choice: Choice, ids: list[str]) -> dict[str, str]:
        """Those of these ids that may not go, and those named that have not ended."""
        unfinished = self._tasks - self._ids
        stays = {i: _NOT_ENDED for i in choice.patterns if i in unfinished}
        needed = archive.needed(self._project, self._tasks, self._ids) if ids else set()
        return stays | {i: _NEEDED for i in ids if i in needed}

    def _word(self, task_id: str) -> str:
        status = self._results.status(task_id) if task_id in self._ids else None
        return status or ""  # no word that anybody can ask for


_NOT_ENDED = "it has not ended"
_NEEDED = "an unfinished task needs it"


def _report(project: Project, moved: Moved, *, as_json: bool) -> None:
    file = project.relative(moved.file) if moved.file else None
    if as_json:
        facts = {"archived": moved.ids, "left": moved.left, "file": file}
        click.echo(disk.encode(facts), nl=False)
    for task_id in moved.ids if not as_json else ():
        click.echo(plain(task_id))
    lines = [f"{i} stays: {why}" for i, why in moved.left.items() if why != _NEEDED]
    if needed := list(moved.left.values()).count(_NEEDED):
        tasks = counted(needed, "task")
        lines.append(f"{tasks} left where they are, because unfinished tasks need them")
    if moved.ids:
        packed = f"archived {counted(len(moved.ids), 'task')}"
        lines.append(f"{packed} in {file}" if file else packed)
    elif not moved.left:
        lines.append("nothing to archive: none of these has ended")
    for line in lines:
        click.echo(plain(line), err=True)
