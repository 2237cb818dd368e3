"""An agent: who answers prompts, as farm.toml or a task sets it up.

Three kinds: `messages` (the Messages API over HTTP), `openai` (chat completions of any
compatible server) and `command` (an agent's own command line; a `preset` says how it
is spoken to). `check_agent` holds what the types of `Agent` cannot say, and
`read_agent` turns one table of settings into an `Agent`; both raise `RefusedError`
with the path of the key at fault.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from farm import duration
from farm.keys import check_provider, is_url
from farm.locate import shown
from farm.refusal import Keys, RefusedError, explained

Kind = Literal["messages", "openai", "command"]
MOST_AT_ONCE = 1000  # calls of one worker; each holds a socket and a ledger

Idle = Annotated[float, Meta(ge=0)]  # seconds here
_Words = Annotated[tuple[str, ...], Meta(min_length=1)]


class Agent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who answers a prompt, and how it is asked."""

    kind: Annotated[Kind, Meta(description="How it is spoken to.")] = "command"
    model: Annotated[str | None, Meta(description="Which model answers.")] = None
    credentials: Annotated[
        str | None,
        Meta(description='Whose keys: "anthropic" means ANTHROPIC_API_KEY and so on.'),
    ] = None
    base_url: Annotated[
        str | None, Meta(description="Where the API is, without `/v1/messages`.")
    ] = None
    auth: Annotated[
        Literal["bearer", "x-api-key"], Meta(description="How the key is sent.")
    ] = "bearer"
    system: Annotated[str | None, Meta(description="What it is told first.")] = None
    max_tokens: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="Longest answer.")
    ] = None
    temperature: Annotated[
        Annotated[float, Meta(ge=0, le=2)] | None,
        Meta(description="How much chance is in the answer."),
    ] = None
    output_schema: Annotated[
        dict[str, Any] | None,
        Meta(description="A JSON Schema; the answer is then JSON, in `value`."),
    ] = None
    stream: Annotated[bool, Meta(description="Take the answer as it is made.")] = True
    concurrency: Annotated[
        int,
        Meta(ge=1, le=MOST_AT_ONCE, description="Calls that one worker holds at once."),
    ] = 1
    preset: Annotated[
        Literal["claude", "codex"] | None,
        Meta(description="Which command line it is, and so how it is spoken to."),
    ] = None
    command: Annotated[
        _Words | None, Meta(description="The program and its first words.")
    ] = None
    args: Annotated[
        tuple[str, ...], Meta(description="Further words, behind those of the preset.")
    ] = ()
    max_turns: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="Most turns it may take.")
    ] = None
    idle_timeout: Annotated[
        Idle | None,
        Meta(description="Without a sign of work for so long it is ended; 0: never."),
    ] = None
    max_cost_usd: Annotated[
        Annotated[float, Meta(gt=0)] | None, Meta(description="Most it may spend.")
    ] = None

    @property
    def is_http(self) -> bool:
        """Whether it is asked over HTTP, by this process itself."""
        return self.kind != "command"

    @property
    def provider(self) -> str | None:
        """Whose keys it takes; None for a command that needs none of ours."""
        if self.credentials is not None:
            return self.credentials
        return _PROVIDERS.get(self.preset or self.kind)


_PROVIDERS = {
    "messages": "anthropic",
    "claude": "anthropic",
    "openai": "openai",
    "codex": "openai",
}
_HTTP: tuple[Kind, ...] = ("messages", "openai")
_COMMAND: tuple[Kind, ...] = ("command",)
_ONLY_FOR: dict[str, tuple[Kind, ...]] = {
    "base_url": _HTTP,
    "auth": _HTTP,
    "system": _HTTP,
    "max_tokens": _HTTP,
    "temperature": _HTTP,
    "output_schema": _HTTP,
    "stream": _HTTP,
    "concurrency": _HTTP,
    "preset": _COMMAND,
    "command": _COMMAND,
    "args": _COMMAND,
    "max_turns": _COMMAND,
    "max_cost_usd": _COMMAND,
}
_ONLY_FOR_PRESETS = {"max_turns": ("claude",), "max_cost_usd": ("claude",)}
KEYS: Keys = {(): Agent.__struct_encode_fields__}


def read_agent(table: object) -> Agent:
    """The agent that a table of settings describes; RefusedError if it cannot be."""
    if not isinstance(table, dict):
        raise RefusedError((), f"an agent is a table of settings, not {shown(table)}")
    table = in_seconds(table)
    try:
        agent = msgspec.convert(table, Agent)
    except msgspec.ValidationError as error:
        raise explained(table, error, KEYS) from None
    check_agent(table)
    return agent


def in_seconds(table: dict[str, Any]) -> dict[str, Any]:
    """The same table with its duration as an `Agent` keeps it."""
    said = table.get("idle_timeout")
    if said is None:
        return table
    try:
        return table | {"idle_timeout": duration.seconds(said)}
    except ValueError as error:
        message = f"`idle_timeout` {error}, not {shown(said)}"
        raise RefusedError(("idle_timeout",), message) from None


def check_agent(table: dict[str, Any]) -> None:
    """Raise RefusedError for what its types cannot say; its keys are known here."""
    kind = table.get("kind", "command")
    for key, value in table.items():
        kinds = _ONLY_FOR.get(key, (kind,))
        if value is not None and kind not in kinds:
            names = " and ".join(f"`{other}`" for other in kinds)
            message = f"`{key}` is for agents of kind {names}, and this one is `{kind}`"
            raise RefusedError((key,), message, at_key=True)
        if isinstance(value, str) and not value.strip():
            raise RefusedError((key,), f"`{key}` is empty: fill it or remove it")
    if fault := check_provider(table.get("credentials")):
        raise RefusedError(("credentials",), f"`credentials` {fault}")
    if kind == "command":
        _check_command(table)
    else:
        _check_http(table)


def _check_command(table: dict[str, Any]) -> None:
    preset = table.get("preset")
    if preset is None and table.get("command") is None:
        message = (
            "an agent of kind `command` needs a `preset` (claude, codex) or a `command`;"
            " or is its `kind` messages or openai?"
        )
        raise RefusedError((), message)
    for key, presets in _ONLY_FOR_PRESETS.items():
        if table.get(key) is not None and preset not in presets:
            message = f"`{key}` is for the preset {presets[0]} only: remove it"
            raise RefusedError((key,), message, at_key=True)


def _check_http(table: dict[str, Any]) -> None:
    url = table.get("base_url")
    if url is not None and not is_url(url):
        message = "`base_url` must begin with https:// or http:// and name a host"
        raise RefusedError(("base_url",), message)
