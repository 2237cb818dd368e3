"""`farm init`: what a new project has, and that nothing of an old one changes."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from farm.cli.init import EXAMPLES, settings_text
from farm.config import SETTINGS_HELP, Settings, load_settings
from farm.errors import ConfigError
from farm.listing import Listing
from farm.project import Project
from farm.task import parse_task, task_schema
from tests.driver import Farm

Run = Callable[..., tuple[int, str, str]]

FILES = [
    "farm.toml",
    ".gitignore",
    "tasks/.schema.json",
    ".vscode/settings.json",
    "tasks/hello.json",
]


def everything(root: Path) -> dict[str, bytes]:
    """Every file of a project outside `.farm/`, with its bytes."""
    found = {str(p.relative_to(root)): p for p in root.rglob("*") if p.is_file()}
    return {n: p.read_bytes() for n, p in found.items() if not n.startswith(".farm/")}


def uncommented(text: str) -> str:
    """A farm.toml with the # before each setting removed."""
    return re.sub(r"^# (?=\w+ = )", "", text, flags=re.MULTILINE)


# -- what it makes -------------------------------------------------------------------


def test_it_prints_the_paths_it_made(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run("init")

    assert (code, out.split()) == (0, ["tasks/", ".farm/", *FILES])
    assert "next: farm supervise " in err


def test_what_it_prints_is_there(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, out, err = run("init", "a/b")

    assert out.split()[:3] == ["a/b/", "a/b/tasks/", "a/b/.farm/"]
    assert all(Path(name).exists() for name in out.split())
    assert "farm supervise a/b" in err


@pytest.mark.parametrize("after", [True, False])
def test_the_project_may_be_named_before_or_after_the_verb(
    run: Run, tmp_path: Path, after: bool
) -> None:
    root = tmp_path / "new"
    code, _, _ = run("init", root) if after else run("-C", root, "init")

    assert (code, sorted(everything(root))) == (0, sorted(FILES))


def test_naming_it_twice_is_wrong_usage_and_makes_nothing(
    run: Run, tmp_path: Path
) -> None:
    code, _, err = run("-C", tmp_path / "a", "init", tmp_path / "b")

    assert (code, "named twice" in err) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_aside(run: Run, tmp_path: Path) -> None:
    run("init", tmp_path)

    assert list((tmp_path / ".farm" / "tmp").iterdir()) == []


def test_git_ignores_what_farm_writes_and_keeps_what_people_write(
    run: Run, tmp_path: Path
) -> None:
    run("init", tmp_path)
    for name in ("tasks/t/a.json", "tasks/t/a.result.json", "tasks/b.result.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    shown = subprocess.run(
        [*git, "status", "--porcelain", "-uall"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert sorted(line[3:] for line in shown.stdout.splitlines()) == sorted(
        [*FILES, "tasks/t/a.json"]
    )


def test_the_schema_is_that_of_a_task(run: Run, tmp_path: Path) -> None:
    run("init", tmp_path)
    text = (tmp_path / "tasks" / ".schema.json").read_text()

    assert json.loads(text) == task_schema()


def test_the_editor_finds_the_schema_where_it_lies(run: Run, tmp_path: Path) -> None:
    run("init", tmp_path)
    settings = json.loads((tmp_path / ".vscode" / "settings.json").read_text())
    (schema,) = settings["json.schemas"]

    assert (tmp_path / schema["url"]).samefile(tmp_path / "tasks" / ".schema.json")


@pytest.mark.parametrize(
    ("name", "mapped"),
    [
        ("tasks/a.json", True),
        ("tasks/t/u/a.json", True),
        ("tasks/a.result.json", False),
        ("tasks/t/a.result.json", False),
        ("tasks/.schema.json", False),
        ("package.json", False),
    ],
)
def test_the_editor_checks_tasks_and_no_results(
    run: Run, tmp_path: Path, name: str, mapped: bool
) -> None:
    run("init", tmp_path)
    settings = json.loads((tmp_path / ".vscode" / "settings.json").read_text())

    assert is_mapped(name, settings["json.schemas"][0]["fileMatch"]) is mapped


def is_mapped(name: str, patterns: list[str]) -> bool:
    """As VS Code reads `fileMatch`: the last pattern that matches decides."""
    answer = False
    for pattern in patterns:
        glob = re.escape(pattern.removeprefix("!").removeprefix("/"))
        glob = glob.replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
        if re.fullmatch(f"(?:.*/)?{glob}", f"/home/ada/{name}"):
            answer = not pattern.startswith("!")
    return answer


def test_the_example_is_a_task_and_the_schema_is_none(run: Run, tmp_path: Path) -> None:
    run("init", tmp_path)
    listing = Listing(Project(tmp_path))
    listing.refresh()

    assert listing.tasks() == {"hello"}
    assert parse_task((tmp_path / "tasks" / "hello.json").read_bytes()).run


@pytest.mark.processes
def test_the_example_runs(farm: Farm) -> None:
    farm.farm("init", ".")

    assert farm.work() == 0
    assert farm.result("hello")["stdout"] == "hello from hello\n"


# -- farm.toml -----------------------------------------------------------------------


def settings_from(text: str, folder: Path) -> Settings:
    (folder / "farm.toml").write_text(text)
    return load_settings(folder / "farm.toml", {}, {})


def test_as_it_is_it_changes_nothing(tmp_path: Path) -> None:
    assert settings_from(settings_text(), tmp_path) == Settings()


def test_it_has_a_comment_for_every_setting() -> None:
    found = re.findall(r"^# (\w+) = ", settings_text(), re.MULTILINE)

    assert found == [name.rpartition(".")[2] for name in SETTINGS_HELP]


def test_uncommented_it_says_the_defaults(tmp_path: Path) -> None:
    said = settings_from(uncommented(settings_text()), tmp_path)
    examples = {SETTINGS_HELP[name].field for name in EXAMPLES}
    differ = {
        name
        for name in Settings.__struct_fields__
        if getattr(said, name) != getattr(Settings(), name)
    }

    assert differ == examples


@pytest.mark.parametrize("name", SETTINGS_HELP)
def test_each_line_works_alone(tmp_path: Path, name: str) -> None:
    lines = settings_text().splitlines()
    inner = name.rpartition(".")[2]
    number = next(i for i, line in enumerate(lines) if line.startswith(f"# {inner} ="))
    lines[number] = lines[number].removeprefix("# ")
    said = settings_from("\n".join(lines), tmp_path)
    default = getattr(Settings(), SETTINGS_HELP[name].field)

    assert (getattr(said, SETTINGS_HELP[name].field) == default) is (
        name not in EXAMPLES
    )


def test_examples_stand_only_where_the_default_is_no_value() -> None:
    without = [
        name
        for name, row in SETTINGS_HELP.items()
        if getattr(Settings(), row.field) is None
    ]

    assert list(EXAMPLES) == without


def test_its_lines_fit_a_page() -> None:
    assert max(map(len, settings_text().splitlines())) <= 88


def test_a_slip_in_it_is_said_with_its_line(tmp_path: Path) -> None:
    text = settings_text().replace("# retries = 0", "retires = 0")

    with pytest.raises(ConfigError, match=r"farm\.toml:5:1: unknown setting"):
        settings_from(text, tmp_path)


# -- what is there stays -------------------------------------------------------------


def test_twice_is_harmless_and_said(run: Run, tmp_path: Path) -> None:
    run("init", tmp_path)
    before = everything(tmp_path)
    code, out, err = run("init", tmp_path)

    assert (code, out) == (0, "")
    assert everything(tmp_path) == before
    assert err.count("left as it is: ") == 4


@pytest.mark.parametrize("name", FILES)
def test_what_exists_is_left_byte_for_byte(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"mine\xff")
    code, out, _ = run("init", tmp_path)

    assert code == 0
    assert (tmp_path / name).read_bytes() == b"mine\xff"
    assert f"{tmp_path}/{name}" not in out.split()


def test_a_link_that_leads_nowhere_is_left(run: Run, tmp_path: Path) -> None:
    (tmp_path / "farm.toml").symlink_to("elsewhere.toml")
    code, _, err = run("init", tmp_path)

    assert (code, f"left as it is: {tmp_path}/farm.toml" in err) == (0, True)
    assert not (tmp_path / "elsewhere.toml").exists()


def test_a_project_with_tasks_gets_no_example(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "a.json").write_text('{"run": "ls"}')
    run("init", tmp_path)

    assert not (tmp_path / "tasks" / "hello.json").exists()


def test_a_project_inside_another_is_its_own(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("init", tmp_path)
    inner = tmp_path / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    run("init")

    assert (inner / "farm.toml").exists()


@pytest.mark.parametrize("name", ["tasks", ".farm", ".vscode"])
def test_a_file_in_place_of_a_folder_is_said(
    run: Run, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).touch()
    code, _, err = run("init", tmp_path)

    assert (code, f"{tmp_path}/{name}" in err) == (1, True)
    assert "move away what is in its place" in err


def test_a_file_in_place_of_the_project_is_said(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    code, out, err = run("init", tmp_path / "a")

    assert (code, out, f"{tmp_path}/a" in err) == (1, "", True)


def test_a_full_disk_is_said_and_leaves_no_half_a_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Project.open(tmp_path)

    def full(fd: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("farm.disk.write_all", full)
    code, out, err = run("init", tmp_path)

    assert (code, out, "No space left on device" in err) == (1, "", True)
    assert everything(tmp_path) == {}
