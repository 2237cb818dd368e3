import json
import re
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.agent import Agent
from farm.errors import TaskFileError
from farm.task import KINDS, Retries, Task, check_id, parse_task, task_schema

SAMPLES = Path(__file__).parent.parent / "sample_project" / "tasks"
DURATION = 'a number of seconds or a duration such as "90s" "15m" "1h30m"'


def parsed(**keys: Any) -> Task:
    return parse_task(json.dumps(keys).encode())


def refused(text: str | bytes) -> TaskFileError:
    raw = text.encode() if isinstance(text, str) else text
    with pytest.raises(TaskFileError) as caught:
        parse_task(raw)
    return caught.value


# -- what is no task at all ------------------------------------------------------------


@pytest.mark.parametrize("status", ["succeeded", "invalid"])
def test_a_copy_of_a_result_is_called_so(status: str) -> None:
    copied = {
        "version": 1,
        "id": "tiles/0",
        "status": status,
        "stdout": "",
        "error": {},
    }
    fault = refused(json.dumps(copied))

    assert fault.message == (
        'this is a copy of the result of "tiles/0", and not a task: move it out of tasks/'
    )


def test_a_task_with_a_key_of_a_result_has_an_unknown_key() -> None:
    fault = refused('{"run": "true", "id": "a", "status": "failed"}')

    assert fault.message.startswith("unknown key `id`")


# -- what a good file means ----------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"run": "make"}', "run"),
        ('{"run": ["make", "-j", ""]}', "run"),
        ('{"call": "render:tile", "args": [1], "kwargs": {"x": 0}}', "call"),
        ('{"call": "a.b:C.from_file"}', "call"),
        ('{"prompt": "Fix it", "agent": "claude"}', "prompt"),
        ('{"prompt_file": "ask/fix.md", "agent": {"preset": "claude"}}', "prompt"),
    ],
)
def test_a_task_has_the_kind_of_its_work(text: str, kind: str) -> None:
    assert parse_task(text.encode()).kind == kind


def test_a_key_that_is_not_given_has_its_default() -> None:
    assert parsed(run="make") == Task(run="make")


def test_every_key_arrives() -> None:
    task = parsed(
        run=["a", "b"],
        cwd="sub/folder",
        env={"A": "1"},
        env_from=["B"],
        timeout=90,
        retries=2,
        priority=-3,
        needs=["build", "tiles/**"],
        not_before="1970-01-01T01:00:01.5+01:00",
        ok_exit_codes=[0, 255],
        labels=["big"],
        meta={"mine": [1]},
        **{"$schema": "task.schema.json"},
    )

    assert task == Task(
        run=("a", "b"),
        cwd="sub/folder",
        env={"A": "1"},
        env_from=("B",),
        timeout=90.0,
        retries=Retries(max=2),
        priority=-3,
        needs=("build", "tiles/**"),
        not_before=1.5,
        ok_exit_codes=(0, 255),
        labels=("big",),
        meta={"mine": [1]},
        schema="task.schema.json",
    )


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (5, 5.0),
        (0.25, 0.25),
        ("90s", 90.0),
        ("15m", 900.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("2d", 172_800.0),
        ("1d2h3m4.5s", 93_784.5),
        (1_000_000_000, 1e9),
    ],
)
def test_a_timeout_is_seconds_however_it_is_written(
    written: object, seconds: float
) -> None:
    timeout = parsed(run="make", timeout=written).timeout

    assert timeout == seconds
    assert isinstance(timeout, float)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (0, Retries()),
        (3, Retries(max=3)),
        ({"max": 3}, Retries(max=3)),
        ({"max": 1, "base_delay": 0, "max_delay": "5m"}, Retries(1, 0.0, 300.0)),
        ({"max_delay": 0.5}, Retries(0, 1.0, 0.5)),
    ],
)
def test_retries_are_a_record_however_they_are_written(
    written: object, meant: Retries
) -> None:
    assert parsed(run="make", retries=written).retries == meant


def test_a_file_that_says_nothing_of_retries_leaves_them_to_the_settings() -> None:
    assert parsed(run="make").retries is None


def test_null_means_the_default_where_the_default_is_null() -> None:
    nothing = dict.fromkeys(["call", "prompt", "timeout", "retries", "not_before"])

    assert parsed(run="make", **nothing) == Task(run="make")


@pytest.mark.parametrize("need", ["a", "a/b", "a/..b", "*", "tiles/**/x?", "a.json.b"])
def test_a_need_is_an_id_or_a_glob(need: str) -> None:
    assert parsed(run="make", needs=[need]).needs == (need,)


