"""What a key of a task file may hold, beyond what a type can say.

`WRITTEN`: keys that people write otherwise than a `Task` keeps them (durations, a
number of retries, a time), each with the function that reads it and the forms
that the JSON Schema shows. `RULES`: what only words can say. All raise
`RefusedError`; none looks at more than its own key.
"""

import posixpath
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from farm import duration, size
from farm.keys import check_provider
from farm.locate import shown
from farm.pattern import is_glob
from farm.refusal import RefusedError

MOST_GLOBS = 1_000  #: among the needs of one task
MAX_DELAY = 60.0  # seconds between two attempts, where a task says nothing

# -- keys that people write otherwise than `Task` keeps them ----------------------

_Forms = tuple[dict[str, Any], ...]


class Written(NamedTuple):
    """How a key is read, and the JSON Schema of each form it may have in a file."""

    read: Callable[[Any], object]
    forms: _Forms


def _read_duration(value: object, *path: str) -> float:
    try:
        return duration.seconds(value)
    except ValueError as error:
        name = ".".join(path)
        raise RefusedError(path, f"`{name}` {error}, not {shown(value)}") from None


def _read_timeout(value: object) -> float:
    negative = isinstance(value, int | float) and value < 0
    found = 0.0 if negative else _read_duration(value, "timeout")
    if found == 0.0:
        message = "must be above 0 seconds; leave it out for no limit"
        raise RefusedError(("timeout",), f"`timeout` {message}")
    return found


def _read_idle_timeout(value: object) -> float:
    negative = isinstance(value, int | float) and value < 0
    if negative:
        message = "`idle_timeout` must be at least 0 seconds; 0 means no limit"
        raise RefusedError(("idle_timeout",), message)
    return _read_duration(value, "idle_timeout")


def _read_max_output(value: object) -> int:
    try:
        return size.number(value)
    except ValueError as error:
        message = f"`max_output` {error}, not {shown(value)}"
        raise RefusedError(("max_output",), message) from None


