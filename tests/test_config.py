import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from farm.config import (
    AGENTS,
    CHILD_VARIABLES,
    LEAST_OUTPUT,
    SETTINGS_HELP,
    Settings,
    load_settings,
    usable_cpus,
)
from farm.errors import ConfigError

NOTHING: dict[str, str] = {}


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "farm.toml"


def loaded(
    path: Path,
    text: str | bytes = "",
    environ: Mapping[str, str] = NOTHING,
    **flags: object,
) -> Settings:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_settings(path, environ, flags)


def refused(
    path: Path,
    text: str | bytes = "",
    environ: Mapping[str, str] = NOTHING,
    **flags: object,
) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(path, text, environ, **flags)
    return str(caught.value)


# -- which source wins ---------------------------------------------------------------


def test_a_missing_file_says_nothing(toml: Path) -> None:
    assert load_settings(toml, {}, {}) == Settings()


def test_an_empty_file_says_nothing(toml: Path) -> None:
    assert loaded(toml) == Settings()


def test_the_file_sets_every_setting(toml: Path) -> None:
    text = """
        workers = 4
        timeout = "1h30m"
        retries = 2
        max_lost = 5
        grace = 0
        heartbeat = 0.5
        heartbeat_timeout = "2m"
        durability = "never"
        inline_output = "1MiB"
        trust = true
    """

    assert loaded(toml, text) == Settings(
        workers=4,
        timeout=5400.0,
        retries=2,
        max_lost=5,
        grace=0.0,
        heartbeat=0.5,
        heartbeat_timeout=120.0,
        durability="never",
        inline_output=1024 * 1024,
        trust=True,
    )


def test_a_variable_overrides_the_file(toml: Path) -> None:
    assert loaded(toml, "workers = 1", {"FARM_WORKERS": "2"}).workers == 2


def test_a_flag_overrides_a_variable(toml: Path) -> None:
    settings = loaded(toml, "workers = 1", {"FARM_WORKERS": "2"}, workers=3)

    assert settings.workers == 3


def test_a_flag_that_is_none_was_not_given(toml: Path) -> None:
    assert loaded(toml, "workers = 1", workers=None).workers == 1


def test_an_empty_variable_is_not_set(toml: Path) -> None:
    assert loaded(toml, "workers = 1", {"FARM_WORKERS": ""}).workers == 1


def test_a_wrong_value_is_refused_also_where_it_is_overridden(toml: Path) -> None:
    assert ":1:1: `workers`" in refused(toml, "workers = 0", workers=3)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("workers", "8", 8),
        ("timeout", "90", 90.0),
        ("timeout", "1.5", 1.5),
        ("timeout", "15m", 900.0),
        ("durability", "always", "always"),
        ("inline_output", "0", 0),
        ("inline_output", "16 KiB", 16384),
        ("max_output", "10 MiB", 10 * 1024**2),
        ("idle_timeout", "20m", 1200.0),
        ("idle_timeout", "0", 0.0),
        ("trust", "true", True),
        ("trust", "Yes", True),
        ("trust", "1", True),
        ("trust", "FALSE", False),
        ("trust", "no", False),
        ("trust", "0", False),
        ("trust", "/one:/two", ("/one", "/two")),
    ],
)
def test_a_variable_is_read_as_a_shell_writes_it(
    toml: Path, name: str, text: str, value: object
) -> None:
    settings = loaded(toml, environ={f"FARM_{name.upper()}": text})

    assert getattr(settings, name) == value
    assert type(getattr(settings, name)) is type(value)


def test_a_flag_may_be_text(toml: Path) -> None:
    assert loaded(toml, heartbeat_timeout="5m").heartbeat_timeout == 300.0


