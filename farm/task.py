"""One task file, parsed and checked: what a file may say, and what it then means.

`parse_task(raw)` returns a `Task` or raises `TaskFileError` with a sentence, a
line and a column. A `Task` is plain values, ready to use, and holds all of this:
exactly one kind of work, no key without the key it belongs to, no path that
leaves the project by its letters (links are the reader's business), no text that
the operating system would refuse. Where a default is null, null may be written.

A key is checked in up to three steps, each in one place below:

1. `_WRITTEN`: keys that people write otherwise than `Task` keeps them (durations,
   a number of retries, a time) are turned into what `Task` keeps;
2. the types of `Task`: everything that a type or a range can say;
3. `ONLY_FOR` and `_RULES`: what only words can say.

`task_schema()` makes the JSON Schema from the first two. A worker parses
thousands of small files in a second: a good file costs one `orjson.loads`, one
`msgspec.convert` and the rules of its own keys. What explains an error (places,
"did you mean") happens only after something was refused.
"""

import posixpath
import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import orjson
from msgspec import Meta

from farm import duration, locate
from farm.errors import TaskFileError
from farm.locate import did_you_mean, shown

Kind = Literal["run", "call", "prompt"]
_Path = tuple[str | int, ...]  # to a value, as `farm.locate` takes it

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LONGEST_NAME = 255  # bytes, on every file system we know

ExitCode = Annotated[int, Meta(ge=0, le=255)]
Delay = Annotated[float, Meta(ge=0)]


