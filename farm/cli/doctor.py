"""`farm doctor`: whether this folder keeps the promises."""

import os
import textwrap

import click
import msgspec

from farm import doctor
from farm.cli.common import JSON_OPTION, Place, about_project, example
from farm.cli.terminal import styled, width
from farm.doctor import Finding
from farm.doctor.told import Level
from farm.errors import NoProjectError
from farm.project import Project
from farm.words import plain

_COLOUR = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}
_LEVEL, _NAME, _LEAST = 6, 13, 40  # columns


@click.command(
    short_help="Measure whether this folder keeps farm's promises.",
    epilog=example(
        "farm doctor",
        "farm doctor /mnt/shared/project",
        "farm doctor --json | jq -r .verdict",
    ),
)
@about_project
@JSON_OPTION
@click.pass_obj
def command(place: Place, project: str | None, *, as_json: bool) -> int:
    """Measure whether this folder keeps farm's promises, and say what to do.

    Tries locks, links, file events and clocks with files of its own, and leaves
    nothing behind; PROJECT may be any folder. Exit code 1 if a check fails.
    """
    there = Project(_root(place, project))
    findings = doctor.examine(there)
    verdict = doctor.verdict(findings)
    if as_json:
        facts = {"project": there.root, "verdict": verdict, "findings": findings}
        click.echo(msgspec.json.encode(facts))
    else:
        columns = width()
        for finding in findings:
            click.echo(_shown(finding, columns))
        click.echo(plain(verdict))
    return int(any(finding.level is Level.FAIL for finding in findings))


def _root(place: Place, named: str | None) -> str:
    """The folder that is meant, project or not."""
    try:
        return place.find(named)
    except NoProjectError:
        if place.named_once(named) is not None:
            raise
        return os.getcwd()


def _shown(finding: Finding, columns: int | None) -> str:
    """One line, or as many as it takes on a terminal of so many columns."""
    text = describe(finding)
    if columns is not None:
        indent = " " * (_LEVEL + _NAME)
        text = textwrap.fill(text, max(columns, _LEAST), subsequent_indent=indent)
    level = styled(f"{finding.level}", fg=_COLOUR[finding.level])
    return level + text[len(finding.level) :]


def describe(finding: Finding) -> str:
    """One line: how bad, what was measured, what to do."""
    advice = f": {finding.advice}" if finding.advice else ""
    start = f"{finding.level:{_LEVEL}}{finding.name:{_NAME}}"
    return plain(f"{start}{finding.said}{advice}")
