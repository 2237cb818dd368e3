"""All settings: defaults, farm.toml, FARM_* variables, flags; later ones win.

`load_settings` is called once by a command; everybody else is handed the frozen
record. Processes that live long read the file again when it changes (`farm.followed`). Each source is checked whole, also where a later one overrides it: a wrong
value is an error today, not on the day when the flag is left out. The error is a
`ConfigError`: which source, the line and column in farm.toml, what is allowed.

A setting is a field of `Settings`, a reader in `farm.readers` and a row of
`SETTINGS_HELP`. Its variable is FARM_ and the field's name in capitals, its flag `--`
and its name. A setting named `logs.keep` stands as `keep` in the table `[logs]` of
farm.toml, and its field is `logs_keep`. What children find in their environment is in
`CHILD_VARIABLES`, and none of it is ever a setting.

Agents are tables of their own, `[agents.NAME]`, and only farm.toml has them; what one may
say is `farm.agent.Agent`.
"""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from farm.agent import Agent, read_agent
from farm.errors import ConfigError
from farm.locate import did_you_mean, shown
from farm.readers import READERS, Durability, Hook, meant
from farm.refusal import RefusedError
from farm.tomlfile import FilePath, TomlFile
from farm.trust import Trust, counts

LEAST_OUTPUT = 128 * 1024  #: bytes; less than that is never dropped
PROMPTS_IDLE = (
    600.0  #: seconds after which a prompt is ended that shows no sign of work
)

#: What the processes that farm starts find in their environment, and what it is.
CHILD_VARIABLES = {
    "FARM_TASK_ID": "the task's id",
    "FARM_TASK_FILE": "the path of its file",
    "FARM_ATTEMPT": "the number of this attempt, from 1",
    "FARM_TOKEN": "the name of this attempt; no other ever has it",
    "FARM_WORKER": "the name of the worker that runs it",
    "FARM_PROJECT": "the path of the project",
    "FARM_NEEDS": "a JSON file: the id of each need and the path of its result",
    "FARM_PROGRESS": "a file; its last line, `0.61 message`, is the task's progress",
}


class Settings(msgspec.Struct, frozen=True):
    """Every setting, as a command uses it. `SETTINGS_HELP` says what each means."""

    workers: int | None = None  #: None: `usable_cpus()`
    timeout: float | None = None  #: seconds
    retries: int = 0
    max_lost: int = 3
    max_wait: float = 86_400.0  #: seconds
    grace: float = 5.0  #: seconds
    heartbeat: float = 2.0  #: seconds
    heartbeat_timeout: float = 60.0  #: seconds, more than twice `heartbeat`
    durability: Durability = "auto"
    inline_output: int = 16 * 1024  #: bytes
    max_output: int = 1024**3  #: bytes
    idle_timeout: float | None = None  #: seconds; None: `PROMPTS_IDLE` for prompts
    trust: Trust = False  #: or the projects' paths; see `farm.trust.allows`
    default_agent: str | None = None
    logs_keep: float = 30 * 86_400.0  #: seconds
    logs_max_total: int = 1024**3  #: bytes
    hooks_on_failure: Hook | None = None
    hooks_on_done: Hook | None = None
    agents: Mapping[str, Agent] = {}

    def most_output(self, asked: int | None) -> int:
        """How many bytes an attempt may print whose task says this."""
        most = self.max_output if asked is None else asked
        return max(LEAST_OUTPUT, min(most, self.logs_max_total))

    def agent(self, asked: str | Agent | None) -> Agent:
        """Who answers a prompt whose task says this; ConfigError if nobody does."""
        if isinstance(asked, Agent):
            return asked
        only = next(iter(self.agents)) if len(self.agents) == 1 else None
        name = asked or self.default_agent or only
        if name is not None and name in self.agents:
            return self.agents[name]
        if not self.agents:
            message = "no agent is set up: write a table [agents.NAME] into farm.toml"
        elif name is None:
            names = ", ".join(self.agents)
            message = (
                f"there are several agents ({names}) and the task names none: let its"
                " `agent` name one, or set `default_agent` in farm.toml"
            )
        else:
            known = _known_agents(self.agents, name)
            message = f"farm.toml has no agent {shown(name)}{known}"
        raise ConfigError(message)


