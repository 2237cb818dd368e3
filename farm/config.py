"""All settings: defaults, farm.toml, FARM_* variables, flags; later ones win.

`load_settings` is called once by a command; everybody else is handed the frozen
record. Each source is checked whole, also where a later one overrides it: a wrong
value is an error today, not on the day when the flag is left out. The error is a
`ConfigError`: which source, the line and column in farm.toml, what is allowed.

A setting is a field of `Settings`, a reader in `_READERS` and a row of
`SETTINGS_HELP`. Its variable is FARM_ and the field's name in capitals, its flag `--`
and its name. A setting named `logs.keep` stands as `keep` in the table `[logs]` of
farm.toml, and its field is `logs_keep`. What children find in their environment is in
`CHILD_VARIABLES`, and none of it is ever a setting.

Agents are tables of their own, `[agents.NAME]`, and only farm.toml has them; what one may
say is `farm.agent.Agent`.
"""

import os
import re
import stat
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from farm import duration
from farm.agent import Agent, read_agent
from farm.errors import ConfigError
from farm.locate import NOWHERE, Place, did_you_mean, place_of, shown
from farm.refusal import RefusedError

Durability = Literal["auto", "always", "never"]
FilePath = str | os.PathLike[str]
Hook = str | tuple[str, ...]  #: a command: for `sh -c`, or a list of words

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
    trust: bool = False
    default_agent: str | None = None
    logs_keep: float = 30 * 86_400.0  #: seconds
    logs_max_total: int = 1024**3  #: bytes
    hooks_on_failure: Hook | None = None
    hooks_on_done: Hook | None = None
    agents: Mapping[str, Agent] = {}

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
        Help("trust", "false", "run tasks from a folder that others can write"),
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
    text = _text_of(toml_path)
    table = _table(toml_path, text)
    agents = _agents(toml_path, text, table.pop(AGENTS, {}))
    given = _from_file(toml_path, text, table)
    given |= _from_environ(environ) | _from_flags(flags)
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


def _from_file(path: FilePath, text: str, table: dict[str, Any]) -> dict[str, _Given]:
    given = {}
    for name, value in _flat(table).items():
        where = _located(path, _place_of(text, *name.split(".", 1)))
        if name not in SETTINGS_HELP:
            raise ConfigError(f"{where}: unknown setting `{name}`{_known(name)}")
        given[name] = _Given(_checked(name, value, f"{where}: `{name}`"), where)
    return given


def _agents(path: FilePath, text: str, tables: object) -> dict[str, Agent]:
    if not isinstance(tables, dict):
        where = _located(path, _place_of(text, AGENTS))
        raise ConfigError(f"{where}: `agents` must be tables such as [agents.ask]")
    agents = {}
    for name, table in tables.items():
        try:
            agents[name] = read_agent(table)
        except RefusedError as refused:
            keys = [AGENTS, name, *(str(step) for step in refused.path[:1])]
            where = _located(path, _place_of(text, *keys))
            message = f"{where}: [agents.{name}]: {refused.sentence}"
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
        return _READERS[name](value)
    except ValueError as error:
        raise ConfigError(f"{subject} {error}, not {shown(value)}") from None


def _checked_text(name: str, text: Any, subject: str) -> object:
    """A text from outside means what it would mean in farm.toml without quotes."""
    try:
        return _READERS[name](_meant(text, _READERS[name]))
    except ValueError as error:
        raise ConfigError(f"{subject} {error}, not {shown(text)}") from None


def _meant(text: str, reader: Callable[[object], object]) -> object:
    if reader is _yes_or_no:
        return _TRUTHS.get(text.lower(), text)
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue  # not this kind of number; what is none stays text
    return text


def _known(name: str) -> str:
    return (
        did_you_mean(name, SETTINGS_HELP) or f"; there are {', '.join(SETTINGS_HELP)}"
    )


# -- farm.toml as text ------------------------------------------------------------


def _text_of(path: FilePath) -> str:
    try:
        if stat.S_ISFIFO(os.stat(path).st_mode):  # who opened it would wait for ever
            raise ConfigError(f"cannot read {path}: it is a FIFO")
        with open(path, "rb") as file:
            return file.read().decode()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8: save it as UTF-8") from None


def _table(path: FilePath, text: str) -> dict[str, Any]:
    if not text:
        return {}
    import tomllib  # noqa: PLC0415 - most projects have no farm.toml

    try:
        return tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, or an integer beyond all limits
        words, _, where = str(error).partition(" (at ")
        numbers = [int(number) for number in re.findall("[0-9]+", where)]
        # Without numbers it is the end of the document.
        place = Place(*numbers) if numbers else place_of(text, len(text))
        message = f"{_located(path, place)}: this is not TOML: {words}"
        raise ConfigError(message) from None