# -- what is refused, and in which words -----------------------------------------------


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("workrs = 4", "1:1", "unknown setting `workrs`, did you mean `workers`?"),
        ("\n  zzz = 4", "2:3", "unknown setting `zzz`; there are workers, timeout"),
        ("[agents.ask]", "1:9", "[agents.ask]: an agent of kind `command` needs"),
        ("agents = 3", "1:1", "`agents` must be tables such as [agents.ask]"),
        ("[agents]\nask = 3", "2:1", "[agents.ask]: an agent is a table of settings"),
        (
            '[agents.ask]\nkind = "messages"\n[agents.b]\npreset = "claude"\nmax_turnz = 6',
            "5:1",
            "[agents.b]: unknown key `max_turnz`, did you mean `max_turns`?",
        ),
        (
            '[agents.ask]\nkind = "openai"\nbase_url = "here"',
            "3:1",
            "[agents.ask]: `base_url` must begin with https:// or http://",
        ),
        (
            '[agents.ask]\nkind = "messages"\nmax_turns = 3',
            "3:1",
            "[agents.ask]: `max_turns` is for agents of kind `command`",
        ),
        (
            "grace = 1\nworkers = 0",
            "2:1",
            "must be a whole number of at least 1, not 0",
        ),
        ("workers = true", "1:1", "must be a whole number of at least 1, not true"),
        ('workers = "4"', "1:1", 'must be a whole number of at least 1, not "4"'),
        ("workers = 1.5", "1:1", "not 1.5"),
        ("[workers]\nmax = 1", "1:2", "not an object"),
        ("workers.max = 1", "1:1", "not an object"),
        ("'workers' = -1", "1:1", "not -1"),
        ("retries = -1", "1:1", "must be a whole number of at least 0, not -1"),
        ("max_lost = 0", "1:1", "must be a whole number of at least 1, not 0"),
        ("timeout = 0", "1:1", "must be above 0 seconds, not 0"),
        ("timeout = -1", "1:1", "must be at least 0 seconds, not -1"),
        ("timeout = inf", "1:1", "must be at most 1000000000 seconds, not inf"),
        ("timeout = nan", "1:1", "not nan"),
        ("timeout = true", "1:1", 'such as "90s" "15m" "1h30m", not true'),
        ("timeout = 2026-11-21", "1:1", 'not "2026-11-21"'),
        ("grace = -0.5", "1:1", "must be at least 0 seconds, not -0.5"),
        ("heartbeat = 0", "1:1", "must be above 0 seconds, not 0"),
        ('durability = "often"', "1:1", 'must be "auto", "always" or "never", not'),
        ("durability = [1]", "1:1", "not a list"),
        ("inline_output = -1", "1:1", "must be a number of bytes or a size such as"),
        ('inline_output = "16 KB"', "1:1", 'not "16 KB"'),
        ('inline_output = "2 GiB"', "1:1", "at most 1 GiB"),
        ("inline_output = true", "1:1", "not true"),
        ("trust = 1", "1:1", "must be true or false, not 1"),
        ("workers =", "1:10", "this is not TOML: Invalid value"),
        ("workers = [", "1:12", "this is not TOML: Invalid value"),
        ("workers = 1\nworkers = 2", "2:12", "this is not TOML"),
        (b"# ok\n# \xff", "2", "not UTF-8"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_wrong_line_of_the_file_is_refused_at_its_place(
    toml: Path, text: str | bytes, place: str, words: str
) -> None:
    message = refused(toml, text)

    assert message.startswith(f"{toml}:{place}: ")
    assert words in message


def test_an_integer_beyond_all_limits_is_no_toml(toml: Path) -> None:
    assert "this is not TOML" in refused(toml, "retries = " + "9" * 5000)


def test_a_file_that_cannot_be_read_is_refused(toml: Path) -> None:
    toml.mkdir()

    with pytest.raises(ConfigError, match=r"cannot read .*farm\.toml: Is a directory"):
        load_settings(toml, {}, {})


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("FARM_WORKERS", "many", 'must be a whole number of at least 1, not "many"'),
        ("FARM_WORKERS", "0", 'must be a whole number of at least 1, not "0"'),
        ("FARM_RETRIES", "1.5", 'must be a whole number of at least 0, not "1.5"'),
        (
            "FARM_TRUST",
            "maybe",
            'must be true, false, or absolute paths joined by `:`, not "maybe"',
        ),
        ("FARM_TIMEOUT", "nan", 'not "nan"'),
        ("FARM_GRACE", "-1", 'must be at least 0 seconds, not "-1"'),
        ("FARM_DURABILITY", "1", 'not "1"'),
    ],
)
def test_a_wrong_variable_is_refused_by_its_name_and_value(
    toml: Path, variable: str, text: str, words: str
) -> None:
    message = refused(toml, environ={variable: text})

    assert message.startswith(f"{variable} ")
    assert words in message


def test_a_wrong_flag_is_refused_by_its_name(toml: Path) -> None:
    message = refused(toml, heartbeat_timeout="soon")

    assert message.startswith("--heartbeat-timeout must be a number of seconds")


def test_a_flag_without_a_setting_is_refused(toml: Path) -> None:
    assert "did you mean `workers`?" in refused(toml, worker=3)


@pytest.mark.parametrize("heartbeat", ["30", "60"])
def test_a_heartbeat_timeout_is_more_than_two_heartbeats(
    toml: Path, heartbeat: str
) -> None:
    message = refused(toml, "heartbeat_timeout = 60", {"FARM_HEARTBEAT": heartbeat})

    assert message == (
        f"`heartbeat_timeout` (60 s, from {toml}:1:1) must be more than twice"
        f" `heartbeat` ({heartbeat} s, from FARM_HEARTBEAT): change one of them"
    )