class Help(NamedTuple):
    """What people read about one setting."""

    name: str  #: as in farm.toml; `logs.keep` is `keep` in the table `[logs]`
    default: str  #: as farm.toml could say it, or in words
    meaning: str

    @property
    def field(self) -> str:
        """Its name in `Settings`: `logs_keep` for `logs.keep`."""
        return self.name.replace(".", "_")

    @property
    def variable(self) -> str:
        """Its name in the environment: FARM_WORKERS for workers."""
        return f"FARM_{self.field.upper()}"

    @property
    def flag(self) -> str:
        """Its name on the command line, where a command has it."""
        return f"--{self.field.replace('_', '-')}"


SETTINGS_HELP = {
    row.name: row
    for row in (
        Help("workers", "usable CPUs", "of one supervisor"),
        Help("timeout", "none", "for tasks that say nothing"),
        Help("retries", "0", "for tasks that say nothing"),
        Help("max_lost", "3", "attempts that may vanish before the task is `lost`"),
        Help("max_wait", "24h", "how long a prompt may be put off by its provider"),
        Help("grace", "5s", "between TERM and KILL"),
        Help("heartbeat", "2s", "between two signs of life of a worker"),
        Help("heartbeat_timeout", "60s", "without a sign of life it is replaced"),
        Help("durability", "auto", "which results are synced: auto, always, never"),
        Help("inline_output", "16 KiB", "longer output stays in `.farm/logs/`"),
        Help("max_output", "1 GiB", "beyond it the middle of output is dropped"),
        Help("idle_timeout", "10m for prompts", "no sign of work: ended"),
        Help("trust", "false", "run tasks that other users could have written"),
        Help("default_agent", "none", "who answers prompts"),
        Help("logs.keep", "30d", "older logs of ended tasks are removed"),
        Help("logs.max_total", "1 GiB", "beyond it the oldest of them are removed"),
        Help("hooks.on_failure", "none", "a command, for each task that failed"),
        Help("hooks.on_done", "none", "a command, for each task that ended"),
    )
}
AGENTS = "agents"  #: the table of tables `[agents.NAME]`
_TABLES = {name.partition(".")[0] for name in SETTINGS_HELP if "." in name}


def usable_cpus() -> int:
    """How many CPUs this process may run on."""
    return len(os.sched_getaffinity(0))


def load_settings(
    toml_path: FilePath, environ: Mapping[str, str], flags: Mapping[str, object]
) -> Settings:
    """The settings of one command.

    A missing file says nothing, nor does an empty variable or a flag that is None.
    Raises ConfigError.
    """
    file = TomlFile.read(toml_path)
    agents = _agents(file)
    given = _from_file(file) | _from_environ(environ) | _from_flags(flags)
    settings = Settings(
        agents=agents,
        **{SETTINGS_HELP[name].field: found.value for name, found in given.items()},
    )
    if agents and settings.default_agent not in (None, *agents):
        name = shown(settings.default_agent)
        raise ConfigError(
            f"`default_agent` ({_origin('default_agent', given)}) names {name}, and"
            f" there is no such agent{_known_agents(agents, settings.default_agent)}"
        )
    if settings.heartbeat_timeout <= 2 * settings.heartbeat:
        beat, limit = (
            f"`{name}` ({getattr(settings, name):g} s, {_origin(name, given)})"
            for name in ("heartbeat", "heartbeat_timeout")
        )
        raise ConfigError(f"{limit} must be more than twice {beat}: change one of them")
    return settings


class _Given(NamedTuple):
    """The value of one setting, and who says so."""

    value: Any
    origin: str


