"""One task file, parsed and checked: what a file may say, and what it then means.

`parse_task(raw)` returns a `Task` or raises `TaskFileError` with a sentence, a
line and a column. A `Task` is plain values, ready to use, and holds all of this:
exactly one kind of work, no key without the key it belongs to, no path that
leaves the project by its letters (links are the reader's business), no text that
the operating system would refuse. Where a default is null, null may be written.

A key is checked in up to three steps:

1. `WRITTEN` in `farm.rules`: keys that people write otherwise than `Task` keeps them (durations,
   a number of retries, a time) are turned into what `Task` keeps;
2. the types of `Task`: everything that a type or a range can say;
3. `ONLY_FOR`, and `RULES` in `farm.rules`: what only words can say.

`task_schema()` makes the JSON Schema from the first two. A worker parses
thousands of small files in a second: a good file costs one `orjson.loads`, one
`msgspec.convert` and the rules of its own keys. What explains an error (places,
"did you mean") happens only after something was refused.
"""

import re
from typing import Annotated, Any, Literal

import msgspec
import orjson
from msgspec import Meta

from farm import locate
from farm.agent import KEYS as AGENT_KEYS
from farm.agent import Agent, check_agent, in_seconds
from farm.locate import shown
from farm.refusal import Keys, RefusedError, explained, fault_of, not_one_kind
from farm.rules import DELAYS, DURATION_FORMS, MAX_DELAY, RULES, WRITTEN

Kind = Literal["run", "call", "prompt"]

# Control characters, and those that change the order of the letters around them.
_CONTROL = r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]"
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
    max_delay: Annotated[Delay, Meta(description="No wait is longer than this.")] = (
        MAX_DELAY
    )


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
        str | Agent | None,
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
    credentials: Annotated[
        str | None,
        Meta(description='Whose key it gets: "anthropic" gives it ANTHROPIC_API_KEY.'),
    ] = None
    timeout: Annotated[
        float | None,
        Meta(description='Seconds, or "90s" "15m" "1h30m", after which it is ended.'),
    ] = None
    idle_timeout: Annotated[
        float | None,
        Meta(description="The same, without a sign of work; 0 means no limit."),
    ] = None
    max_output: Annotated[
        int | None,
        Meta(description='Bytes, or "10 MiB"; of more output the middle is dropped.'),
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
    def needs_key(self) -> bool:
        """Whether somebody's API key may be needed to run it."""
        is_prompt = self.call is None and self.run is None
        return is_prompt or self.credentials is not None

    @property
    def kind(self) -> Kind:
        """Which runner it is for."""
        if self.call is not None:
            return "call"
        return "prompt" if self.run is None else "run"


_KEYS: Keys = {
    (): Task.__struct_encode_fields__,
    ("retries",): Retries.__struct_encode_fields__,
    ("agent",): AGENT_KEYS[()],
}

KINDS = ("run", "call", "prompt", "prompt_file")  #: a task has exactly one of them

#: Keys that only some kinds of task can have.
ONLY_FOR: dict[str, tuple[Kind, ...]] = {
    "args": ("call",),
    "kwargs": ("call",),
    "agent": ("prompt",),
    "credentials": ("run",),
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
    except RefusedError as refused:
        raise fault_of(raw, refused) from None


def check_id(task_id: str) -> str | None:
    """What is wrong with an id, in words about its file's name; None if nothing."""
    try:
        name = task_id.encode().rpartition(b"/")[2] + b".result.json"
    except UnicodeEncodeError:
        return "its name is not UTF-8: rename it"
    if re.search(_CONTROL, task_id):
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
    for key, written in WRITTEN.items():
        task["properties"][key]["anyOf"] = [*written.forms, {"type": "null"}]
    for key in DELAYS:
        keys[key] = {
            "description": keys[key]["description"],
            "anyOf": list(DURATION_FORMS),
            "default": keys[key]["default"],
        }
    idle = parts["Agent"]["properties"]["idle_timeout"]
    idle["anyOf"] = [*DURATION_FORMS, {"type": "null"}]
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **task,
        "title": "A task of farm",
        "oneOf": [{"required": [kind]} for kind in KINDS],
        "$defs": parts,
    }
    plain: dict[str, Any] = orjson.loads(orjson.dumps(schema))  # tuples become lists
    return plain


# -- the way of every file --------------------------------------------------------


def _checked(raw: bytes, data: Any) -> Task:
    if type(data) is not dict:
        example = '{"run": "make"}'
        message = f"a task is an object such as {example}, not {shown(data)}"
        raise RefusedError((), message)
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
        if key in WRITTEN and value is not None:
            data[key] = WRITTEN[key].read(value)
        elif key == "agent" and isinstance(value, dict):
            data[key] = _agent_in_seconds(value)
    try:
        task = msgspec.convert(data, Task)
    except msgspec.ValidationError as error:
        raise explained(data, error, _KEYS) from None
    missing = (task.run, task.call, task.prompt, task.prompt_file).count(None)
    if missing != len(KINDS) - 1:
        raise not_one_kind(data, KINDS)
    return task


def _agent_in_seconds(agent: dict[str, Any]) -> dict[str, Any]:
    try:
        return in_seconds(agent)
    except RefusedError as refused:
        raise RefusedError(("agent", *refused.path), refused.sentence) from None


def _check_key(key: str, value: Any, kind: Kind) -> None:
    if key in ONLY_FOR and kind not in ONLY_FOR[key]:
        kinds = " and ".join(f"`{other}`" for other in ONLY_FOR[key])
        message = (
            f"`{key}` is for {kinds} tasks, and this is a `{kind}` task: remove it"
        )
        raise RefusedError((key,), message, at_key=True)
    if key in RULES:
        RULES[key](value, key)
    elif key == "agent":
        _check_agent(value, key)


def _check_agent(agent: str | dict[str, Any], key: str) -> None:
    if isinstance(agent, dict):
        try:
            check_agent(agent)
        except RefusedError as refused:
            path = (key, *refused.path)
            raise RefusedError(path, refused.sentence, at_key=refused.at_key) from None
    elif not agent.strip():
        raise RefusedError((key,), f"`{key}` is empty: fill it or remove it")


# `orjson.loads` drops repeated keys and rounds long integers without a word. A
# guess from the bytes is cheap; if it is suspicious, the text decides. Only a
# repeated key that is spelt with escapes the second time goes unseen.

_QUOTED = {key: f'"{key}"'.encode() for key in Task.__struct_encode_fields__}
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
_WIDE = b"0" * 19  # an integer of more than 64 bits has at least so many digits


def _refuse_repeated_key(raw: bytes) -> None:
    if found := locate.repeated_key(raw.decode()):
        message = f"`{found[0]}` stands here for the second time: keep one of them"
        raise RefusedError((), message, place=found[1])


def _refuse_wide_integer(raw: bytes) -> None:
    if place := locate.wide_integer(raw.decode()):
        message = "this number needs more than 64 bits: write it as a string"
        raise RefusedError((), message, place=place)
