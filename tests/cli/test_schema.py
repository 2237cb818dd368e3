"""`farm schema`: every task that farm takes is one by the schema, too."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from farm.errors import TaskFileError
from farm.task import Task, parse_task

Run = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "farm" / "topics").glob("*.md"))]
TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "object": dict,
    "array": list,
    "null": type(None),
}


def examples() -> list[str]:
    """The README's and the guide's task files, and the sample project's."""
    found = []
    for page in PAGES:
        text = page.read_text()
        found += re.findall(r"^```json\n((?:.*\n)*?)```$", text, re.MULTILINE)
    files = sorted((ROOT / "sample_project" / "tasks").rglob("*.json"))
    found += [p.read_text() for p in files if not p.name.endswith(".result.json")]
    return [text for text in found if "status" not in json.loads(text)]


def fits(value: Any, schema: dict[str, Any], parts: dict[str, Any]) -> bool:
    """Whether a value has the type, the keys and the items that a schema asks for."""
    if ref := schema.get("$ref"):
        return fits(value, parts[ref.rpartition("/")[2]], parts)
    if "anyOf" in schema:
        return any(fits(value, each, parts) for each in schema["anyOf"])
    kind = schema.get("type")
    if kind and (not isinstance(value, TYPES[kind]) or isinstance(value, bool)):
        return False
    if "pattern" in schema and not re.search(schema["pattern"], value):
        return False
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return all(fits(item, schema["items"], parts) for item in value)
    return not isinstance(value, dict) or keys_fit(value, schema, parts)


def keys_fit(
    value: dict[str, Any], schema: dict[str, Any], parts: dict[str, Any]
) -> bool:
    """Whether each key is known, or others are allowed, and its value fits."""
    known, other = (
        schema.get("properties", {}),
        schema.get("additionalProperties", True),
    )
    one_of = schema.get("oneOf")
    if one_of and sum(all(k in value for k in o["required"]) for o in one_of) != 1:
        return False
    return all(
        fits(inner, known[key], parts)
        if key in known
        else other is True or (isinstance(other, dict) and fits(inner, other, parts))
        for key, inner in value.items()
    )


@pytest.fixture
def schema(run: Run) -> dict[str, Any]:
    code, out, err = run("schema")
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


def test_it_is_indented_for_people(run: Run) -> None:
    _, out, _ = run("schema")

    assert out.startswith('{\n  "$schema"')
    assert out.endswith("}\n")


def test_it_knows_every_key_of_a_task_and_no_other(schema: dict[str, Any]) -> None:
    keys = {field.encode_name for field in msgspec.structs.fields(Task)}

    assert set(schema["properties"]) == keys
    assert schema["additionalProperties"] is False


def test_every_key_has_a_description(schema: dict[str, Any]) -> None:
    without = [k for k, v in schema["properties"].items() if not v.get("description")]

    assert without == []


def test_there_are_examples_to_check() -> None:
    assert len(examples()) > 60


@pytest.mark.parametrize("text", sorted(set(examples())))
def test_every_example_is_a_task_by_the_schema(
    schema: dict[str, Any], text: str
) -> None:
    assert fits(json.loads(text), schema, schema["$defs"])


@pytest.mark.parametrize(
    "text",
    [
        '{"runn": "a"}',
        '{"run": "a", "call": "m:f"}',
        "{}",
        "[]",
        '{"run": 3}',
        '{"run": "a", "needs": "b"}',
        '{"run": "a", "needs": [3]}',
        '{"run": "a", "timeout": "never"}',
        '{"run": "a", "retries": {"most": 3}}',
        '{"run": "a", "retries": -1.5}',
        '{"run": "a", "env": {"A": 1}}',
        '{"run": "a", "priority": "high"}',
    ],
)
def test_what_a_worker_refuses_is_none_by_the_schema(
    schema: dict[str, Any], text: str
) -> None:
    with pytest.raises(TaskFileError):
        parse_task(text.encode())

    assert not fits(json.loads(text), schema, schema["$defs"])
