"""What is answered when nothing was planned: made from the prompt alone."""

import json
from typing import Any


def answer_to(body: dict[str, Any]) -> str:
    """`echo: ` and the last user message; if a schema was given, JSON that fits it."""
    prompt = last_user_message(body)
    schema = wanted_schema(body)
    if schema is None:
        return f"echo: {prompt}"
    return json.dumps(fitting(schema, prompt))


def last_user_message(body: dict[str, Any]) -> str:
    said = [m for m in body["messages"] if m.get("role") == "user"]
    return text_of(said[-1]["content"]) if said else ""


def text_of(content: str | list[dict[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def words_in(body: dict[str, Any]) -> int:
    """Input tokens: the words of all that was sent."""
    texts = [text_of(message["content"]) for message in body["messages"]]
    texts.append(text_of(body.get("system", "")))
    return sum(len(text.split()) for text in texts)


def wanted_schema(body: dict[str, Any]) -> dict[str, Any] | None:
    """Of either API, in the old form and the new."""
    shape = (body.get("output_config") or {}).get("format")
    shape = shape or body.get("output_format") or body.get("response_format") or {}
    if shape.get("type") == "json_object":
        return {"type": "object"}
    if shape.get("type") != "json_schema":
        return None
    found: dict[str, Any] = shape.get("json_schema", shape)["schema"]
    return found


def fitting(schema: dict[str, Any], prompt: str) -> object:
    """A value that a simple schema allows."""
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: fitting(properties[name], prompt) for name in properties}
    if kind == "array":
        return [fitting(schema.get("items", {}), prompt)]
    number = len(prompt)
    leaves = {"integer": number, "number": number, "string": f"echo: {prompt}"}
    return True if kind == "boolean" else leaves.get(kind)
