"""What a task needs, and whether it has it: pure questions to one listing.

A need is an id or a glob over ids; an id that is there is never taken for a glob,
brackets or not. A glob holds when at least one task matches
and all that match have succeeded; it never means the asking task itself. A need
that ended otherwise can never hold, so the asker is skipped; an `invalid` one may
still be corrected, so the asker waits.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from itertools import chain

import msgspec

from farm.errors import TaskFileError
from farm.pattern import beginning, compiled, is_glob
from farm.states import Status

_MANY_GLOBS = 10  # beyond so many, ids are put in order to find those that begin alike
MOST_IN_CIRCLE = 20  # tasks; a larger circle only waits, see `farm.standing`
MOST_NAMED = 3  # open needs named in a sentence; the rest is counted


class Met(msgspec.Struct, frozen=True):
    """Everything that was needed has succeeded."""


class Missing(msgspec.Struct, frozen=True):
    """A task, or a glob without any, that is needed and has not succeeded yet."""

    need: str
    note: str = ""  #: why, if that is odd

    def __str__(self) -> str:
        return f"{self.need} ({self.note})" if self.note else self.need


class Unmet(msgspec.Struct, frozen=True):
    """Something is still missing."""

    missing: tuple[Missing, ...]

    @property
    def open(self) -> tuple[str, ...]:
        """What is missing, each as people read it."""
        return tuple(map(str, self.missing))

    @property
    def watched(self) -> str:
        """One that must end before it is worth asking again.

        It is one from the middle: in whichever order they end, half of them are over
        when this one is, and who needs 10,000 asks some 14 times.
        """
        return self.missing[len(self.missing) // 2].need

    def sentence(self) -> str:
        """`needs build, test and 4 more`."""
        named = map(str, self.missing[:MOST_NAMED])
        more = len(self.missing) - MOST_NAMED
        return "needs " + ", ".join(named) + (f" and {more} more" if more > 0 else "")


class Broken(msgspec.Struct, frozen=True):
    """A need ended and did not succeed."""

    need: str
    status: Status


class Needs:
    """One listing's answers; make a new one when names changed.

    `ask_again()` when only ends changed: what globs mean is as it was.
    `status_of` reads how a task with a result ended; None if that is no result.
    """

    def __init__(
        self,
        tasks: Set[str],
        results: Set[str],
        status_of: Callable[[str], Status | None],
    ) -> None:
        self._tasks = tasks
        self._results = results
        self._status_of = status_of
        self._expanded: dict[str, frozenset[str]] = {}
        self._answers: dict[str, Met | Unmet | Broken] = {}
        self._in_order: list[str] = []  # all ids, once so many globs were asked about

    def ask_again(self) -> None:
        """Read anew how tasks ended."""
        self._answers = {}

    def is_glob(self, need: str) -> bool:
        """Whether a need is a glob, and not the id of a task or a result."""
        return is_glob(need) and need not in self._tasks and need not in self._results

    def expand(self, need: str) -> frozenset[str]:
        """The ids that a need means now."""
        if not self.is_glob(need):
            return frozenset((need,))
        if need not in self._expanded:
            whole = compiled(need)
            self._expanded[need] = frozenset(i for i in self._near(need) if whole(i))
        return self._expanded[need]

    def _near(self, glob: str) -> Iterable[str]:
        """The ids that begin as the glob does: each of many tasks may have its own."""
        if len(self._expanded) < _MANY_GLOBS:  # to put all in order costs more
            return chain(self._tasks, self._results)
        self._in_order = self._in_order or sorted(self._tasks | self._results)
        start = beginning(glob)
        low = bisect_left(self._in_order, start)
        size = len(start)
        high = bisect_right(self._in_order, start, low, key=lambda i: i[:size])
        return self._in_order[low:high]

    def verdict(self, task_id: str, needs: Sequence[str]) -> Met | Unmet | Broken:
        """Whether a task has what it needs."""
        missing: list[Missing] = []
        for need in needs:
            answer = self._answer(task_id, need)
            if isinstance(answer, Broken):
                return answer
            if isinstance(answer, Unmet):
                missing.extend(answer.missing)
        return Unmet(tuple(missing)) if missing else Met()

    def _answer(self, task_id: str, need: str) -> Met | Unmet | Broken:
        members = self.expand(need)
        if task_id in members and self.is_glob(need):
            return self._judge(need, members - {task_id})
        if need not in self._answers:  # 10,000 tasks may need the same
            self._answers[need] = self._judge(need, members)
        return self._answers[need]

    def _judge(self, need: str, members: frozenset[str]) -> Met | Unmet | Broken:
        if not members:
            return Unmet((Missing(need, "nothing matches yet"),))
        missing = []
        for member in sorted(members):
            status = self._status_of(member) if member in self._results else None
            if status is None:
                missing.append(self._absence(member))
            elif status is Status.INVALID:
                missing.append(Missing(member, "its file is invalid"))
            elif status is not Status.SUCCEEDED:
                return Broken(member, status)
        return Unmet(tuple(missing)) if missing else Met()

    def _absence(self, member: str) -> Missing:
        known = member in self._tasks or member in self._results
        return Missing(member, "" if known else "not in tasks/")


def circles(wanted: Mapping[str, Sequence[str]], needs: Needs) -> list[list[str]]:
    """Tasks that need each other, over ids and globs alike; `wanted` is id -> needs.

    Each glob is a node of its own (its name begins with NUL), so that edges do
    not multiply: 10,000 tasks may need the same 10,000. A glob never means the
    asking task, so a task and its own glob alone are no circle.
    """
    edges: dict[str, list[str]] = {}
    for task_id, every in wanted.items():
        for need in every:
            node = f"\0{need}" if needs.is_glob(need) else need
            edges.setdefault(task_id, []).append(node)
            if node != need and node not in edges:
                edges[node] = sorted(needs.expand(need))
    found = []
    for circle in find_cycles(edges):
        members = [i for i in circle if i in wanted]
        if len(members) > 1 or members[0] in edges[members[0]]:
            found.append(members)
    return found


def circle_fault(members: Sequence[str]) -> TaskFileError:
    """What is wrong with tasks that need each other; of many some are named."""
    named = ", ".join(members[:MOST_IN_CIRCLE])
    more = len(members) - MOST_IN_CIRCLE
    rest = f" and {more} more" if more > 0 else ""
    return TaskFileError(
        f"it needs itself, in a circle of {named}{rest}: take one of these needs away"
    )


def find_cycles(edges: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """The circles among nodes: each a sorted list of nodes that reach each other.

    A node alone is a circle if it has an edge to itself.
    """
    search = _Components(edges)
    for node in edges:
        search.visit(node)
    return search.found


class _Components:
    """Tarjan's strongly connected components (1972).

    Without recursion: a chain of needs may be 10,000 long.
    """

    def __init__(self, edges: Mapping[str, Sequence[str]]) -> None:
        self._edges = edges
        self._order: dict[str, int] = {}
        self._low: dict[str, int] = {}
        self._stack: list[str] = []
        self._on_stack: set[str] = set()
        self.found: list[list[str]] = []

    def visit(self, start: str) -> None:
        """Search everything that can be reached from `start`."""
        path = [] if start in self._order else [self._enter(start)]
        while path:
            node, following = path[-1]
            other = next(following, None)
            if other is None:
                path.pop()
                self._leave(node)
                if path:
                    self._lower(path[-1][0], self._low[node])
            elif other not in self._order:
                path.append(self._enter(other))
            elif other in self._on_stack:
                self._lower(node, self._order[other])

    def _enter(self, node: str) -> tuple[str, Iterator[str]]:
        self._order[node] = self._low[node] = len(self._order)
        self._stack.append(node)
        self._on_stack.add(node)
        return node, iter(self._edges.get(node, ()))

    def _lower(self, node: str, order: int) -> None:
        self._low[node] = min(self._low[node], order)

    def _leave(self, node: str) -> None:
        if self._low[node] != self._order[node]:
            return  # it belongs to a circle that began before it
        members = []
        while node in self._on_stack:
            members.append(self._stack.pop())
            self._on_stack.discard(members[-1])
        if len(members) > 1 or node in self._edges.get(node, ()):
            self.found.append(sorted(members))
