"""Globs over task ids: `*` and `?` stop at `/`, `**` does not, `[a-z]` as usual."""

import fnmatch
import re
from functools import lru_cache

_WRAPPED = re.compile(r"\(\?s:(.*)\)\\[Zz]", re.DOTALL)  # as fnmatch returns it
_PARTS = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|[^*?\[]+|\[")


def is_glob(text: str) -> bool:
    """Whether `text` can match more ids than itself."""
    return any(letter in text for letter in "*?[")


@lru_cache(maxsize=1024)
def compiled(glob: str) -> re.Pattern[str]:
    """The glob as a regular expression for `fullmatch`.

    `a/**/b` also matches `a/b`, as in a shell with globstar.
    """
    return re.compile(
        "".join(_translate(part) for part in _PARTS.findall(glob)), re.DOTALL
    )


def _translate(part: str) -> str:
    fixed = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    if part in fixed:
        return fixed[part]
    if part.startswith("["):
        return f"(?!/){_one_letter(part)}"
    return re.escape(part)


def _one_letter(part: str) -> str:
    """`[a-z]` as a regular expression; the standard library knows the odd ones."""
    found = _WRAPPED.fullmatch(fnmatch.translate(part))
    return found[1] if found else re.escape(part)


def matches(glob: str, task_id: str) -> bool:
    """Whether a glob, or a plain id, means this task."""
    return compiled(glob).fullmatch(task_id) is not None