class Retries(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often a task may fail and run again, and how long it waits in between."""

    max: Annotated[int, Meta(ge=0, description="Extra attempts after the first.")] = 0
    base_delay: Annotated[
        Delay,
        Meta(description="Longest wait before the first retry; doubles each time."),
    ] = 1.0
    max_delay: Annotated[Delay, Meta(description="No wait is longer than this.")] = 60.0


class Task(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One piece of work: a command, a Python function or a prompt to an agent."""

    run: Annotated[
        str | tuple[str, ...] | None,
        Meta(description="A command: a string for `sh -c`, or a list of words."),
    ] = None
    call: Annotated[
        str | None,
        Meta(description="A Python function, `module.sub:function`, of the project."),
    ] = None
    args: Annotated[
        tuple[Any, ...], Meta(description="Positional arguments of `call`.")
    ] = ()
    kwargs: Annotated[
        dict[str, Any], Meta(description="Named arguments of `call`.")
    ] = {}
    prompt: Annotated[str | None, Meta(description="What an agent is asked to do.")] = (
        None
    )
    prompt_file: Annotated[
        str | None, Meta(description="A file of the project that holds the prompt.")
    ] = None
    agent: Annotated[
        str | dict[str, Any] | None,
        Meta(description="Who answers: an agent's name, or its settings."),
    ] = None
    cwd: Annotated[
        str | None,
        Meta(description="The folder to run in, seen from the project's."),
    ] = None
    env: Annotated[
        dict[str, str], Meta(description="Environment variables to set.")
    ] = {}
    env_from: Annotated[
        tuple[str, ...],
        Meta(description="Variables to take over from the worker, secrets included."),
    ] = ()
    timeout: Annotated[
        float | None,
        Meta(description='Seconds, or "90s" "15m" "1h30m", after which it is ended.'),
    ] = None
    retries: Annotated[
        Retries | None,
        Meta(description="How often it may fail and run again, and how soon."),
    ] = None
    priority: Annotated[int, Meta(description="Higher goes first.")] = 0
    needs: Annotated[
        tuple[str, ...],
        Meta(description="Ids or globs of tasks that must have succeeded before."),
    ] = ()
    not_before: Annotated[
        float | None,
        Meta(description="Earliest start, such as 2026-11-21T03:00:00Z."),
    ] = None  #: POSIX seconds here
    ok_exit_codes: Annotated[
        tuple[ExitCode, ...],
        Meta(min_length=1, description="Exit codes of a command that mean success."),
    ] = (0,)
    labels: Annotated[
        tuple[str, ...], Meta(description="Words to find the task by.")
    ] = ()
    meta: Annotated[
        Any, Meta(description="Anything of your own; farm only keeps it.")
    ] = None
    schema: Annotated[str | None, Meta(description="For editors; farm ignores it.")] = (
        msgspec.field(name="$schema", default=None)
    )

    @property
    def kind(self) -> Kind:
        """Which runner it is for."""
        if self.call is not None:
            return "call"
        return "prompt" if self.run is None else "run"


KINDS = ("run", "call", "prompt", "prompt_file")  #: a task has exactly one of them

#: Keys that only some kinds of task can have.
ONLY_FOR: dict[str, tuple[Kind, ...]] = {
    "args": ("call",),
    "kwargs": ("call",),
    "agent": ("prompt",),
    "ok_exit_codes": ("run", "prompt"),  # a callable fails by raising
}


def parse_task(raw: bytes) -> Task:
    """The task that the bytes of a task file describe.

    Raises TaskFileError, with the place of the key or value at fault.
    """
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise locate.broken_json(raw, error) from None
    try:
        return _checked(raw, data)
    except _RefusedError as refused:
        place = refused.place or _nearest(raw.decode(), refused)
        raise TaskFileError(refused.sentence, *place) from None


def check_id(task_id: str) -> str | None:
    """What is wrong with an id, in words about its file's name; None if nothing."""
    try:
        name = task_id.encode().rpartition(b"/")[2] + b".result.json"
    except UnicodeEncodeError:
        return "its name is not UTF-8: rename it"
    if _CONTROL.search(task_id):
        return f"its name, {shown(task_id)}, holds a control character: rename it"
    if len(name) > _LONGEST_NAME:
        return (
            "its name is too long: its result's name would have"
            f" {len(name)} bytes, and a name may have {_LONGEST_NAME}: rename it"
        )
    return None


def task_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a task file, made from `Task`."""
    _, parts = msgspec.json.schema_components((Task,), ref_template="#/$defs/{name}")
    task, keys = parts.pop("Task"), parts["Retries"]["properties"]
    for key, written in _WRITTEN.items():
        task["properties"][key]["anyOf"] = [*written.forms, {"type": "null"}]
    for key in _DELAYS:
        keys[key] = {
            "description": keys[key]["description"],
            "anyOf": list(_DURATION_FORMS),
            "default": keys[key]["default"],
        }
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **task,
        "title": "A task of farm",
        "oneOf": [{"required": [kind]} for kind in KINDS],
        "$defs": parts,
    }
    plain: dict[str, Any] = orjson.loads(orjson.dumps(schema))  # tuples become lists
    return plain


class _RefusedError(Exception):
    """Why a file is refused, before anybody looked for the place in its text.

    The place is that of the value at `path`, or with `at_key` of its key.
    """

    def __init__(
        self,
        path: _Path,
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


def _nearest(text: str, refused: _RefusedError) -> locate.Place:
    """The place of what was refused, or of what holds it if it is only implied."""
    find = locate.key_place if refused.at_key else locate.value_place
    for length in range(len(refused.path), -1, -1):
        place = find(text, refused.path[:length])
        if place != locate.NOWHERE:
            return place
    return locate.NOWHERE


# -- the way of every file --------------------------------------------------------


def _checked(raw: bytes, data: Any) -> Task:
    if type(data) is not dict:
        example = '{"run": "make"}'
        message = f"a task is an object such as {example}, not {shown(data)}"
        raise _RefusedError((), message)
    if _WIDE in raw.translate(_DIGITS_TO_ZERO):
        _refuse_wide_integer(raw)
    task = _converted(data)
    kind = task.kind
    for key, value in data.items():
        if raw.count(_QUOTED[key]) != 1:
            _refuse_repeated_key(raw)
        if value is not None:
            _check_key(key, value, kind)
    return task


def _converted(data: dict[str, Any]) -> Task:
    for key, value in data.items():
        if key in _WRITTEN and value is not None:
            data[key] = _WRITTEN[key].read(value)
    try:
        task = msgspec.convert(data, Task)
    except msgspec.ValidationError as error:
        raise _explained(data, error) from None
    missing = (task.run, task.call, task.prompt, task.prompt_file).count(None)
    if missing != len(KINDS) - 1:
        raise _not_one_kind(data)
    return task


def _check_key(key: str, value: Any, kind: Kind) -> None:
    if key in ONLY_FOR and kind not in ONLY_FOR[key]:
        kinds = " and ".join(f"`{other}`" for other in ONLY_FOR[key])
        message = (
            f"`{key}` is for {kinds} tasks, and this is a `{kind}` task: remove it"
        )
        raise _RefusedError((key,), message, at_key=True)
    if key in _RULES:
        _RULES[key](value, key)


# `orjson.loads` drops repeated keys and rounds long integers without a word. A
# guess from the bytes is cheap; if it is suspicious, the text decides. Only a
# repeated key that is spelt with escapes the second time goes unseen.

_QUOTED = {key: f'"{key}"'.encode() for key in Task.__struct_encode_fields__}
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
_WIDE = b"0" * 19  # an integer of more than 64 bits has at least so many digits


def _refuse_repeated_key(raw: bytes) -> None:
    if found := locate.repeated_key(raw.decode()):
        message = f"`{found[0]}` stands here for the second time: keep one of them"
        raise _RefusedError((), message, place=found[1])


def _refuse_wide_integer(raw: bytes) -> None:
    if place := locate.wide_integer(raw.decode()):
        message = "this number needs more than 64 bits: write it as a string"
        raise _RefusedError((), message, place=place)


# -- keys that people write otherwise than `Task` keeps them ----------------------

_Forms = tuple[dict[str, Any], ...]


class _Written(NamedTuple):
    """How a key is read, and the JSON Schema of each form it may have in a file."""

    read: Callable[[Any], object]
    forms: _Forms


def _read_duration(value: object, *path: str) -> float:
    try:
        return duration.seconds(value)
    except ValueError as error:
        name = ".".join(path)
        raise _RefusedError(path, f"`{name}` {error}, not {shown(value)}") from None


def _read_timeout(value: object) -> float:
    found = _read_duration(value, "timeout")
    if found == 0.0:
        message = "`timeout` must be above 0 seconds; leave it out for no limit"
        raise _RefusedError(("timeout",), message)
    return found


def _read_retries(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return Retries(max=value)
    if not isinstance(value, dict):
        example = '{"max": 3, "base_delay": "5s"}'
        message = (
            "`retries` must be a whole number of at least 0 or an object such as"
            f" {example}, not {shown(value)}"
        )
        raise _RefusedError(("retries",), message)
    read = {
        key: _read_duration(value[key], "retries", key)
        for key in value
        if key in _DELAYS
    }
    base, most = read.get("base_delay", 0.0), read.get("max_delay", Retries().max_delay)
    if base > most:
        message = (
            f"`retries.base_delay` is {base:g} s, above the `retries.max_delay` of"
            f" {most:g} s: lower the one or raise the other"
        )
        raise _RefusedError(("retries", "base_delay"), message)
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
        raise _RefusedError(("not_before",), message) from None
    if found.tzinfo is None:
        message = (
            f"`not_before` {value} is another moment in each time zone: end it with"
            f" an offset such as +01:00, or Z for UTC"
        )
        raise _RefusedError(("not_before",), message)
    return found.timestamp()


_DELAYS = ("base_delay", "max_delay")
_DURATION_FORMS: _Forms = (
    {"type": "number", "minimum": 0, "maximum": duration.LONGEST},
    {"type": "string", "pattern": duration.PATTERN},
)
_WRITTEN = {
    "timeout": _Written(
        _read_timeout,
        ({**_DURATION_FORMS[0], "exclusiveMinimum": 0}, _DURATION_FORMS[1]),
    ),
    "retries": _Written(
        _read_retries,
        ({"type": "integer", "minimum": 0}, {"$ref": "#/$defs/Retries"}),
    ),
    "not_before": _Written(_read_time, ({"type": "string", "format": "date-time"},)),
}


# -- what only words can say ------------------------------------------------------


def _check_run(run: str | list[str], key: str) -> None:
    if isinstance(run, str):
        _check_text(run, key)
    elif not run or not run[0].strip():
        message = "`run` names no program: let its first string be one"
        raise _RefusedError((key, 0), message)
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
    raise _RefusedError((key,), f"`{key}` {message}")


def _check_text(text: Any, key: str) -> None:
    if isinstance(text, str):
        if not text.strip():
            raise _RefusedError((key,), f"`{key}` is empty: fill it or remove it")
        _check_no_nul(text, key)


def _check_path(path: str, key: str) -> None:
    _check_text(path, key)
    if path.startswith("/"):
        message = "is absolute: write the way to it from the project's folder"
    elif posixpath.normpath(path).split("/")[0] == "..":
        message = "leaves the project: name a place inside it"
    else:
        return
    raise _RefusedError((key,), f"`{key}` {shown(path)} {message}")


def _check_env(env: dict[str, str], key: str) -> None:
    for name, value in env.items():
        if fault := _variable_fault(name):
            raise _RefusedError((key, name), f"`{key}` {fault}", at_key=True)
        _check_no_nul(value, key, name)


def _check_env_from(names: list[str], key: str) -> None:
    for number, name in enumerate(names):
        if fault := _variable_fault(name):
            raise _RefusedError((key, number), f"`{key}` {fault}")


def _variable_fault(name: str) -> str | None:
    if not name:
        return "holds a variable without a name: name it or remove it"
    if "=" in name or "\0" in name:
        return f"holds {shown(name)}, but a variable's name has no `=` and no NUL"
    if name.startswith("FARM_"):
        return f"holds {shown(name)}, but farm itself sets what begins with FARM_: rename it"
    return None


def _check_needs(needs: list[str], key: str) -> None:
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
        raise _RefusedError((key, number), f"`{key}` {message}")


def _check_no_nul(text: str, key: str, inner: str | int | None = None) -> None:
    if "\0" in text:
        path = (key,) if inner is None else (key, inner)
        where = f"`{key}` {shown(inner)}" if isinstance(inner, str) else f"`{key}`"
        message = "holds a NUL character, which no program can be given: remove it"
        raise _RefusedError(path, f"{where} {message}")


_NO_NAMES = frozenset(("", ".", ".."))
_RULES: dict[str, Callable[[Any, str], None]] = {
    "run": _check_run,
    "call": _check_call,
    "prompt": _check_text,
    "prompt_file": _check_path,
    "agent": _check_text,  # an object is the agent's own business
    "cwd": _check_path,
    "env": _check_env,
    "env_from": _check_env_from,
    "needs": _check_needs,
}


# -- explaining what was refused --------------------------------------------------

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
}


def _explained(data: dict[str, Any], error: msgspec.ValidationError) -> _RefusedError:
    """What msgspec refused, in our words; the value is the one at its path."""
    path = _path_in(str(error))
    value: Any = data
    for step in path:
        value = value[step]
    if isinstance(value, dict) and path in _KEYS:
        return _unknown_key(path, value)
    if isinstance(value, dict) and path == ("env",):
        return _no_text_in_env(value)
    name = ".".join(step for step in path if isinstance(step, str))
    inner = isinstance(path[-1], int)
    must = _MUST_BE.get(f"each of {name}" if inner else name, "a string")
    subject = f"each of `{name}`" if inner else f"`{name}`"
    return _RefusedError(path, f"{subject} must be {must}, not {shown(value)}")


def _path_in(message: str) -> _Path:
    """`("needs", 2)` for msgspec's "... - at `$.needs[2]`"."""
    where = message.partition(" - at `$")[2].partition("[...]")[0]
    steps = re.findall(r"\.([^.\[`]+)|\[([0-9]+)\]", where)
    return tuple(key or int(number) for key, number in steps)


def _unknown_key(path: _Path, holder: dict[str, object]) -> _RefusedError:
    unknown = next(key for key in holder if key not in _KEYS[path])
    hint = did_you_mean(unknown, _KEYS[path]) or ": correct it or remove it"
    where = f" in `{path[0]}`" if path else ""
    name = shown(unknown).strip('"')
    message = f"unknown key `{name}`{where}{hint}"
    return _RefusedError((*path, unknown), message, at_key=True)


def _no_text_in_env(env: dict[str, object]) -> _RefusedError:
    # The value is not shown: it may be a secret.
    name = next(name for name, value in env.items() if not isinstance(value, str))
    message = f"`env` {shown(name)} must be a string: put its value in quotes"
    return _RefusedError(("env", name), message)


_KEYS: dict[_Path, tuple[str, ...]] = {
    (): Task.__struct_encode_fields__,
    ("retries",): Retries.__struct_encode_fields__,
}


def _not_one_kind(data: dict[str, Any]) -> _RefusedError:
    given = [key for key in KINDS if data.get(key) is not None]
    if not given:
        names = ", ".join(f"`{key}`" for key in KINDS)
        return _RefusedError((), f"there is nothing to do: give one of {names}")
    first, second = [key for key in data if key in given][:2]
    message = f"stands beside `{first}`, but a task has one of them: remove one"
    return _RefusedError((second,), f"`{second}` {message}", at_key=True)