def _read_retries(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return {"max": value}
    if not isinstance(value, dict):
        example = '{"max": 3, "base_delay": "5s"}'
        message = (
            "`retries` must be a whole number of at least 0 or an object such as"
            f" {example}, not {shown(value)}"
        )
        raise RefusedError(("retries",), message)
    read = {
        key: _read_duration(value[key], "retries", key)
        for key in value
        if key in DELAYS
    }
    base, most = read.get("base_delay", 0.0), read.get("max_delay", MAX_DELAY)
    if base > most:
        message = (
            f"`retries.base_delay` is {base:g} s, above the `retries.max_delay` of"
            f" {most:g} s: lower the one or raise the other"
        )
        raise RefusedError(("retries", "base_delay"), message)
    return value | read


def _read_time(value: object) -> float:
    example = '"2026-11-21T03:00:00Z"'
    try:
        found = msgspec.convert(value, datetime)
    except msgspec.ValidationError:
        message = (
            f"`not_before` must be a date and time with an offset, such as {example},"
            f" not {shown(value)}"
        )
        raise RefusedError(("not_before",), message) from None
    if found.tzinfo is None:
        message = (
            f"`not_before` {value} is another moment in each time zone: end it with"
            f" an offset such as +01:00, or Z for UTC"
        )
        raise RefusedError(("not_before",), message)
    return found.timestamp()


DELAYS = ("base_delay", "max_delay")
DURATION_FORMS: _Forms = (
    {"type": "number", "minimum": 0, "maximum": duration.LONGEST},
    {"type": "string", "pattern": duration.PATTERN},
)
SIZE_FORMS: _Forms = (
    {"type": "integer", "minimum": 0, "maximum": size.UNITS["TiB"]},
    {"type": "string", "pattern": size.PATTERN},
)
WRITTEN = {
    "timeout": Written(
        _read_timeout,
        ({**DURATION_FORMS[0], "exclusiveMinimum": 0}, DURATION_FORMS[1]),
    ),
    "idle_timeout": Written(_read_idle_timeout, DURATION_FORMS),
    "max_output": Written(_read_max_output, SIZE_FORMS),
    "retries": Written(
        _read_retries,
        ({"type": "integer", "minimum": 0}, {"$ref": "#/$defs/Retries"}),
    ),
    "not_before": Written(_read_time, ({"type": "string", "format": "date-time"},)),
}


# -- what only words can say ------------------------------------------------------


def _check_run(run: str | list[str], key: str) -> None:
    if isinstance(run, str):
        _check_text(run, key)
    elif not run or not run[0].strip():
        message = "`run` names no program: let its first string be one"
        raise RefusedError((key, 0), message)
    else:
        for number, word in enumerate(run):
            _check_no_nul(word, key, number)


def _check_call(call: str, key: str) -> None:
    names = call.replace(":", ".").split(".")
    if call.count(":") == 1 and all(map(str.isidentifier, names)):
        return
    before, _, last = call.rpartition(".")
    hint = f", did you mean `{before}:{last}`?" if before and ":" not in call else ""
    message = f"must name a function as `module.sub:function`, not {shown(call)}{hint}"
    raise RefusedError((key,), f"`{key}` {message}")


def _check_text(text: Any, key: str) -> None:
    if isinstance(text, str):
        if not text.strip():
            raise RefusedError((key,), f"`{key}` is empty: fill it or remove it")
        _check_no_nul(text, key)


def _check_path(path: str, key: str) -> None:
    _check_text(path, key)
    if path.startswith("/"):
        message = "is absolute: write the way to it from the project's folder"
    elif posixpath.normpath(path).split("/")[0] == "..":
        message = "leaves the project: name a place inside it"
    else:
        return
    raise RefusedError((key,), f"`{key}` {shown(path)} {message}")


def _check_provider(name: str, key: str) -> None:
    if fault := check_provider(name):
        raise RefusedError((key,), f"`{key}` {fault}")


def _check_env(env: dict[str, str], key: str) -> None:
    for name, value in env.items():
        if fault := _variable_fault(name):
            raise RefusedError((key, name), f"`{key}` {fault}", at_key=True)
        _check_no_nul(value, key, name)


def _check_env_from(names: list[str], key: str) -> None:
    for number, name in enumerate(names):
        if fault := _variable_fault(name):
            raise RefusedError((key, number), f"`{key}` {fault}")


def _variable_fault(name: str) -> str | None:
    if not name:
        return "holds a variable without a name: name it or remove it"
    if "=" in name or "\0" in name:
        return f"holds {shown(name)}, but a variable's name has no `=` and no NUL"
    if name.startswith("FARM_"):
        return f"holds {shown(name)}, but farm itself sets what begins with FARM_: rename it"
    return None


def _check_needs(needs: list[str], key: str) -> None:
    _check_globs(needs, key)
    for number, need in enumerate(needs):
        if need.endswith(".json"):
            message = f"takes ids, without `.json`: write {shown(need[:-5])}"
        elif not _NO_NAMES.isdisjoint(need.split("/")):
            message = (
                "takes ids, which are paths below tasks/ without empty parts, `.` and"
                f" `..`, not {shown(need)}"
            )
        else:
            continue
        raise RefusedError((key, number), f"`{key}` {message}")


def _check_globs(needs: list[str], key: str) -> None:
    """Each glob is asked of every task there is; a need that is an id costs nothing."""
    if len(needs) <= MOST_GLOBS:
        return
    globs = [number for number, need in enumerate(needs) if is_glob(need)]
    if len(globs) > MOST_GLOBS:
        message = (
            f"`{key}` holds more than {MOST_GLOBS} globs: name ids, or wider globs"
        )
        raise RefusedError((key, globs[MOST_GLOBS]), message)


def _check_no_nul(text: str, key: str, inner: str | int | None = None) -> None:
    if "\0" in text:
        path = (key,) if inner is None else (key, inner)
        where = f"`{key}` {shown(inner)}" if isinstance(inner, str) else f"`{key}`"
        message = "holds a NUL character, which no program can be given: remove it"
        raise RefusedError(path, f"{where} {message}")


_NO_NAMES = frozenset(("", ".", ".."))
RULES: dict[str, Callable[[Any, str], None]] = {
    "run": _check_run,
    "call": _check_call,
    "prompt": _check_text,
    "prompt_file": _check_path,
    "credentials": _check_provider,
    "cwd": _check_path,
    "env": _check_env,
    "env_from": _check_env_from,
    "needs": _check_needs,
}
