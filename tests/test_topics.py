"""Every code block of the README and of the guide's topics is true: it is run.

What a block is for is the word behind its fence. `json` is a task file, or a result
as farm writes it; `toml` is a farm.toml; `python` and `sh` run in a fresh project
with `farm` on the PATH, and end by themselves. All others are pictures and sample
output, and hold nothing that somebody might type. Blocks do not know each other.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from farm.agent import Agent
from farm.cli.help import TOPICS, WIDEST
from farm.cli.verbs import VERBS
from farm.config import CHILD_VARIABLES, SETTINGS_HELP, load_settings
from farm.errors import ConfigError, TaskFileError
from farm.result import Attempt, Error, Result, encode
from farm.states import Status, Why
from farm.task import Retries, Task, parse_task
from tests.driver import Farm

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "farm" / "topics"
PAGES = [ROOT / "README.md", *sorted(FOLDER.glob("*.md"))]
FENCED = re.compile(r"^```(.*)\n((?:.*\n)*?)^```$", re.MULTILINE)
SCRIPT = re.compile(r"^scripts/\S+", re.MULTILINE)  # the README's two: not run here
TYPED = re.compile(r"^(farm |\$ (?!scripts/)).*", re.MULTILINE)
LONGEST = 60  # seconds; blocks take one or two, but others may test at the same time


class Block(NamedTuple):
    """A fenced block of a page."""

    place: str  #: `control.md:42`, the line of the fence
    language: str
    text: str


def blocks(path: Path) -> list[Block]:
    """All fenced blocks of a page."""
    text = path.read_text()
    return [
        Block(f"{path.name}:{text.count(chr(10), 0, m.start()) + 1}", m[1], m[2])
        for m in FENCED.finditer(text)
    ]


def written(language: str) -> list[object]:
    """Every block of a language, as parameters with their places as ids."""
    every = [block for path in PAGES for block in blocks(path)]
    return [pytest.param(b, id=b.place) for b in every if b.language == language]


# -- what must be true of a block ----------------------------------------------------


def check_json(text: str) -> None:
    """Raise unless it is a task file, or a result just as farm would write it."""
    if "status" not in json.loads(text):
        parse_task(text.encode())
        return
    result = msgspec.json.decode(text, type=Result)

    assert json.loads(encode(result)) == json.loads(text)


def check_toml(text: str, folder: Path) -> None:
    """Raise ConfigError unless it is a farm.toml."""
    (folder / "farm.toml").write_text(text)
    load_settings(folder / "farm.toml", {}, {})


def check_sh(text: str, farm: Farm, environ: Mapping[str, str]) -> None:
    """Raise unless bash runs it to its end without an error."""
    for script in SCRIPT.findall(text):
        assert os.access(ROOT / script, os.X_OK), f"{script} cannot be executed"
    typed = re.sub(SCRIPT, ": ", text)
    run_in(farm, ["bash", "-euo", "pipefail", "-c", typed], environ)


def check_python(text: str, farm: Farm, environ: Mapping[str, str]) -> None:
    """Raise unless Python runs it to its end."""
    program = farm.write("program.py", text)  # a file, for workers may import it
    run_in(farm, [sys.executable, str(program)], environ)


def run_in(farm: Farm, command: list[str], environ: Mapping[str, str]) -> None:
    said = farm.root.with_name("said.log")
    with said.open("wb") as log:  # no pipe: what is left running would hold it open
        done = subprocess.run(
            command,
            cwd=farm.root,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            timeout=LONGEST,
            check=False,
        )

    assert done.returncode == 0, said.read_text()


def check_picture(text: str) -> None:
    """Raise if somebody might type a line of it."""
    assert TYPED.findall(text) == []


@pytest.fixture
def environ(farm: Farm, tmp_path: Path) -> dict[str, str]:
    """What a reader has: a project to stand in, and `farm` on the PATH."""
    (farm.root / "farm.toml").touch()
    program = tmp_path / "bin" / "farm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m farm "$@"\n')
    program.chmod(0o755)
    folders = (str(program.parent), str(Path(sys.executable).parent))
    path = os.pathsep.join((*folders, os.environ["PATH"]))
    # By FARM_PROJECT the fixture finds, and ends, whatever a block leaves running.
    return farm.environ | {"PATH": path, "FARM_PROJECT": str(farm.root)}


# -- the blocks ----------------------------------------------------------------------


@pytest.mark.parametrize("block", written("json"))
def test_every_task_and_result_is_one(block: Block) -> None:
    check_json(block.text)


@pytest.mark.parametrize("block", written("toml"))
def test_every_farm_toml_is_one(block: Block, tmp_path: Path) -> None:
    check_toml(block.text, tmp_path)


@pytest.mark.processes
@pytest.mark.parametrize("block", written("sh"))
def test_every_command_can_be_typed(
    block: Block, farm: Farm, environ: dict[str, str]
) -> None:
    if "jq " in block.text and shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    check_sh(block.text, farm, environ)


@pytest.mark.processes
@pytest.mark.parametrize("block", written("python"))
def test_every_program_runs(block: Block, farm: Farm, environ: dict[str, str]) -> None:
    check_python(block.text, farm, environ)


@pytest.mark.parametrize("block", [*written("text"), *written("")])
def test_pictures_hold_nothing_that_can_be_typed(block: Block) -> None:
    check_picture(block.text)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_block_says_a_language_that_is_checked(path: Path) -> None:
    known = {"json", "toml", "sh", "python", "text", ""}

    assert {block.language for block in blocks(path)} <= known


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_fence_belongs_to_a_block(path: Path) -> None:
    fences = re.findall(r"^\s*```", path.read_text(), re.MULTILINE)

    assert len(fences) == 2 * len(blocks(path))


@pytest.mark.parametrize("path", PAGES[1:], ids=lambda path: path.name)
def test_no_line_of_code_is_wrapped_on_a_wide_terminal(path: Path) -> None:
    every = [block for block in blocks(path) if block.language not in ("text", "")]
    lines = [line for block in every for line in block.text.splitlines()]

    assert [line for line in lines if len(line) > WIDEST - 2] == []


# -- the checks can fail ---------------------------------------------------------------


def test_blocks_are_found_with_their_line_and_language(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A\n\n```sh\nls\n```\n\n```\n\n```\n")

    assert blocks(page) == [
        Block("page.md:3", "sh", "ls\n"),
        Block("page.md:7", "", "\n"),
    ]


def test_a_planted_unknown_key_is_caught() -> None:
    with pytest.raises(TaskFileError, match="did you mean `run`"):
        check_json('{"runn": "make"}')


def test_a_planted_unknown_field_of_an_attempt_is_caught(farm: Farm) -> None:
    farm.drop("bad", run="exit 3")
    farm.work()
    result = farm.result("bad")
    check_json(json.dumps(result))
    result["attempts"][0]["colour"] = "red"

    with pytest.raises(AssertionError):
        check_json(json.dumps(result))


def test_a_planted_unknown_setting_is_caught(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean `workers`"):
        check_toml("workerz = 3\n", tmp_path)


@pytest.mark.parametrize(
    "text", ["farm statuss\n", "farm check | cat\n: | farm chekc\n", "scripts/runn\n"]
)
def test_a_planted_unknown_command_is_caught(
    text: str, farm: Farm, environ: dict[str, str]
) -> None:
    with pytest.raises(AssertionError):
        check_sh(text, farm, environ)


def test_a_planted_unknown_name_is_caught(farm: Farm, environ: dict[str, str]) -> None:
    with pytest.raises(AssertionError, match="ImportError"):
        check_python("from farm import no_such_name\n", farm, environ)


@pytest.mark.parametrize("text", ["farm status\n", "as in\n$ ls\n"])
def test_planted_commands_in_a_picture_are_caught(text: str) -> None:
    with pytest.raises(AssertionError):
        check_picture(text)


# -- nothing is left out -----------------------------------------------------------------


def topic(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text()


def fields(*records: type[msgspec.Struct]) -> list[str]:
    every = [field for record in records for field in msgspec.structs.fields(record)]
    return sorted({field.encode_name for field in every})


def test_every_topic_has_its_file_and_every_file_its_topic() -> None:
    assert sorted(TOPICS) == sorted(path.stem for path in FOLDER.iterdir())


@pytest.mark.parametrize("key", fields(Task, Retries))
def test_every_key_is_in_tasks(key: str) -> None:
    assert f"`{key}`" in topic("tasks")


@pytest.mark.parametrize("name", CHILD_VARIABLES)
def test_every_variable_of_a_child_is_in_tasks(name: str) -> None:
    assert f"`{name}`" in topic("tasks")


@pytest.mark.parametrize("field", fields(Result, Attempt, Error))
def test_every_field_is_in_results(field: str) -> None:
    assert f"`{field}`" in topic("results")


@pytest.mark.parametrize("word", sorted({*Status, *Why}))
def test_every_way_to_end_is_in_results(word: str) -> None:
    assert f"`{word}`" in topic("results")


@pytest.mark.parametrize("name", SETTINGS_HELP)
def test_every_setting_is_in_settings_with_its_variable_and_default(name: str) -> None:
    row = re.search(rf"^\| `{name}` \|.*$", topic("settings"), re.MULTILINE)

    assert row is not None
    assert f"`{SETTINGS_HELP[name].variable}`" in row.group()
    assert f"| {SETTINGS_HELP[name].default} |" in row.group().replace("`", "")


@pytest.mark.parametrize("key", fields(Agent))
def test_every_key_of_an_agent_is_in_agents(key: str) -> None:
    assert f"`{key}`" in topic("agents")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_in_control(verb: str) -> None:
    assert f"`farm {verb}" in topic("control")
