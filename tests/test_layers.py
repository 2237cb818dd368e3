"""The module table in the README is a rule, not a wish."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import farm as package
from tests.driver import Farm

ROOT = Path(__file__).parent.parent
FARM = ROOT / "farm"
SELDOM_NEEDED = {  # each takes a millisecond or more to import, or imports what does
    "asyncio",
    "click",
    "concurrent",
    "difflib",
    "email",
    "farm.child",
    "farm.cli.verbs",
    "farm.hooks",
    "importlib.metadata",
    "importlib.resources",
    "logging",
    "multiprocessing",
    "pathlib",
    "psutil",
    "queue",
    "random",
    "rich",
    "secrets",
    "shutil",
    "socket",
    "statistics",
    "subprocess",
    "tempfile",
    "tomllib",
    "urllib.parse",
    "watchdog",
}


def table() -> dict[str, int]:
    """Module -> row, as the README says."""
    rows = {}
    section = (ROOT / "README.md").read_text().split("## Reading the code")[1]
    for number, cell in re.findall(r"^\| (\d+) \| (.*) \|$", section, re.MULTILINE):
        outside_brackets = re.sub(r"\([^)]*\)", "", cell)
        for name in re.findall(r"`(\w+)`", outside_brackets):
            rows[name] = int(number)
    return rows


def part(path: Path) -> str:
    """`farm/runners/shell.py` belongs to `runners`, `farm/cli/check.py` to `cli`."""
    inside = path.relative_to(FARM)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that runs; what stands under `if TYPE_CHECKING` does not."""
    for node in ast.iter_child_nodes(tree):
        if not is_type_checking(node):
            yield node
            yield from nodes(node)


def imported(source: str) -> set[str]:
    """The modules of farm that a source imports, dotted, without `farm.`."""
    found = set()
    for node in nodes(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "farm":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            "farm."
        ):
            found.add((node.module or "").removeprefix("farm."))
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            found |= {n.removeprefix("farm.") for n in names if n.startswith("farm.")}
    return found


def wrong(me: str, source: str, rows: dict[str, int]) -> list[str]:
    """What a module imports although its row forbids it."""
    others = {name.split(".")[0] for name in imported(source)} - {me}
    return [f"{me} imports {other}" for other in others if rows[other] >= rows[me]]


def test_imports_only_point_up_the_table() -> None:
    rows = table()
    found = [w for p in FARM.rglob("*.py") for w in wrong(part(p), p.read_text(), rows)]

    assert found == []


def test_a_planted_import_downwards_is_caught() -> None:
    planted = wrong("errors", "def f():\n    from farm.states import State\n", table())

    assert planted == ["errors imports states"]


def test_every_module_is_in_the_table_and_nothing_else() -> None:
    assert set(table()) == {part(path) for path in FARM.rglob("*.py")}


@pytest.mark.parametrize("runner", ["shell", "call", "agent"])
def test_runners_are_blind_to_each_other(runner: str) -> None:
    seen = imported((FARM / "runners" / f"{runner}.py").read_text())

    assert not {name for name in seen if name.startswith("runners")}


def test_the_supervisor_never_imports_the_worker() -> None:
    loaded = modules_after("import farm.supervisor")

    assert not loaded & {"farm.worker", "farm.work", "farm.runners"}


@pytest.mark.processes
def test_at_its_first_task_a_worker_has_imported_nothing_that_only_some_need(
    farm: Farm,
) -> None:
    farm.write("look.py", "import sys\n\ndef go():\n    return [*sys.modules]\n")
    farm.drop("first", call="look:go")
    farm.work()
    by_worker = set(farm.result("first")["value"])
    by_libraries = modules_after("import msgspec, orjson")

    assert "farm.runners.call" in by_worker
    assert (by_worker - by_libraries) & SELDOM_NEEDED == set()


def test_the_version_is_told_without_a_look_at_what_is_installed() -> None:
    loaded = modules_after("from farm.cli import run; run(['--version'])")

    assert package.__version__ in loaded  # printed before them
    assert "importlib.metadata" not in loaded


def test_a_verb_imports_no_other_verb() -> None:
    loaded = modules_after("import farm.cli.worker")
    verbs = {name for name in loaded if name.startswith("farm.cli.")}

    # `common` completes ids, as the verb `completion` does; `plain` is all but click.
    used = {"common", "completion", "plain", "streams"}
    assert verbs == {f"farm.cli.{name}" for name in ("worker", *used)}


def test_import_farm_loads_none_of_its_modules() -> None:
    assert not {n for n in modules_after("import farm") if n.startswith("farm.")}


def modules_after(statement: str) -> set[str]:
    """What a fresh Python has loaded after one statement."""
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())
