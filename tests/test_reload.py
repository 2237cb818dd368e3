"""Whether the project's own modules changed since a task imported them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

from farm.reload import PAUSE, Modules, forget_folders

LONG_AGO = 1_000_000_000  # POSIX seconds
BEGUN = 1_500_000_000.0  # POSIX seconds: when the importing task began


class Imports:
    """Pretends to import modules; `modules` watches those of the project."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.modules = Modules(str(folder / "project"))
        self._patch = monkeypatch
        self._tick = 0.0

    def add(self, name: str = "project/render.py", changed: float = LONG_AGO) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1")
        os.utime(path, (changed, changed))
        module = ModuleType(f"pretended_{path.stem}")
        module.__file__ = str(path)
        self._patch.setitem(sys.modules, module.__name__, module)
        self.modules.note(BEGUN)
        return path

    def changed(self) -> str | None:
        self._tick += PAUSE
        return self.modules.changed(self._tick)


@pytest.fixture
def imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Imports:
    return Imports(tmp_path, monkeypatch)


def test_nothing_changed_before_anything_was_imported(imports: Imports) -> None:
    assert imports.changed() is None


def test_an_untouched_module_did_not_change(imports: Imports) -> None:
    imports.add()

    assert imports.changed() is None


def test_an_edited_module_is_named(imports: Imports) -> None:
    path = imports.add()
    path.write_text("x = 1234")

    assert imports.changed() == str(path)


def test_an_edit_of_the_same_size_is_seen(imports: Imports) -> None:
    path = imports.add()
    path.write_text("x = 2")

    assert imports.changed() == str(path)


def test_a_deleted_module_changed(imports: Imports) -> None:
    path = imports.add()
    path.unlink()

    assert imports.changed() == str(path)


def test_a_change_is_told_until_the_worker_starts_afresh(imports: Imports) -> None:
    path = imports.add()
    path.write_text("x = 1234")

    assert [imports.changed(), imports.changed()] == [str(path)] * 2


@pytest.mark.parametrize("changed", [BEGUN, BEGUN + 1.0])
def test_a_module_that_changed_during_its_import_is_taken_for_changed(
    imports: Imports, changed: float
) -> None:
    path = imports.add(changed=changed)

    assert imports.changed() == str(path)


def test_every_module_is_watched_from_the_task_that_imported_it(
    imports: Imports,
) -> None:
    imports.add("project/first.py")
    second = imports.add("project/package/second.py")
    before = imports.changed()
    second.write_text("x = 1234")

    assert (before, imports.changed()) == (None, str(second))


@pytest.mark.parametrize(
    "name",
    [
        "elsewhere/other.py",
        "project2/other.py",
        "project/.venv/lib/site-packages/other.py",
    ],
)
def test_modules_of_others_are_not_watched(imports: Imports, name: str) -> None:
    imports.add(name).write_text("x = 1234")

    assert imports.changed() is None


def test_a_project_behind_a_link_is_watched(imports: Imports) -> None:
    (imports.folder / "project").mkdir()
    (imports.folder / "door").symlink_to("project")
    imports.modules = Modules(str(imports.folder / "door"))
    path = imports.add()
    path.write_text("x = 1234")

    assert imports.changed() == str(path)


def test_two_looks_are_half_a_second_apart(imports: Imports) -> None:
    path = imports.add()
    said = [imports.modules.changed(100.0)]
    path.write_text("x = 1234")
    said += [imports.modules.changed(100.0 + PAUSE / 2)]
    said += [imports.modules.changed(100.0 + PAUSE)]

    assert said == [None, None, str(path)]


# -- files that are younger than the last look ---------------------------------------------


@pytest.fixture
def young(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that Python looked into when it was empty, and which seems unchanged."""
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_spec("younger") is None
    then = tmp_path.stat()
    (tmp_path / "younger.py").write_text("ANSWER = 42\n")
    os.utime(tmp_path, ns=(then.st_atime_ns, then.st_mtime_ns))
    assert find_spec("younger") is None, "Python believes the time of the folder"
    yield tmp_path
    sys.modules.pop("younger", None)


def test_a_file_that_is_younger_than_the_last_look_is_found(young: Path) -> None:
    forget_folders()

    assert import_module("younger").ANSWER == 42


def test_a_folder_that_is_younger_than_the_last_look_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path / "later"))
    assert find_spec("in_later") is None
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "in_later.py").touch()
    forget_folders()

    assert find_spec("in_later")


def test_to_look_again_imports_nothing() -> None:
    code = "import sys, farm.reload as r; a = {*sys.modules}; r.forget_folders(); print({*sys.modules} - a)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)

    assert done.stdout == b"set()\n"