@pytest.mark.parametrize("cwd", [".", "a", "a/b/", "a/../b", "..a", "a/..."])
def test_a_cwd_below_the_project_is_accepted(cwd: str) -> None:
    assert parsed(run="make", cwd=cwd).cwd == cwd


@pytest.mark.parametrize(
    "text",
    [
        '{"labels": ["run"], "run": "make"}',
        '{"run": "make", "meta": {"run": 1, "needs": 2}}',
        '{"r\\u0075n": "make"}',
        '{"run": "echo 1234567890123456789012345"}',
        '{"run": "make", "meta": [18446744073709551615, -9223372036854775808]}',
    ],
)
def test_what_only_looks_suspicious_is_accepted(text: str) -> None:
    assert parse_task(text.encode()).kind == "run"


@pytest.mark.parametrize(
    "path",
    [p for p in sorted(SAMPLES.rglob("*.json")) if ".result." not in p.name],
    ids=lambda p: p.stem,
)
def test_the_sample_tasks_are_good(path: Path) -> None:
    assert parse_task(path.read_bytes()).kind in KINDS


# -- what is refused, where and in which words ---------------------------------------


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("", (1, 1), "the file is empty"),
        ('{"run": "make"', (1, 15), "ends in the middle"),
        (b"\xef\xbb\xbf{}", (1, 1), "byte order mark"),
        (b'{"run":\n "\xc3\xa9\xff"}', (2, 4), "not UTF-8: it holds the byte 0xff"),
        ('{"run": "make",}', (1, 15), "remove the comma"),
        ('{"meta": NaN}', (1, 10), "JSON has no NaN"),
        ('{"meta": 1e999}', (1, 10), "too large"),
        ("[" * 5000 + "]" * 5000, (1, 1026), "nested too deep"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_no_json_is_refused(
    text: str | bytes, place: tuple[int, int], words: str
) -> None:
    fault = refused(text)

    assert words in fault.message
    assert (fault.line, fault.column) == place


@pytest.mark.parametrize(
    ("text", "shown"),
    [(" [1]", "a list"), (' "make"', '"make"'), (" null", "null"), (" 3", "3")],
)
def test_json_that_is_no_object_is_refused(text: str, shown: str) -> None:
    fault = refused(text)

    assert (
        fault.message == f'a task is an object such as {{"run": "make"}}, not {shown}'
    )
    assert (fault.line, fault.column) == (1, 2)


@pytest.mark.parametrize("text", ["{}", '{"run": null}', '{"needs": ["a"]}'])
def test_a_task_without_work_is_refused(text: str) -> None:
    fault = refused(text)

    assert "give one of `run`, `call`, `prompt`, `prompt_file`" in fault.message
    assert (fault.line, fault.column) == (1, 1)


@pytest.mark.parametrize(
    ("first", "second"),
    [("run", "call"), ("call", "run"), ("prompt", "prompt_file"), ("prompt", "run")],
)
def test_two_kinds_at_once_are_refused_at_the_second(first: str, second: str) -> None:
    fault = refused(f'{{"{first}": "m:f",\n  "{second}": "m:f"}}')

    assert f"`{second}` stands beside `{first}`" in fault.message
    assert (fault.line, fault.column) == (2, 3)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("retrys", "unknown key `retrys`, did you mean `retries`?"),
        ("need", "unknown key `need`, did you mean `needs`?"),
        ("time_out", "unknown key `time_out`, did you mean `timeout`?"),
        ("zzz", "unknown key `zzz`: correct it or remove it"),
        ("schema", "unknown key `schema`, did you mean `$schema`?"),
        ("a\\nb", "unknown key `a\\nb`: correct it or remove it"),
    ],
)
def test_an_unknown_key_is_refused_with_a_guess(key: str, words: str) -> None:
    fault = refused(f'{{"run": "make",\n "{key}": 1}}')

    assert fault.message == words
    assert (fault.line, fault.column) == (2, 2)


def test_an_unknown_key_of_retries_is_refused_at_its_place() -> None:
    fault = refused('{"run": "make", "retries": {"max": 1, "delay": 2}}')

    assert "unknown key `delay` in `retries`" in fault.message
    assert (fault.line, fault.column) == (1, 39)


@pytest.mark.parametrize("key", ["needs", "run", "timeout"])
def test_a_repeated_key_is_refused_at_its_second_place(key: str) -> None:
    value = {"needs": '["a"]', "run": '"make"', "timeout": "5"}[key]
    fault = refused(f'{{"run": "make", "{key}": {value},\n "{key}": {value}}}')

    assert f"`{key}` stands here for the second time" in fault.message
    assert (fault.line, fault.column) in {(2, 2), (1, 17)}


