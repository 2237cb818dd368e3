"""What farm imports late is never a project's."""

import sys
from pathlib import Path

import pytest

from farm.late import not_from


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where modules are looked for, in a list of our own."""
    there = ["/project", "/lib", "/project/vendored"]
    monkeypatch.setattr(sys, "path", there)
    return there


def test_nothing_is_imported_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "only_here.py").touch()
    sys.path.insert(0, str(tmp_path))
    try:
        with not_from(str(tmp_path)), pytest.raises(ModuleNotFoundError):
            __import__("only_here")
        __import__("only_here")
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("only_here", None)


def test_other_places_keep_their_order(places: list[str]) -> None:
    with not_from("/project"):
        assert sys.path == ["/lib", "/project/vendored"]


def test_the_list_stays_the_same_one_and_is_as_before_even_after_an_error(
    places: list[str],
) -> None:
    with pytest.raises(ZeroDivisionError), not_from("/project"):
        raise ZeroDivisionError

    assert sys.path is places
    assert places == ["/project", "/lib", "/project/vendored"]


def test_what_is_compiled_in_there_is_kept_as_python_was_told(
    places: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    with not_from("/project"):
        told = sys.dont_write_bytecode

    assert told is bool(sys.flags.dont_write_bytecode)
    assert sys.dont_write_bytecode is True
