"""Globs over task ids: `*` and `?` stop at `/`, `**` does not, `[a-z]` as usual."""

import re
from functools import lru_cache

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
    if part.startswith("[") and part.endswith("]"):
        inside = part[1:-1].replace("\\", r"\\").replace("[", r"\[")
        return f"(?!/)[^{inside[1:]}]" if inside[0] == "!" else f"(?!/)[{inside}]"
    return re.escape(part)


def matches(glob: str, task_id: str) -> bool:
    """Whether a glob, or a plain id, means this task."""
    return compiled(glob).fullmatch(task_id) is not None
