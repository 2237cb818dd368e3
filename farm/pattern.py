"""Globs over task ids: `*` and `?` stop at `/`, `**` does not, `[a-z]` as usual.

Whatever a glob says, to match it costs no more than its length times that of the id. A
regular expression that goes back to try another way costs the id's length to the power of
the number of stars, and who writes a task file chooses that number. So a star takes the
first place where what follows it fits, and never goes back (`(?>...)`): all that comes
later can be reached from there as well. Where that is not so (`**` in the middle of a
name, among other stars) `_Ways` goes through all ways at once.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

_STAR, _DEEP, _FOLDERS = "*", "**", "**/"
_GAPS = {_FOLDERS: "(?:[^/]*+/)*?", _DEEP: ".*", _STAR: "[^/]*"}  # the longest first
_NO_SLASH = "[^/]"
_PLAIN = re.compile(r"[^*?\[]*")
#: What a gap is that follows another one.
_BOTH = {
    (_STAR, _STAR): _STAR,
    (_STAR, _DEEP): _DEEP,
    (_DEEP, _STAR): _DEEP,
    (_DEEP, _DEEP): _DEEP,
    (_DEEP, _FOLDERS): _DEEP,
    (_FOLDERS, _STAR): _DEEP,
    (_FOLDERS, _DEEP): _DEEP,
    (_FOLDERS, _FOLDERS): _FOLDERS,
}
_SPECIAL = re.compile(r"[*?[]")
_ESCAPED = re.compile(r"\[([*?[])\]")


def is_glob(text: str) -> bool:
    """Whether `text` can match more ids than itself."""
    return any(letter in text for letter in "*?[")


def literal(task_id: str) -> str:
    """The glob that means this id and no other: `t[a]` is `t[[]a]`."""
    return _SPECIAL.sub(r"[\g<0>]", task_id)


def unescaped(glob: str) -> str:
    """The id of which a glob is the `literal`; any other glob as it is."""
    task_id = _ESCAPED.sub(r"\1", glob)
    return task_id if literal(task_id) == glob else glob


@lru_cache(maxsize=1024)
def compiled(glob: str) -> Callable[[str], object]:
    """A function that says whether a glob means an id.

    `a/**/b` also matches `a/b`, as in a shell with globstar.
    """
    parts = _parts(glob)
    if _is_simple(parts):
        return re.compile(_expression(parts), re.DOTALL).fullmatch
    return _Ways(parts).lead_to


def matches(glob: str, task_id: str) -> bool:
    """Whether a glob, or a plain id, means this task."""
    return bool(compiled(glob)(task_id))


def beginning(glob: str) -> str:
    """The letters with which every id begins that a glob means."""
    return _PLAIN.match(glob)[0]  # type: ignore[index] # it matches any text


class Globs:
    """Globs by how they begin: which of them mean an id is asked of a few only."""

    def __init__(self) -> None:
        self._by_beginning: dict[str, set[str]] = {}

    def add(self, glob: str) -> None:
        """One more; one that is there already changes nothing."""
        self._by_beginning.setdefault(beginning(glob), set()).add(glob)

    def that_mean(self, task_id: str) -> list[str]:
        """Those that mean this id."""
        sizes = range(len(task_id) + 1) if self._by_beginning else ()
        near = (self._by_beginning.get(task_id[:size], ()) for size in sizes)
        return [glob for some in near for glob in some if matches(glob, task_id)]


# -- reading: a part is a gap, one letter, or a regular expression for one letter --------


def _parts(glob: str) -> list[str]:
    """The parts of a glob; no two gaps follow each other."""
    parts: list[str] = []
    for part in _read(glob):
        one = part
        while parts and (parts[-1], one) in _BOTH:
            one = _BOTH[parts.pop(), one]
        parts.append(one)
    return parts


def _read(glob: str) -> Iterator[str]:
    at, last_bracket = 0, glob.rfind("]")
    while at < len(glob):
        part, size = glob[at], 1
        if part == "*":
            part = next(gap for gap in _GAPS if glob.startswith(gap, at))
            size = len(part)
        elif part == "?":
            part = _NO_SLASH
        elif part == "[" and at < last_bracket:  # else nothing closes it
            part, size = _one_of(glob, at)
        at += size
        yield part


def _one_of(glob: str, at: int) -> tuple[str, int]:
    """What the `[a-z]` that begins here means, and how long it is."""
    negated = glob.startswith("!", at + 1)
    first = at + 1 + negated
    end = glob.find("]", first + 1)  # one that comes first is a letter of it
    if end < 0:
        return "[", 1
    inside = "".join(_ranges(glob[first:end]))
    size = end + 1 - at
    if negated:
        return f"[^/{inside}]", size
    return f"(?!/)[{inside}]" if inside else "(?!)", size


def _ranges(inside: str) -> Iterator[str]:
    at = 0
    while at < len(inside):
        low, high = inside[at], ""
        if inside.startswith("-", at + 1):
            high = inside[at + 2 : at + 3]
        at += 3 if high else 1
        if not high or low <= high:  # no letter lies from z to a
            yield f"{_escaped(low)}-{_escaped(high)}" if high else _escaped(low)


def _escaped(letter: str) -> str:
    return f"\\U{ord(letter):08x}"


# -- as a regular expression ---------------------------------------------------------


def _is_simple(parts: list[str]) -> bool:
    """Whether each gap may take the first place where what follows it fits.

    A star stays in one name and whole folders are skipped one by one, so from there the
    next gap reaches all that it can reach from a later place. Behind `**` that is so for
    what has no gap itself.
    """
    gaps = [part for part in parts if part in _GAPS]
    folders = [at for at, part in enumerate(parts) if part == _FOLDERS]
    if any(at > 0 and parts[at - 1] != "/" for at in folders):
        return False  # in the middle of a name
    if _DEEP not in gaps:
        return True
    ends_there = parts[-1] == _DEEP or not folders
    return gaps.index(_DEEP) == len(gaps) - 1 and ends_there


def _expression(parts: list[str]) -> str:
    """Each gap together with what follows it; only the last one may go back."""
    *blocks, last = _split(parts, _FOLDERS)
    skipped = _GAPS[_FOLDERS] if blocks else ""
    between = f")(?>{skipped}"
    before = f"(?>{between.join(map(_first_fit, blocks))})" if blocks else ""
    return f"{before}{skipped}{_last_fit(last)}"


def _first_fit(block: list[str]) -> str:
    first, *others = _split(block, _STAR)
    fits = (f"(?>{_GAPS[_STAR]}?{_letters(run)})" for run in others)
    return "".join((_letters(first), *fits))


def _last_fit(block: list[str]) -> str:
    """What is to come to the very end."""
    gaps = [at for at, part in enumerate(block) if part in _GAPS]
    if not gaps:
        return _letters(block)
    last = gaps[-1]
    rest = _letters(block[last + 1 :])
    return f"{_first_fit(block[:last])}{_GAPS[block[last]]}{rest}"


def _letters(run: Iterable[str]) -> str:
    return "".join(re.escape(part) if len(part) == 1 else part for part in run)


def _split(parts: Iterable[str], gap: str) -> list[list[str]]:
    """The parts between these gaps."""
    found: list[list[str]] = [[]]
    for part in parts:
        if part == gap:
            found.append([])
        else:
            found[-1].append(part)
    return found


# -- all ways at once ----------------------------------------------------------------


class _Ways:
    """A glob as a row of places, and of each id which of them it can have led to.

    A set of places is a number with a bit for each, so a letter moves all of them on in
    a few steps, however many there are.
    """

    def __init__(self, parts: list[str]) -> None:
        step: list[int] = []  # places, by what is possible there
        skip: list[int] = []
        within: list[int] = []
        through: list[int] = []
        one_of: dict[str, list[int]] = {}  # places that this part leads on from
        place = 0
        for part in parts:
            if part == _FOLDERS:  # a place to pass by, and one that a `/` ends
                step.append(place)
                skip.append(place)
                place += 1
                through.append(place)
                one_of.setdefault("/", []).append(place)
            elif part in _GAPS:
                step.append(place)
                (through if part == _DEEP else within).append(place)
            else:
                one_of.setdefault(part, []).append(place)
            place += 1
        self._size, self._end = place + 1, 1 << place
        self._step, self._skip = self._set(step), self._set(skip)
        self._through = self._set(through)
        self._loops = self._through | self._set(within)
        self._one_of = {part: self._set(places) for part, places in one_of.items()}
        self._known: dict[str, int] = {}

    def _set(self, places: Iterable[int]) -> int:
        bits = bytearray(self._size // 8 + 1)
        for place in places:
            bits[place // 8] |= 1 << place % 8
        return int.from_bytes(bits, "little")

    def lead_to(self, task_id: str) -> bool:
        """Whether one of the ways leads from the glob's beginning to its end."""
        here = self._onward(1)
        for letter in task_id:
            stays = here & (self._through if letter == "/" else self._loops)
            here = self._onward((here & self._takes(letter)) << 1 | stays)
            if not here:
                return False
        return bool(here & self._end)

    def _onward(self, here: int) -> int:
        """Also the places behind gaps that stand for nothing."""
        return here | (here & self._step) << 1 | (here & self._skip) << 2

    def _takes(self, letter: str) -> int:
        """The places that this letter leads on from."""
        if letter not in self._known:
            found = self._one_of.get(letter, 0)
            for part, places in self._one_of.items():
                if len(part) > 1 and re.fullmatch(part, letter, re.DOTALL):
                    found |= places
            self._known[letter] = found
        return self._known[letter]