def test_an_integer_of_more_than_64_bits_is_refused_at_its_column() -> None:
    fault = refused('{"call": "m:f", "args": [18446744073709551616]}')

    assert "needs more than 64 bits: write it as a string" in fault.message
    assert (fault.line, fault.column) == (1, 26)


VALUES = [  # key, its JSON, what the message says, column within the JSON
    ("run", "5", "`run` must be a string for the shell or a list of strings", 1),
    ("run", "true", "not true", 1),
    ("run", '["a", 5]', "each of `run` must be a string, not 5", 7),
    ("run", '""', "`run` is empty", 1),
    ("run", '" \\n"', "`run` is empty", 1),
    ("run", "[]", "`run` names no program", 1),
    ("run", '[""]', "`run` names no program", 2),
    ("run", '["  ", "a"]', "`run` names no program", 2),
    ("run", '"a\\u0000b"', "`run` holds a NUL character", 1),
    ("run", '["a", "b\\u0000"]', "`run` holds a NUL character", 7),
    ("call", "[1]", '`call` must be a string such as "module:function"', 1),
    ("call", '"render"', "`call` must name a function as `module.sub:function`", 1),
    ("call", '"render.tile"', "did you mean `render:tile`?", 1),
    ("call", '"a.b.c"', "did you mean `a.b:c`?", 1),
    ("call", '"a:b:c"', 'not "a:b:c"', 1),
    ("call", '":f"', 'not ":f"', 1),
    ("call", '"m:f()"', 'not "m:f()"', 1),
    ("call", '"m:f\\n"', 'not "m:f\\n"', 1),
    ("call", '"m\\u0000:f"', "must name a function", 1),
    ("prompt", "5", "`prompt` must be a string, not 5", 1),
    ("prompt", '" "', "`prompt` is empty", 1),
    ("prompt_file", '"/etc/x"', '`prompt_file` "/etc/x" is absolute', 1),
    ("prompt_file", '"../x"', '`prompt_file` "../x" leaves the project', 1),
    ("prompt_file", '"x\\u0000"', "`prompt_file` holds a NUL", 1),
    ("idle_timeout", "-1", "`idle_timeout` must be at least 0 seconds; 0 means no", 1),
    ("idle_timeout", '"5 min"', f'`idle_timeout` must be {DURATION}, not "5 min"', 1),
    ("max_output", "-1", "`max_output` must be a number of bytes or a size such as", 1),
    ("max_output", '"10 MB"', 'at most 1 TiB, not "10 MB"', 1),
    ("max_output", "1.5", "not 1.5", 1),
    ("max_output", "true", "not true", 1),
    ("timeout", "true", f"`timeout` must be {DURATION}, not true", 1),
    ("timeout", '"5 min"', f'`timeout` must be {DURATION}, not "5 min"', 1),
    ("timeout", '"90"', f'`timeout` must be {DURATION}, not "90"', 1),
    ("timeout", '""', f'`timeout` must be {DURATION}, not ""', 1),
    ("timeout", '"1m1h"', "must be a number of seconds", 1),
    ("timeout", "[1]", "not a list", 1),
    ("timeout", "-5", "`timeout` must be above 0 seconds", 1),
    ("timeout", "0", "`timeout` must be above 0 seconds", 1),
    ("timeout", '"0s"', "`timeout` must be above 0 seconds", 1),
    ("timeout", "1e300", "`timeout` must be at most 1000000000 seconds", 1),
    ("retries", "-1", "`retries` must be a whole number of at least 0", 1),
    ("retries", "true", "not true", 1),
    ("retries", "1.5", "not 1.5", 1),
    ("retries", '"3"', 'not "3"', 1),
    ("retries", '{"max": -1}', "`retries.max` must be a whole number of", 9),
    ("retries", '{"max": null}', "not null", 9),
    ("retries", '{"base_delay": -1}', "`retries.base_delay` must be at least 0", 16),
    ("retries", '{"max_delay": "x"}', f"`retries.max_delay` must be {DURATION}", 15),
    ("retries", '{"base_delay": "2m"}', "is 120 s, above the `retries.max_delay`", 16),
    ("priority", "1.5", "`priority` must be a whole number, not 1.5", 1),
    ("priority", "true", "`priority` must be a whole number, not true", 1),
    ("priority", '"high"', '`priority` must be a whole number, not "high"', 1),
    ("not_before", "5", "`not_before` must be a date and time with an offset", 1),
    ("not_before", '"tomorrow"', 'not "tomorrow"', 1),
    ("not_before", '"2026-11-21"', 'not "2026-11-21"', 1),
    ("not_before", '"2026-11-21T03:00:00"', "another moment in each time zone", 1),
    ("needs", '"build"', '`needs` must be a list of ids or globs, not "build"', 1),
    ("needs", "null", "not null", 1),
    ("needs", '["a", 5]', "each of `needs` must be a string, not 5", 7),
    ("needs", '["a", ""]', "`needs` takes ids", 7),
    ("needs", '["/a"]', "`needs` takes ids", 2),
    ("needs", '["a/"]', "`needs` takes ids", 2),
    ("needs", '["a/../b"]', "`needs` takes ids", 2),
    ("needs", '["./a"]', "`needs` takes ids", 2),
    ("needs", '["a.json"]', '`needs` takes ids, without `.json`: write "a"', 2),
    ("env", "[]", "`env` must be an object of strings, not an empty list", 1),
    ("env", '{"A": "x", "B": 5}', '`env` "B" must be a string', 17),
    ("env", '{"": "x"}', "`env` holds a variable without a name", 2),
    ("env", '{"A=B": "x"}', '`env` holds "A=B"', 2),
    ("env", '{"A": "x", "B\\u0000": "x"}', '`env` holds "B\\u0000"', 12),
    ("env", '{"A": "x\\u0000"}', '`env` "A" holds a NUL', 7),
    ("env", '{"A": "x", "FARM_TOKEN": "x"}', "farm itself sets", 12),
    ("env_from", '{"A": "x"}', "`env_from` must be a list of names", 1),
    ("env_from", '["A", ""]', "`env_from` holds a variable without a name", 7),
    ("env_from", '["A=B"]', '`env_from` holds "A=B"', 2),
    ("env_from", '["FARM_TOKEN"]', "farm itself sets", 2),
    ("cwd", "5", "`cwd` must be a string, not 5", 1),
    ("cwd", '""', "`cwd` is empty", 1),
    ("cwd", '"/tmp"', '`cwd` "/tmp" is absolute', 1),
    ("cwd", '".."', '`cwd` ".." leaves the project', 1),
    ("cwd", '"a/../../b"', "leaves the project", 1),
    ("cwd", '"a\\u0000"', "`cwd` holds a NUL", 1),
    ("ok_exit_codes", "[]", "`ok_exit_codes` must be a list of exit codes, at", 1),
    ("ok_exit_codes", "0", "`ok_exit_codes` must be a list of exit codes", 1),
    ("ok_exit_codes", "[0, 256]", "must be a whole number from 0 to 255, not 256", 5),
    ("ok_exit_codes", "[-1]", "not -1", 2),
    ("ok_exit_codes", "[true]", "not true", 2),
    ("labels", '"big"', '`labels` must be a list of strings, not "big"', 1),
    ("labels", "[1]", "each of `labels` must be a string, not 1", 2),
    ("$schema", "1", "`$schema` must be a string, not 1", 1),
]


