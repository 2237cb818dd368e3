"""`farm keys`: every API key, what keeps it from work, and who uses it."""

import os
import time
from collections.abc import Iterator

import click
import msgspec

from farm import disk
from farm.cli.common import (
    JSON_OPTION,
    PROJECT_OPTION,
    Place,
    example,
    open_project,
    read_project,
)
from farm.cli.completion import complete_keys
from farm.cli.terminal import fit, table, width
from farm.inventory import Hold, Inventory, KeyView, View, meant, reset, take_stock
from farm.report import age
from farm.rest import Level
from farm.result import posix
from farm.words import counted, duration, moment, plain

NO_KEY = (
    "no key: set ANTHROPIC_API_KEY or OPENAI_API_KEY where workers are started"
    " (several as ANTHROPIC_API_KEY_1, _2, ...; ANTHROPIC_API_KEY_FILE names a file)"
)
_KEY_HEADING = ("ID", "PROVIDER", "POOL", "FINGERPRINT", "IN USE")
_HOLD_HEADING = ("STATE", "UNTIL", "BY", "LAST ERROR")


@click.group(
    short_help="Show API keys: what keeps them from work, who uses them.",
    invoke_without_command=True,
    subcommand_metavar="[reset ID]",
    epilog=example(
        "farm keys",
        "farm keys reset anthropic-1",
        "farm keys --json | jq -r '.keys[] | select(.state != \"ok\").id'",
    ),
)
@PROJECT_OPTION
@click.option(
    "--all", "with_old", is_flag=True, help="Also values that others have replaced."
)
@JSON_OPTION
@click.pass_context
def command(
    context: click.Context, project: str | None, *, with_old: bool, as_json: bool
) -> int:
    """Show every API key that a worker has used here, or that this shell holds.

    A state is ok, cooling (until a time), exhausted (spent; tried again now and then)
    or disabled (until it is reset, or its value changes). BY names the pool or endpoint
    that keeps a key from work. Keys themselves are never shown: a fingerprint tells two
    values apart. Takes no lock and writes nothing. Exit code 1 if a key in this shell
    cannot be read.
    """
    place: Place = context.obj
    if context.invoked_subcommand is not None:
        context.obj = Place(place.named_once(project))
        return 0
    now = time.time()
    stock = take_stock(read_project(place.find(project)), os.environ, now)
    if as_json:
        click.echo(msgspec.json.encode(stock))
    else:
        for line in describe(stock, now, with_old=with_old):
            click.echo(fit(line, width()))
        _explain(stock, with_old=with_old)
    return 1 if stock.faults else 0


def _explain(stock: Inventory, *, with_old: bool) -> None:
    for fault in stock.faults:
        click.echo(plain(fault), err=True)
    old = sum(key.old for key in stock.keys)
    if old and not with_old:
        values = counted(old, "old value")
        click.echo(f"{values} not shown: farm keys --all", err=True)
    if not stock.keys and not stock.faults:
        click.echo(NO_KEY, err=True)


@command.command(
    "reset",
    short_help="Let a key, a pool or an endpoint work again at once.",
    epilog=example(
        "farm keys reset anthropic-1",
    ),
)
@PROJECT_OPTION
@click.argument("name", metavar="ID", shell_complete=complete_keys)
@JSON_OPTION
@click.pass_obj
def reset_command(
    place: Place, project: str | None, name: str, *, as_json: bool
) -> None:
    """Let a key work again at once, with its pool; or a pool or an endpoint.

    Its rests end, an endpoint's circuit closes, and nobody waits in line. The pace that
    was learnt stays, and so does the last error. If the next call is refused, it rests
    again. ID is as `farm keys` shows it.
    """
    there = open_project(place.find(project))
    now = time.time()
    scopes = meant(take_stock(there, os.environ, now), there, name)
    done = reset(there, scopes, now)
    if as_json:
        click.echo(disk.encode({"id": name, "reset": done}), nl=False)
        return
    said = "may work again" if done else "nothing kept it from work"
    click.echo(plain(f"{name}: {said}"))
    for other in _still(take_stock(there, os.environ, now), name):
        click.echo(
            plain(f"{other} still rests: farm keys reset {other}"),
            err=True,
        )


def _still(stock: Inventory, name: str) -> list[str]:
    """The endpoints that still keep a key from work."""
    views = [key for key in stock.keys if key.id == name and not key.old]
    return sorted({view.by for view in views if view.by and view.by != name})


# -- lines ------------------------------------------------------------------------


def describe(stock: Inventory, now: float, *, with_old: bool = False) -> list[str]:
    """A line for each thing that rests, and for each key that does not."""
    keys = [key for key in stock.keys if with_old or not key.old]
    rows = [row for key in keys for row in _key_rows(key, now)]
    lines = _headed((*_KEY_HEADING, *_HOLD_HEADING), rows)
    rests = [view for view in stock.shared if view.models or view.state != Level.OK]
    rows = [row for view in rests for row in _shared_rows(view, now)]
    return [*lines, *([""] if rows and lines else []), *_headed(_SHARED, rows)]


_SHARED = ("POOL OR ENDPOINT", *_HOLD_HEADING)


def _headed(heading: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """A table whose empty columns have no heading either."""
    if not rows:
        return []
    full = [any(column) for column in zip(*rows, strict=True)]
    shown = [name if kept else "" for name, kept in zip(heading, full, strict=True)]
    return table([shown, *rows])


def _key_rows(key: KeyView, now: float) -> Iterator[tuple[str, ...]]:
    first = (
        plain(key.id),
        plain(key.provider),
        plain(key.pool or ""),
        key.fingerprint or "",
        f"{key.in_use}",
    )
    for number, hold in enumerate(_hold_rows(key, now, " (old value)" * key.old)):
        yield (*(first if number == 0 else ("",) * len(first)), *hold)


def _shared_rows(view: View, now: float) -> Iterator[tuple[str, ...]]:
    for number, hold in enumerate(_hold_rows(view, now, "")):
        yield (plain(view.id) if number == 0 else "", *hold)


def _hold_rows(view: View, now: float, note: str) -> Iterator[tuple[str, ...]]:
    """What keeps it from work: for all models, then for each of them; or that it is ok."""
    holds = [(f"{hold.state} for {model}", hold) for model, hold in view.models.items()]
    if view.state != Level.OK or not holds:
        holds.insert(0, (view.state, view))
    for number, (state, hold) in enumerate(holds):
        error = _error(view, now) if number == 0 else ""
        if hold.state == Level.DISABLED:
            error = plain(f"{hold.why}")  # it says what to do
        yield (plain(f"{state}{note}"), _until(hold, now), _by(view, hold), error)


def _by(view: View, hold: Hold) -> str:
    return plain(hold.by) if hold.by not in (None, view.id) else ""


def _until(hold: Hold, now: float) -> str:
    """`03:00:00`; `03:00:00, tried at 01:00:00`; `?` if nobody knows."""
    if hold.state == Level.OK:
        return ""
    unknown = "reset" if hold.state == Level.DISABLED else "?"
    end = moment(posix(hold.until), now) if hold.until else unknown
    tried = hold.tried_at and f", tried at {moment(posix(hold.tried_at), now)}"
    return f"{end}{tried or ''}"


def _error(view: View, now: float) -> str:
    if not view.last_error:
        return ""
    ago = (
        f"{duration(age(view.last_error_at, now))} ago: " if view.last_error_at else ""
    )
    return plain(f"{ago}{view.last_error}")
