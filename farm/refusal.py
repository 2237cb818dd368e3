"""Why a task file is refused: words first, then the place in its text.

Whatever refuses raises `RefusedError` with the *path* of the value or key at
fault; `fault_of` turns that into the `TaskFileError` that people see, with line
and column. `explained` puts into our words what msgspec's types refuse.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from farm import locate
from farm.errors import TaskFileError
from farm.locate import did_you_mean, shown

Path = tuple[str | int, ...]  # to a value, as `farm.locate` takes it
Keys = Mapping[Path, Sequence[str]]  # the keys that an object at a path may have


class RefusedError(Exception):
    """Why a file is refused, before anybody looked for the place in its text.

    The place is that of the value at `path`, or with `at_key` of its key.
    """

    def __init__(
        self,
        path: Path,
        sentence: str,
        *,
        at_key: bool = False,
        place: locate.Place | None = None,
    ) -> None:
        super().__init__(sentence)
        self.path = path
        self.sentence = sentence
        self.at_key = at_key
        self.place = place


def fault_of(raw: bytes, refused: RefusedError) -> TaskFileError:
    """The error for people: the sentence, and where in the text it applies."""
    place = refused.place or _nearest(raw.decode(), refused)
    return TaskFileError(refused.sentence, *place)


def _nearest(text: str, refused: RefusedError) -> locate.Place:
    """The place of what was refused, or of what holds it if it is only implied."""
    find = locate.key_place if refused.at_key else locate.value_place
    for length in range(len(refused.path), -1, -1):
        place = find(text, refused.path[:length])
        if place != locate.NOWHERE:
            return place
    return locate.NOWHERE


_RESULT = {"version", "id", "status"}  # keys of every result, and of no task
_MUST_BE = {
    "run": 'a string for the shell or a list of strings such as ["make", "-j4"]',
    "call": 'a string such as "module:function"',
    "args": "a list",
    "kwargs": "an object of named arguments",
    "agent": "a name or an object",
    "env": "an object of strings",
    "retries.max": "a whole number of at least 0",
    "priority": "a whole number",
    "ok_exit_codes": "a list of exit codes, at least one",
    "each of ok_exit_codes": "a whole number from 0 to 255",
    "needs": "a list of ids or globs",
    "labels": "a list of strings",
    "env_from": "a list of names",
    # of an agent
    "kind": "messages, openai or command",
    "preset": "claude or codex",
    "auth": "bearer or x-api-key",
    "max_tokens": "a whole number of at least 1",
    "temperature": "a number from 0 to 2",
    "output_schema": "an object: a JSON Schema",
    "stream": "true or false",
    "concurrency": "a whole number from 1 to 1000",
    "command": "a list of strings, at least the program",
    "max_turns": "a whole number of at least 1",
    "max_cost_usd": "a number above 0",
}


def explained(
    data: dict[str, Any], error: msgspec.ValidationError, keys: Keys
) -> RefusedError:
    """What msgspec refused, in our words; the value is the one at its path."""
    path = _path_in(str(error))
    value: Any = data
    for step in path:
        value = value[step]
    if isinstance(value, dict) and path in keys:
        return _unknown_key(path, value, keys[path])
    if isinstance(value, dict) and path == ("env",):
        return _no_text_in_env(value)
    name = ".".join(step for step in path if isinstance(step, str))
    inner = isinstance(path[-1], int)
    plain = name.removeprefix("agent.")
    must = _MUST_BE.get(f"each of {name}" if inner else plain, "a string")
    subject = f"each of `{name}`" if inner else f"`{name}`"
    return RefusedError(path, f"{subject} must be {must}, not {shown(value)}")


def _path_in(message: str) -> Path:
    """`("needs", 2)` for msgspec's "... - at `$.needs[2]`"."""
    where = message.partition(" - at `$")[2].partition("[...]")[0]
    steps = re.findall(r"\.([^.\[`]+)|\[([0-9]+)\]", where)
    return tuple(key or int(number) for key, number in steps)


def _unknown_key(
    path: Path, holder: dict[str, object], keys: Sequence[str]
) -> RefusedError:
    if not path and holder.keys() >= _RESULT:  # a sync tool's "conflicted copy", say
        whose = shown(holder["id"])
        message = f"this is a copy of the result of {whose}, and not a task"
        return RefusedError((), f"{message}: move it out of tasks/")
    unknown = next(key for key in holder if key not in keys)
    hint = did_you_mean(unknown, keys) or ": correct it or remove it"
    where = f" in `{path[0]}`" if path else ""
    name = shown(unknown).strip('"')
    message = f"unknown key `{name}`{where}{hint}"
    return RefusedError((*path, unknown), message, at_key=True)


def _no_text_in_env(env: dict[str, object]) -> RefusedError:
    # The value is not shown: it may be a secret.
    name = next(name for name, value in env.items() if not isinstance(value, str))
    message = f"`env` {shown(name)} must be a string: put its value in quotes"
    return RefusedError(("env", name), message)


def not_one_kind(data: dict[str, Any], kinds: Sequence[str]) -> RefusedError:
    """A task with no work, or with two kinds of it."""
    given = [key for key in kinds if data.get(key) is not None]
    if not given:
        names = ", ".join(f"`{key}`" for key in kinds)
        return RefusedError((), f"there is nothing to do: give one of {names}")
    first, second = [key for key in data if key in given][:2]
    message = f"stands beside `{first}`, but a task has one of them: remove one"
    return RefusedError((second,), f"`{second}` {message}", at_key=True)