def _origin(name: str, given: Mapping[str, _Given]) -> str:
    return f"from {given[name].origin}" if name in given else "the default"


# -- the three sources ------------------------------------------------------------


def _from_file(file: TomlFile) -> dict[str, _Given]:
    given = {}
    for name, value in _flat(file.table).items():
        where = file.where(*name.split(".", 1))
        if name not in SETTINGS_HELP:
            raise ConfigError(f"{where}: unknown setting `{name}`{_known(name)}")
        given[name] = _Given(_checked(name, value, f"{where}: `{name}`"), where)
    if "trust" in given and not counts(file.owner):
        del given["trust"]  # a stranger's word for a stranger's project
    return given


def _flat(table: dict[str, Any]) -> dict[str, Any]:
    """The settings of a table, `{"logs": {"keep": 1}}` as `{"logs.keep": 1}`."""
    flat: dict[str, Any] = {}
    for name, value in table.items():
        if name == AGENTS:
            continue
        if name in _TABLES and isinstance(value, dict):
            flat |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            flat[name] = value
    return flat


def _agents(file: TomlFile) -> dict[str, Agent]:
    tables = file.table.get(AGENTS, {})
    if not isinstance(tables, dict):
        where = file.where(AGENTS)
        raise ConfigError(f"{where}: `agents` must be tables such as [agents.ask]")
    agents = {}
    for name, table in tables.items():
        try:
            agents[name] = read_agent(table)
        except RefusedError as refused:
            keys = [AGENTS, name, *(str(step) for step in refused.path[:1])]
            message = f"{file.where(*keys)}: [agents.{name}]: {refused.sentence}"
            raise ConfigError(message) from None
    return agents


def _known_agents(agents: Mapping[str, Agent], name: str | None) -> str:
    return did_you_mean(name or "", agents) or f"; there are {', '.join(agents)}"


def _from_environ(environ: Mapping[str, str]) -> dict[str, _Given]:
    known = {row.variable: name for name, row in SETTINGS_HELP.items()}
    given = {}
    for variable, text in environ.items():
        if variable in known and text:
            name = known[variable]
            given[name] = _Given(_checked_text(name, text, variable), variable)
        elif variable.startswith("FARM_"):
            _refuse_slip(variable, known)
    return given


def _refuse_slip(variable: str, known: Mapping[str, str]) -> None:
    """Any FARM_ name may be somebody's own, but for one that is nearly a setting's."""
    if variable in known or variable in CHILD_VARIABLES:
        return
    import difflib  # noqa: PLC0415 - only for a name that is nobody's

    if close := difflib.get_close_matches(variable, known, n=1, cutoff=0.8):
        raise ConfigError(
            f"{variable} is set in the environment, did you mean {close[0]}?"
            f" {variable} is no setting: rename or unset it"
        )


def _from_flags(flags: Mapping[str, object]) -> dict[str, _Given]:
    given = {}
    for name, value in flags.items():
        if name not in SETTINGS_HELP:
            raise ConfigError(f"there is no setting `{name}` for a flag{_known(name)}")
        if value is not None:
            flag = SETTINGS_HELP[name].flag
            read = _checked_text if isinstance(value, str) else _checked
            given[name] = _Given(read(name, value, flag), flag)
    return given


def _checked(name: str, value: object, subject: str) -> object:
    try:
        return READERS[name](value)
    except ValueError as error:
        raise ConfigError(f"{subject} {error}, not {shown(value)}") from None


def _checked_text(name: str, text: Any, subject: str) -> object:
    """A text from outside means what it would mean in farm.toml without quotes."""
    try:
        return READERS[name](meant(name, text))
    except ValueError as error:
        raise ConfigError(f"{subject} {error}, not {shown(text)}") from None


def _known(name: str) -> str:
    return (
        did_you_mean(name, SETTINGS_HELP) or f"; there are {', '.join(SETTINGS_HELP)}"
    )
