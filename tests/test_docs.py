"""What the README and the help say exists, and what exists is said."""

import re
from pathlib import Path

import click
import msgspec
import pytest

from farm.cli.verbs import VERBS, main
from farm.config import AGENTS, CHILD_VARIABLES, SETTINGS_HELP, Settings
from farm.task import Task

README = (Path(__file__).parent.parent / "README.md").read_text()
SETTINGS_TABLE = README.split("## Settings")[1].split("## ")[0]
SETTINGS = list(SETTINGS_HELP)


def command(verb: str) -> click.Command:
    found = main.get_command(click.Context(main), verb)
    assert found is not None
    return found


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_the_help_ends_with_a_block_headed_example(verb: str) -> None:
    found = command(verb) if verb else main
    text = found.get_help(click.Context(found, info_name=f"farm {verb}".strip()))

    assert re.fullmatch(r"  Example:\n(    \S.*\n?)+", text.rsplit("\n\n", 1)[1])


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_is_in_the_readme(verb: str) -> None:
    assert f"`farm {verb}" in README


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_in_its_help_with_a_sentence(verb: str) -> None:
    options = [p for p in command(verb).params if isinstance(p, click.Option)]

    assert all(option.help for option in options)


def test_the_list_of_commands_cuts_no_sentence_short() -> None:
    commands = main.get_help(click.Context(main)).split("Commands:")[1]

    assert "..." not in commands


def test_help_lists_the_commands_in_order_of_use() -> None:
    context = click.Context(main)
    text = main.get_help(context)
    places = [text.index(f"\n  {verb} ") for verb in VERBS]

    assert places == sorted(places)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_in_the_readme_with_its_variable(name: str) -> None:
    row = re.search(rf"^\| `{name}` \|.*$", SETTINGS_TABLE, re.MULTILINE)

    assert row is not None
    assert f"`{SETTINGS_HELP[name].variable}`" in row.group()


def test_every_field_of_the_settings_has_its_words() -> None:
    fields = [field.name for field in msgspec.structs.fields(Settings)]

    assert [*(row.field for row in SETTINGS_HELP.values()), AGENTS] == fields


def test_the_readme_names_no_setting_that_does_not_exist() -> None:
    named = re.findall(r"^\| `([\w.]+)` \|", SETTINGS_TABLE, re.MULTILINE)

    assert sorted(named) == sorted(SETTINGS)


@pytest.mark.parametrize(
    "field", msgspec.structs.fields(Task), ids=lambda f: f.encode_name
)
def test_every_key_of_a_task_is_in_the_readme(field: msgspec.structs.FieldInfo) -> None:
    assert f"`{field.encode_name}`" in README


@pytest.mark.parametrize("name", CHILD_VARIABLES)
def test_every_variable_that_children_get_is_in_the_readme(name: str) -> None:
    assert name in README


def test_the_readmes_first_command_is_within_its_first_15_lines() -> None:
    top = README.splitlines()[:15]

    assert any("scripts/run" in line for line in top)
    assert any("scripts/test" in line for line in top)