@pytest.mark.parametrize(
    ("key", "value", "words", "column"), VALUES, ids=[f"{v[0]}={v[1]}" for v in VALUES]
)
def test_a_wrong_value_is_refused_at_its_column(
    key: str, value: str, words: str, column: int
) -> None:
    work = "" if key in KINDS else '"run": "make",'
    fault = refused(f'{{{work}\n"{key}": {value}}}')

    assert words in fault.message
    assert (fault.line, fault.column) == (2, len(f'"{key}": ') + column)


@pytest.mark.parametrize(
    ("work", "key", "value"),
    [
        ('"run": "make"', "args", "[]"),
        ('"run": "make"', "kwargs", "{}"),
        ('"prompt": "do"', "args", "[1]"),
        ('"call": "m:f"', "ok_exit_codes", "[0]"),
        ('"call": "m:f"', "agent", '"claude"'),
        ('"run": "make"', "agent", '"claude"'),
    ],
)
def test_a_key_of_another_kind_of_task_is_refused(
    work: str, key: str, value: str
) -> None:
    fault = refused(f'{{{work},\n "{key}": {value}}}')

    assert re.match(
        rf"`{key}` is for .* tasks, and this is a `\w+` task", fault.message
    )
    assert (fault.line, fault.column) == (2, 2)


@pytest.mark.parametrize("value", ["5", "[1]", "true", '""'])
def test_an_agent_that_is_neither_name_nor_object_is_refused(value: str) -> None:
    fault = refused(f'{{"prompt": "do", "agent": {value}}}')

    assert fault.message.startswith("`agent` ")
    assert (fault.line, fault.column) == (1, 27)


