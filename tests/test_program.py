"""Why a program did not start, by a look into its file."""

import os
from pathlib import Path

import pytest

from farm.program import first_word, why_not_found, why_refused


class Folder:
    """A folder with programs in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lay(self, first: bytes, mode: int = 0o755, name: str = "tool") -> str:
        path = self.path / name
        path.write_bytes(first)
        path.chmod(mode)
        return f"./{name}"

    def refused(self, name: str, places: str = "") -> str:
        return why_refused(name, str(self.path), places) or ""

    def not_found(self, name: str, places: str = "") -> str:
        return why_not_found(name, str(self.path), places) or ""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


FAULTS = {
    "crlf": (b"#!/bin/sh\r\ntrue\r\n", 0o755, "Windows line ends (CRLF)"),
    "crlf behind env": (b"#!/usr/bin/env python3\r\n", 0o755, "a carriage return"),
    "no interpreter": (
        b"#!/opt/none/it -x\n",
        0o755,
        "names the interpreter '/opt/none",
    ),
    "an empty first line": (b"#!\ntrue\n", 0o755, "names the interpreter ''"),
    "a folder": (b"#!/tmp\n", 0o755, "'/tmp', which is not executable"),
    "a byte order mark": (b"\xef\xbb\xbf#!/bin/sh\n", 0o755, "a byte order mark"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_what_is_wrong_with_a_first_line_is_said(folder: Folder, kind: str) -> None:
    first, mode, words = FAULTS[kind]
    name = folder.lay(first, mode)
    said = folder.refused(name)

    assert words in said
    assert str(folder.path / "tool") in said
    assert folder.not_found(name) == said


@pytest.mark.parametrize("first", [b"#!/bin/sh\n", b"true\n", b"", b"\x7fELF..."])
def test_a_file_without_the_right_to_run_it_is_said_to_be_one(
    folder: Folder, first: bytes
) -> None:
    name = folder.lay(first, 0o644)

    assert "is not executable: chmod +x" in folder.refused(name)
    assert "is not executable: chmod +x" in folder.not_found(name)


@pytest.mark.parametrize(
    ("first", "words"),
    [(b"\x7fELF...", "another machine or C library"), (b"true\n", "no interpreter")],
)
def test_what_only_the_kernel_refuses_is_no_cause_of_an_exit_code(
    folder: Folder, first: bytes, words: str
) -> None:
    name = folder.lay(first)

    assert words in folder.refused(name)
    assert folder.not_found(name) == ""


def test_of_a_sound_script_nothing_is_said(folder: Folder) -> None:
    name = folder.lay(b"#!/bin/sh\ntrue\n")

    assert folder.refused(name) == folder.not_found(name) == ""


def test_of_what_is_not_there_and_of_a_fifo_nothing_is_said(folder: Folder) -> None:
    os.mkfifo(folder.path / "fifo")

    assert folder.refused("./missing") == folder.refused("./fifo") == ""


def test_a_name_without_a_slash_is_looked_for_on_the_path(folder: Folder) -> None:
    folder.lay(b"#!/opt/none/it\n")

    assert "/opt/none/it" in folder.refused("tool", f"/nowhere:{folder.path}")
    assert folder.refused("tool", "/nowhere") == ""


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("./a.sh x | y", "./a.sh"),
        ("'my tool' -x", "my tool"),
        ("echo 'open", ""),
        (" ", ""),
    ],
)
def test_the_first_word_of_a_text_for_the_shell(command: str, word: str) -> None:
    assert first_word(command) == word
