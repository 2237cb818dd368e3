"""Measure whether one folder keeps farm's promises.

`examine(project)` makes every check once and returns a `Finding` for each, in the
order in which people read them; `verdict` sums them up in one sentence.

A check takes a project and returns what it was `Told`. Those in `looks` only read.
Those in `trials` make files of their own, in `.farm/tmp` and `tasks/`, and remove
them; where there is no project yet they do so in a stand-in for one, which is removed
as well. What a worker tries at its start (`farm.trial`) is tried by the same functions.

What a reader may assume: a check that cannot be made is a `fail` with the reason,
never an error. Nothing is waited for longer than a moment, but for one thing: a
worker of another host that seems to be dead gets a few heartbeats to show itself.
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec

from farm.doctor.looks import LOOKS
from farm.doctor.told import Check, Level, Told, unable
from farm.doctor.trials import TRIALS
from farm.errors import FarmError
from farm.project import CHECK, Project
from farm.trial import Bench
from farm.words import counted

# RuntimeError: the machine starts no more threads.
_UNABLE = (OSError, FarmError, RuntimeError)


class Finding(msgspec.Struct, frozen=True):
    """What the check of this name found out."""

    name: str
    level: Level
    said: str
    advice: str


def examine(project: Project) -> list[Finding]:
    """Every check, once; never raises for what is wrong with the folder."""
    found = [_find(name, check, project) for name, check in LOOKS.items()]
    try:
        with _somewhere_to_try(project) as there:
            found += [_find(name, check, there) for name, check in TRIALS.items()]
    except _UNABLE as error:
        found.append(
            _named("write", unable(error, f"cannot write into {project.root}"))
        )
    return found


def verdict(findings: list[Finding]) -> str:
    """All of it in one sentence."""
    bad = [f"{f.name}: {f.said}" for f in findings if f.level is Level.FAIL]
    if bad:
        return f"farm would not work here: {'; '.join(bad)}"
    doubts = sum(f.level is Level.WARN for f in findings)
    said = f", with {counted(doubts, 'warning')}" if doubts else ""
    return f"this folder keeps farm's promises{said}"


def _find(name: str, check: Check, project: Project) -> Finding:
    try:
        return _named(name, check(project))
    except _UNABLE as error:
        return _named(name, unable(error))


def _named(name: str, told: Told) -> Finding:
    return Finding(name, told.level, told.said, told.advice)


@contextmanager
def _somewhere_to_try(project: Project) -> Iterator[Project]:
    """The project, or a stand-in if it has no folders yet; OSError if read-only."""
    folders = (project.tasks, project.tmp)
    if all(os.path.isdir(folder) for folder in folders):
        with Bench(project) as bench:
            bench.file("write")
        yield project
        return
    root = f"{project.root}/{CHECK}{secrets.token_hex(4)}"
    try:
        there = Project.open(root)
        if os.path.isdir(project.tasks):  # it may be a file system of its own
            there.tasks = project.tasks
        yield there
    finally:
        with suppress(FileNotFoundError):
            shutil.rmtree(root)
