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

from farm import reload
from farm.reload import EACH, PAUSE, Modules, forget_folders

LATER = 1000.0  # seconds


class Imports:
    """Pretends to import modules; `modules` watches those of the project."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.modules = Modules(str(folder / "project"))
        self._patch = monkeypatch
        self._tick = 0.0

    def add(self, name: str = "project/render.py", begun: float = LATER) -> Path:
        """A module whose task began so many seconds after its last change."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1")
        module = ModuleType(f"pretended_{path.stem}")
        module.__file__ = str(path)
        self._patch.setitem(sys.modules, module.__name__, module)
        self.modules.note(reload._version(str(path))[0] / 1e9 + begun)
        return path

    def changed(self) -> str | None:
        self._tick += PAUSE
        return self.modules.stale if self.modules.changed(self._tick) else None


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


@pytest.mark.parametrize("begun", [0.0, -1.0])
def test_a_module_that_changed_during_its_import_is_taken_for_changed(
    imports: Imports, begun: float
) -> None:
    path = imports.add(begun=begun)

    assert imports.changed() == str(path)


@pytest.mark.parametrize(("begun", "changed"), [(1.0, True), (3.0, False)])
def test_of_a_file_whose_time_is_a_whole_second_that_second_is_not_believed(
    imports: Imports, monkeypatch: pytest.MonkeyPatch, begun: float, changed: bool
) -> None:
    whole = (1_000_000_000_000_000_000, 5, 7)
    monkeypatch.setattr("farm.reload._version", lambda _path: whole)
    path = imports.add(begun=begun)

    assert imports.changed() == (str(path) if changed else None)


def test_other_bytes_of_one_size_with_the_time_of_the_former_are_seen(
    imports: Imports,
) -> None:
    path = imports.add()
    then = path.stat()
    other = path.with_suffix(".new")
    other.write_text("x = 2")
    os.utime(other, ns=(then.st_atime_ns, then.st_mtime_ns))
    other.rename(path)

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


@pytest.mark.parametrize("named", ["project", "door"])
def test_a_project_behind_a_link_is_watched(imports: Imports, named: str) -> None:
    (imports.folder / "project").mkdir()
    (imports.folder / "door").symlink_to("project")
    imports.modules = Modules(str(imports.folder / "door"))
    path = imports.add(f"{named}/render.py")
    path.write_text("x = 1234")

    assert imports.changed() == str(path)


def test_a_single_module_is_looked_at_before_nearly_every_task(
    imports: Imports,
) -> None:
    path = imports.add()
    said = [imports.modules.changed(100.0)]
    path.write_text("x = 1234")
    said += [imports.modules.changed(100.0 + 2 * EACH)]

    assert said == [False, True]


def test_many_modules_are_looked_at_less_often(imports: Imports) -> None:
    paths = [imports.add(f"project/m{number}.py") for number in range(20)]
    said = [imports.modules.changed(100.0)]
    paths[-1].write_text("x = 1234")
    said += [imports.modules.changed(100.0 + 10 * EACH)]
    said += [imports.modules.changed(100.0 + 21 * EACH)]

    assert said == [False, False, True]


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
