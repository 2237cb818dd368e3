"""A command as a process group: which program starts, and how it is known."""

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from farm import process
from farm.bell import Bell
from farm.child import Child, Command


class Commands:
    """Commands in a folder of their own; `said` is what the last one printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._bell = Bell()
        self._children: list[Child] = []
        self._out = os.open(folder / "out", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)

    def start(self, *argv: str, **environ: str) -> Child:
        out = self._out
        env = os.environ | environ
        child = Child.start(Command(argv, str(self.folder), env, out, out, out))
        self._children.append(child)
        return child

    def tool(self, folder: str, mode: int = 0o755) -> str:
        """A program named `tool` that says in which folder it lies."""
        path = self.folder / folder / "tool"
        path.parent.mkdir()
        path.write_text(f"#!/bin/sh\necho {folder}\n")
        path.chmod(mode)
        return str(path.parent)

    def said(self, *argv: str, **environ: str) -> str:
        self.start(*argv, **environ).wait(self._bell, 30.0)
        return (self.folder / "out").read_text()

    def end(self) -> None:
        for child in self._children:
            child.end(self._bell)
        os.close(self._out)


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    there = Commands(tmp_path)
    yield there
    there.end()


# -- when it started -------------------------------------------------------------------


def never_the_same() -> Callable[[], int]:
    """A clock whose tick is always over when the command has been started."""
    return itertools.count().__next__


@pytest.mark.parametrize("clock", [process.ticks_now, never_the_same()])
def test_a_command_started_when_the_kernel_says_that_it_did(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, clock: Callable[[], int]
) -> None:
    monkeypatch.setattr(process, "ticks_now", clock)
    children = [commands.start("sleep", "60") for _ in range(20)]

    told = [process.stat(child.group) for child in children]

    assert [child.ticks for child in children] == [stat and stat.ticks for stat in told]


# -- which program it is ---------------------------------------------------------------


def test_a_program_is_looked_for_on_the_commands_own_path(commands: Commands) -> None:
    first, second = commands.tool("first"), commands.tool("second")

    assert commands.said("tool", PATH=f"{first}:{second}") == "first\n"


def test_a_folder_and_a_file_that_cannot_be_run_are_no_programs(
    commands: Commands,
) -> None:
    plain, good = commands.tool("plain", 0o644), commands.tool("good")
    (commands.folder / "folder" / "tool").mkdir(parents=True)
    path = f"{commands.folder}/folder:{plain}:{good}"

    assert commands.said("tool", PATH=path) == "good\n"


def test_a_path_may_begin_where_the_command_runs(commands: Commands) -> None:
    commands.tool("near")
    far = commands.tool("far")

    assert commands.said("tool", PATH=f"near:{far}") == "near\n"


def test_a_file_that_cannot_be_run_is_refused_as_such(commands: Commands) -> None:
    plain = commands.tool("plain", 0o644)

    with pytest.raises(PermissionError):
        commands.start("tool", PATH=plain)
    with pytest.raises(FileNotFoundError):
        commands.start("no-such-tool", PATH=plain)