def test_the_value_of_a_variable_is_not_shown() -> None:
    assert "12345" not in refused('{"run": "a", "env": {"A_TOKEN": 12345}}').message


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("ab.[`"), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from(Task.__struct_encode_fields__) | st.text("run.[`$"),
        JSON | st.dictionaries(st.sampled_from(["max", "base_delay", "x"]), JSON),
        max_size=4,
    )
)
def test_any_object_is_a_task_or_is_refused_at_a_place(
    value: dict[str, object],
) -> None:
    try:
        parse_task(orjson.dumps(value))
    except TaskFileError as error:
        fault = error
    else:
        return

    assert (fault.line, fault.column > 0) == (1, True)
    assert "Expected" not in fault.message  # msgspec's words, not ours


# -- ids ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task_id", ["build", "tiles/0-0", "a b", "日本", "x" * 243, "a/" * 300 + "b"]
)
def test_an_id_that_can_have_a_result_is_fine(task_id: str) -> None:
    assert check_id(task_id) is None


@pytest.mark.parametrize(
    ("task_id", "words"),
    [
        ("x" * 244, "its name is too long: its result's name would have 256 bytes"),
        ("a/" + "é" * 122, "its name is too long"),
        ("\udcff", "its name is not UTF-8: rename it"),
        ("a\udcff/b", "its name is not UTF-8: rename it"),
        ("a\nb", r'its name, "a\nb", holds a control character: rename it'),
        ("a\0", "holds a control character"),
        ("a\x1b[31m/b", "holds a control character"),
        ("a\x7f", "holds a control character"),
        ("a\x9b", "holds a control character"),
    ],
)
def test_an_id_that_cannot_be_used_is_answered_with_a_sentence(
    task_id: str, words: str
) -> None:
    assert words in (check_id(task_id) or "")


# -- the schema -----------------------------------------------------------------------


def test_the_schema_has_every_key_with_a_description() -> None:
    properties = task_schema()["properties"]

    assert list(properties) == list(Task.__struct_encode_fields__)
    assert all(spec["description"] for spec in properties.values())


def test_the_schema_asks_for_exactly_one_kind() -> None:
    assert task_schema()["oneOf"] == [{"required": [kind]} for kind in KINDS]


def test_the_schema_refuses_unknown_keys() -> None:
    schema = task_schema()

    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Retries"]["additionalProperties"] is False


@pytest.mark.parametrize("text", ["90s", "15m", "1h30m", "2d", "0.5s"])
def test_the_schema_and_farm_read_the_same_durations(text: str) -> None:
    forms = task_schema()["properties"]["timeout"]["anyOf"]
    pattern = next(form["pattern"] for form in forms if "pattern" in form)

    assert re.search(pattern, text)
    assert not re.search(pattern, f"{text} or so")
    assert parsed(run="make", timeout=text).timeout is not None


@pytest.mark.parametrize(
    ("key", "types"),
    [
        ("timeout", ["number", "string", "null"]),
        ("retries", ["integer", None, "null"]),
        ("not_before", ["string", "null"]),
        ("run", ["string", "array", "null"]),
    ],
)
def test_the_schema_says_what_a_file_may_say(key: str, types: list[str | None]) -> None:
    forms = task_schema()["properties"][key]["anyOf"]

    assert [form.get("type") for form in forms] == types


def test_the_schema_is_json() -> None:
    assert orjson.loads(msgspec.json.encode(task_schema())) == task_schema()


def test_a_task_may_need_any_number_of_ids_but_not_of_globs() -> None:
    ids = [f"part-{number}" for number in range(20_000)]
    globs = [f"*-{number}" for number in range(1_000)]
    assert len(parsed(run="make", needs=ids + globs).needs) == 21_000
    with pytest.raises(TaskFileError, match="holds more than 1000 globs"):
        parsed(run="make", needs=[*ids, *globs, "*-x"])


def test_an_agents_silence_is_a_duration_wherever_it_is_said() -> None:
    task = parsed(prompt="go", agent={"preset": "claude", "idle_timeout": "20m"})
    assert isinstance(task.agent, Agent)
    assert task.agent.idle_timeout == 1200.0
    assert parsed(run="make", idle_timeout=0, max_output="1 KiB").max_output == 1024
    with pytest.raises(TaskFileError, match="`idle_timeout` must be") as caught:
        parsed(prompt="go", agent={"preset": "claude", "idle_timeout": "20 min"})
    assert (caught.value.line, caught.value.column) > (0, 0)
