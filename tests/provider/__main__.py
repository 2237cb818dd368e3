"""`python -m tests.provider`: a provider to start beside a farm, until SIGTERM.

    python -m tests.provider --keys 3 --pools 2 --per-minute 600

Keys are taken from the environment under the names that farm reads
(`ANTHROPIC_API_KEY_1` .. `_N`, and `ANTHROPIC_POOL_1` where one is named), so that one
environment serves both. Once it listens it prints one line: its url, and the pool of
each key's label. No key's value is ever printed or written.
"""

import json
import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TextIO

import click

from tests.provider.calls import Call
from tests.provider.server import Provider

ENDINGS = (signal.SIGTERM, signal.SIGINT)


class Known(NamedTuple):
    """A key of the environment; the value only goes into `add_key`."""

    label: str
    pool: str
    variable: str


def known_keys(family: str, keys: int, pools: int) -> list[Known]:
    """Those without a pool of their own are dealt out to the pools in turn."""
    found = []
    for number in range(1, keys + 1):
        variable = f"{family.upper()}_API_KEY_{number}"
        if not os.environ.get(variable):
            raise click.UsageError(f"{variable} is not in the environment.")
        pool = os.environ.get(f"{family.upper()}_POOL_{number}")
        dealt = f"pool-{(number - 1) % pools + 1}"
        found.append(Known(f"{family}-{number}", pool or dealt, variable))
    return found


def write_call(call: Call, log: TextIO) -> None:
    when = datetime.now(UTC).isoformat(timespec="milliseconds")
    print(when, call.key or "unknown", call.status, file=log, flush=True)


@click.command()
@click.option("--keys", type=click.IntRange(min=1), required=True)
@click.option("--pools", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--per-minute", type=click.IntRange(min=1), help="Of a key, and of a pool."
)
@click.option("--burst", type=float, help="Calls at once  [default: a second's worth]")
@click.option("--port", type=int, default=0, help="[default: any free one]")
@click.option("--slow", type=float, default=0.0, help="Seconds each answer takes.")
@click.option(
    "--family",
    type=click.Choice(["anthropic", "openai"]),
    default="anthropic",
    show_default=True,
    help="Whose variables hold the keys; both formats are spoken anyway.",
)
@click.option(
    "--log",
    type=click.Path(path_type=Path),
    help="A line for each call: when, label, status.",
)
def main(
    *,
    keys: int,
    pools: int,
    per_minute: int | None,
    burst: float | None,
    port: int,
    slow: float,
    family: str,
    log: Path | None,
) -> None:
    """Answer as model providers do, on this machine, until SIGTERM."""
    known = known_keys(family, keys, pools)
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)  # in threads to come, too
    with (
        (log or Path(os.devnull)).open("a") as lines,
        Provider(port, log=lambda call: write_call(call, lines)) as provider,
    ):
        for label, pool, variable in known:
            secret = os.environ[variable]
            provider.add_key(
                label, secret, pool=pool, per_minute=per_minute, burst=burst
            )
        provider.slow(slow)
        print(json.dumps({"url": provider.url, "keys": pools_of(known)}), flush=True)
        signal.sigwait(ENDINGS)


def pools_of(known: list[Known]) -> dict[str, str]:
    return {key.label: key.pool for key in known}


if __name__ == "__main__":
    main()
