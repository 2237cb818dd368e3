"""Fixtures for tests that type a verb."""

from collections.abc import Callable
from pathlib import Path

import pytest

from farm import cli

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Type a command line; (exit code, stdout, stderr)."""
    monkeypatch.setenv("COLUMNS", "80")

    def typed(*args: str | Path) -> tuple[int, str, str]:
        code = cli.run([str(arg) for arg in args])
        out, err = capsys.readouterr()
        return code, out, err

    return typed
