"""What tasks were skipped for: not the need that was skipped itself, but what began it.

    find = Causes(project, ids, word)
    find.of("join")          Cause("sleepy", "cancelled")

It follows what task files say now, as `farm retry` does: who runs the cause again runs
all of them again.
"""

import shlex
from collections.abc import Callable, Iterable, Set

import msgspec

from farm.look import read_look
from farm.needs import Needs
from farm.project import Project
from farm.states import State, Status
from farm.words import counted, plain

_FINE = frozenset((State.READY, State.RUNNING, State.WAITING, Status.SUCCEEDED))
MOST_FOLLOWED = 1_000  # tasks, on the way to one cause


class Cause(msgspec.Struct, frozen=True):
    """A task that must run again, and how it ended."""

    id: str
    status: str  #: "skipped" if nothing that it needs stands in its way any more
    is_there: bool = True  #: its task file is

    def words(self) -> str:
        """Why what needs it was skipped."""
        if self.status == Status.SKIPPED:
            return "for a need that is in order by now"
        was = "was " if self.status in (Status.CANCELLED, Status.LOST) else ""
        shown = "is invalid" if self.status == Status.INVALID else None
        ended = shown or f"{was}{self.status.replace('_', ' ')}"
        return f"because {plain(self.id)} {ended}"

    def remedy(self, skipped: str) -> str:
        """What lets it run again, and with it all that was skipped because of it."""
        if self.is_there:
            return f"farm retry {shlex.quote(plain(self.id))}"
        again = f"drop {plain(self.id)} again (its task file is gone)"
        return f"{again}, then farm retry {shlex.quote(plain(skipped))}"


class Causes:
    """See the module's docstring; `word` says where one of `ids` is, or how it ended."""

    def __init__(
        self, project: Project, ids: Set[str], word: Callable[[str], str]
    ) -> None:
        self._project, self._ids, self._word = project, ids, word
        self._needs = Needs(ids, set(), lambda _: None)
        self._known: dict[str, Cause] = {}

    def of(self, task_id: str) -> Cause:
        """What a task that was skipped was skipped for."""
        path: list[str] = []
        at = task_id
        while at not in self._known:
            path.append(at)
            bad = self._broken(at)
            following = next((i for i in bad if self._word(i) == Status.SKIPPED), None)
            ended = [i for i in bad if self._word(i) != Status.SKIPPED]
            is_end = not following or following in path or len(path) > MOST_FOLLOWED
            if ended or is_end:
                self._known[at] = self._cause(ended[0] if ended else at)
            else:
                at = following or at
        for passed in path:
            self._known[passed] = self._known[at]
        return self._known[task_id]

    def groups(self, skipped: Iterable[str]) -> list[tuple[Cause, list[str]]]:
        """These tasks by their causes, both in order."""
        found: dict[str, tuple[Cause, list[str]]] = {}
        for task_id in sorted(skipped):
            cause = self.of(task_id)
            found.setdefault(cause.id, (cause, []))[1].append(task_id)
        return list(found.values())

    def _cause(self, task_id: str) -> Cause:
        is_there = self._project.task_signature(task_id) is not None
        return Cause(task_id, str(self._word(task_id)), is_there)

    def _broken(self, task_id: str) -> list[str]:
        """Those that it needs which ended otherwise than well."""
        look = read_look(self._project, task_id)
        needs = look.task.needs if look and look.task else ()
        members = {i for need in needs for i in self._needs.expand(need)} - {task_id}
        return sorted(i for i in members & self._ids if self._word(i) not in _FINE)


def sentence(cause: Cause, ids: list[str]) -> str:
    """`join was skipped because sleepy was cancelled: farm retry sleepy runs both again`."""
    first = plain(ids[0])
    who = f"{first} was" if len(ids) == 1 else f"{first} and {len(ids) - 1} more were"
    many = "both" if len(ids) == 1 else f"all {counted(len(ids) + 1, 'task')}"
    if cause.id in ids:
        many = "it" if len(ids) == 1 else f"all {len(ids)}"
    return f"{who} skipped {cause.words()}: {cause.remedy(ids[0])} runs {many} again"
