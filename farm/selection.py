"""Which tasks a command means: ids, globs, and words for where they are.

`choose` is pure: it is handed the ids that exist and a function that says where each
one is. An id that is not there, or a glob that matches nothing, is an error that says
so, because it is nearly always a slip. Words only narrow: that nothing has failed is
an answer, no error.
"""

from collections.abc import Callable, Collection

import msgspec

from farm.errors import FarmError
from farm.locate import did_you_mean
from farm.pattern import is_glob, matches
from farm.states import State, Status

WORDS = tuple(w.value for w in (*State, *Status) if w is not State.FINAL)

_MOST_COMPARED = 2_000  # ids looked at for "did you mean"; more takes seconds


class UnknownTaskError(FarmError):
    """A command names a task that is not there, or a glob that matches none."""


class Choice(msgspec.Struct, frozen=True):
    """What a command line says about the tasks it means."""

    patterns: tuple[str, ...] = ()  #: ids and globs; none means all
    words: frozenset[str] = frozenset()  #: of `WORDS`; none means any

    @property
    def is_everything(self) -> bool:
        """Whether nothing was said."""
        return not self.patterns and not self.words


def choose(
    choice: Choice, known: Collection[str], word_of: Callable[[str], str]
) -> list[str]:
    """The ids that are meant, sorted; UnknownTaskError for a pattern without any."""
    found = set().union(*(named(p, known) for p in choice.patterns))
    chosen = found if choice.patterns else known
    if choice.words:
        chosen = {i for i in chosen if word_of(i) in choice.words}
    return sorted(chosen)


def named(pattern: str, known: Collection[str]) -> set[str]:
    """The ids that one id or glob means; UnknownTaskError if there is none."""
    if pattern in known or not is_glob(pattern):  # an id may hold brackets or stars
        return {must_be(pattern, known)}
    found = {i for i in known if matches(pattern, i)}
    if not found:
        raise UnknownTaskError(
            f"no task matches {pattern} (`*` stops at `/`, `**` does not)"
        )
    return found


def must_be(task_id: str, known: Collection[str]) -> str:
    """This id; UnknownTaskError, with the nearest one, if it is none that is known."""
    if task_id in known:
        return task_id
    raise UnknownTaskError(f"there is no task {task_id}{_near(task_id, known)}")


def _near(pattern: str, known: Collection[str]) -> str:
    nearest = sorted(known, key=lambda i: abs(len(i) - len(pattern)))
    return did_you_mean(pattern, nearest[:_MOST_COMPARED])