def _flat(table: dict[str, Any]) -> dict[str, Any]:
    """The same with `{"logs": {"keep": 1}}` as `{"logs.keep": 1}`."""
    flat: dict[str, Any] = {}
    for name, value in table.items():
        if name in _TABLES and isinstance(value, dict):
            flat |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            flat[name] = value
    return flat


def _place_of(text: str, outer: str, *inner: str) -> Place:
    """Where a setting stands: in its table, or else where its table is named."""
    start = _offset_of_key(text, outer, r"^[ \t\[]*")
    for name in inner:
        if start >= 0:
            start = max(start, _offset_of_key(text, name, r"(?:^|[.{,])[ \t]*", start))
    return place_of(text, start) if start >= 0 else NOWHERE


def _offset_of_key(text: str, name: str, before: str, start: int = 0) -> int:
    """Where a key stands for the first time from `start` on; -1 if nowhere."""
    shape = rf"{before}(?P<key>([\"']?){re.escape(name)}\2)[ \t]*[=.\]]"
    found = re.compile(shape, re.MULTILINE).search(text, start)
    return found.start("key") if found else -1


def _located(path: FilePath, place: Place) -> str:
    return f"{path}:{place.line}:{place.column}" if place != NOWHERE else str(path)


# -- reading one value ------------------------------------------------------------
# A reader returns what `Settings` keeps, or raises ValueError in words that follow
# a name: "must be ...".


def _whole(least: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"must be a whole number of at least {least}")
        return value

    return read


def _above_zero(value: object) -> float:
    found = duration.seconds(value)
    if found == 0.0:
        raise ValueError(_MUST_BE["above_zero"])
    return found


def _durability(value: object) -> Durability:
    if value not in ("auto", "always", "never"):
        raise ValueError(_MUST_BE["durability"])
    return value


def _size(most: str) -> Callable[[object], int]:
    must_be = f'must be a number of bytes or a size such as "16 KiB", at most 1 {most}'

    def read(value: object) -> int:
        found = _SIZE.fullmatch(value) if isinstance(value, str) else None
        number = int(found[1]) * _UNITS[found[2]] if found else value
        if isinstance(number, bool) or not isinstance(number, int):
            raise ValueError(must_be)  # noqa: TRY004 - one error for all of them
        if not 0 <= number <= _UNITS[most]:
            raise ValueError(must_be)
        return number

    return read


def _command(value: object) -> Hook:
    words = (value,) if isinstance(value, str) else value
    if (
        not isinstance(words, list | tuple)
        or not words
        or not all(map(_is_word, words))
    ):
        raise ValueError(_MUST_BE["command"])
    return value if isinstance(value, str) else tuple(words)


def _is_word(value: object) -> bool:
    return isinstance(value, str) and bool(value) and "\0" not in value


def _name(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(_MUST_BE["name"])
    return value


def _yes_or_no(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(_MUST_BE["yes_or_no"])  # noqa: TRY004 - as above
    return value


_MUST_BE = {
    "above_zero": "must be above 0 seconds",
    "durability": 'must be "auto", "always" or "never"',
    "command": 'must be a command such as "notify.sh" or ["mail", "me"]',
    "name": 'must be a name such as "ask"',
    "yes_or_no": "must be true or false",
}
_TRUTHS = dict.fromkeys(("true", "yes", "1"), True) | dict.fromkeys(
    ("false", "no", "0"), False
)
_UNITS = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}  # bytes
_SIZE = re.compile(r"([0-9]{1,9}) ?(KiB|MiB|GiB|TiB)")

_READERS: dict[str, Callable[[object], object]] = {
    "workers": _whole(least=1),
    "timeout": _above_zero,
    "retries": _whole(least=0),
    "max_lost": _whole(least=1),  # with 0 even a task that never vanished is lost
    "max_wait": duration.seconds,
    "grace": duration.seconds,
    "heartbeat": _above_zero,
    "heartbeat_timeout": _above_zero,
    "durability": _durability,
    "inline_output": _size("GiB"),
    "trust": _yes_or_no,
    "default_agent": _name,
    "logs.keep": duration.seconds,
    "logs.max_total": _size("TiB"),
    "hooks.on_failure": _command,
    "hooks.on_done": _command,
}