@pytest.mark.parametrize(
    ("variable", "setting"),
    [
        ("FARM_WORKERSS", "FARM_WORKERS"),
        ("FARM_HEARTBEATS", "FARM_HEARTBEAT"),
        ("FARM_MAXLOST", "FARM_MAX_LOST"),
        ("FARM_DURABILTY", "FARM_DURABILITY"),
    ],
)
def test_a_variable_that_is_nearly_a_setting_is_refused(
    toml: Path, variable: str, setting: str
) -> None:
    message = refused(toml, environ={variable: "1"})

    assert message.startswith(f"{variable} is set in the environment")
    assert f"did you mean {setting}?" in message


@pytest.mark.parametrize(
    "variable", [*CHILD_VARIABLES, "FARM_MINE", "FARMS", "WORKERS"]
)
def test_a_variable_that_is_no_setting_is_ignored(toml: Path, variable: str) -> None:
    assert loaded(toml, environ={variable: "x"}) == Settings()


# -- what people read ------------------------------------------------------------------


def test_every_setting_has_a_row_of_help() -> None:
    fields = [row.field for row in SETTINGS_HELP.values()]

    assert [*fields, AGENTS] == list(Settings.__struct_fields__)


def test_no_setting_has_the_name_of_what_children_get() -> None:
    assert not {row.variable for row in SETTINGS_HELP.values()} & set(CHILD_VARIABLES)


@pytest.mark.parametrize("name", SETTINGS_HELP)
def test_the_default_that_people_read_is_the_default(toml: Path, name: str) -> None:
    row = SETTINGS_HELP[name]
    if getattr(Settings(), row.field) is None:
        assert row.default in {"none", "usable CPUs", "10m for prompts"}
    else:
        assert loaded(toml, environ={row.variable: row.default}) == Settings()


def test_a_setting_of_a_table_is_read_from_it(toml: Path) -> None:
    text = (
        '[logs]\nkeep = "7d"\nmax_total = "10 GiB"\n[hooks]\non_done = ["mail", "me"]'
    )
    settings = loaded(toml, text)

    assert (settings.logs_keep, settings.logs_max_total) == (7 * 86_400, 10 * 1024**3)
    assert settings.hooks_on_done == ("mail", "me")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("retries = 1\n[logs]\nkeeep = 1", ":3:1: unknown setting `logs.keeep`"),
        ("[logs]\nmax_total = 1\nkeep = -1", ":3:1: `logs.keep` must be"),
        ("logs.keep = -1", ":1:6: `logs.keep` must be"),
        ("logs = {max_total = 1, keep = -1}", ":1:24: `logs.keep` must be"),
        ("keep = 1", ":1:1: unknown setting `keep`"),
        ("logs = 3", ":1:1: unknown setting `logs`"),
        ('[hooks]\non_done = ""', ":2:1: `hooks.on_done` must be a command"),
        ("[hooks]\non_done = []", ":2:1: `hooks.on_done` must be a command"),
        ('[hooks]\non_done = ["a", 1]', ":2:1: `hooks.on_done` must be a command"),
    ],
)
def test_a_wrong_setting_of_a_table_is_named_with_its_place(
    toml: Path, text: str, place: str
) -> None:
    assert place in refused(toml, text)


def test_a_setting_of_a_table_has_a_variable(toml: Path) -> None:
    assert loaded(toml, environ={"FARM_LOGS_KEEP": "90s"}).logs_keep == 90.0


def test_a_setting_is_named_alike_everywhere() -> None:
    row = SETTINGS_HELP["heartbeat_timeout"]

    assert (row.variable, row.flag) == ("FARM_HEARTBEAT_TIMEOUT", "--heartbeat-timeout")


def test_usable_cpus_are_those_that_this_process_may_use() -> None:
    assert usable_cpus() == len(os.sched_getaffinity(0))


def test_settings_cannot_be_changed() -> None:
    settings = Settings()

    with pytest.raises(AttributeError):
        settings.workers = 3  # type: ignore[misc]  # the point of the test

    assert settings == msgspec.structs.replace(settings)


def test_what_an_attempt_may_print_lies_between_bounds(toml: Path) -> None:
    settings = loaded(toml, 'max_output = "1 GiB"\nlogs.max_total = "10 MiB"')
    assert settings.most_output(None) == 10 * 1024**2
    assert settings.most_output(1024**2) == 1024**2
    assert settings.most_output(1) == LEAST_OUTPUT


def test_an_agents_silence_is_read_as_a_duration(toml: Path) -> None:
    text = '[agents.a]\npreset = "claude"\nidle_timeout = "20m"'
    assert loaded(toml, text).agents["a"].idle_timeout == 1200.0
    assert "`idle_timeout` must be" in refused(toml, text.replace("20m", "20 min"))
