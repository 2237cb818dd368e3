"""`farm resume`: go on after a pause."""

import click

from farm import control
from farm.cli.common import PROJECT_OPTION, Place, example, open_project
from farm.control import ALL, Control
from farm.errors import FarmError
from farm.pattern import unescaped
from farm.words import plain


@click.command(
    short_help="Take pauses back.",
    epilog=example(
        "farm resume                       # everything that was paused",
        "farm resume 'tiles/*'             # that pause only",
    ),
)
@PROJECT_OPTION
@click.argument("globs", nargs=-1, metavar="[ID|GLOB]...")
@click.pass_obj
def command(place: Place, project: str | None, globs: tuple[str, ...]) -> None:
    """Take pauses back: all of them, or those that are named as they were given."""
    there = open_project(place.find(project))
    orders = Control(there).read()
    given = {name: unescaped(glob) for name, glob in orders.globs.items()}
    paused = given | ({ALL: "everything"} if orders.paused else {})
    globs = tuple(map(unescaped, globs))
    for glob in globs:
        if glob not in given.values():
            raise FarmError(f"{plain(glob)} is not paused: {_known(paused)}")
    # By what they mean, not by name: a person may have written %2f for %2F.
    ended = {n: glob for n, glob in paused.items() if glob in globs or not globs}
    for name in ended:
        control.withdraw(there, name)
    said = ", ".join(map(plain, globs or ended.values()))
    click.echo(f"goes on: {said}" if said else "nothing is paused", err=True)


def _known(paused: dict[str, str]) -> str:
    words = ", ".join(plain(glob) for glob in paused.values())
    return f"what is paused is {words}" if words else "nothing is"
