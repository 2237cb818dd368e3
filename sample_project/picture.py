"""The picture's size, and the files that hold its tiles until they are joined.

A tile file is a PPM picture (any viewer opens it) that also says where in the
whole picture it belongs, so nobody has to know how the picture was cut.

A task may run twice, if its worker died just before it said that it was done.
Here that does no harm: files are written aside and renamed, and whoever writes
one again writes the same bytes.
"""

import uuid
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parent
BUILD = PROJECT / "build"
TILES = BUILD / "tiles"
WIDTH, HEIGHT = 1200, 800  # pixels of the whole picture


class Tile(NamedTuple):
    """A rectangle of pixels; `x` and `y` are its upper left corner."""

    x: int
    y: int
    width: int
    height: int
    pixels: bytes  #: red, green, blue; row by row, from the top


def save(tile: Tile) -> None:
    """Write `tile` into the folder of tiles."""
    head = f"P6\n# {tile.x} {tile.y}\n{tile.width} {tile.height}\n255\n"
    write(TILES / f"x{tile.x}-y{tile.y}.ppm", head.encode() + tile.pixels)


def load(path: Path) -> Tile:
    """Read what `save` wrote; ValueError if a power cut left less than that."""
    _, place, size, _, pixels = path.read_bytes().split(b"\n", 4)
    x, y = map(int, place[2:].split())
    width, height = map(int, size.split())
    if len(pixels) != 3 * width * height:
        raise ValueError(path)
    return Tile(x, y, width, height, pixels)


def write(path: Path, data: bytes) -> None:
    """Make a file appear in one step, whole, even if two processes make it."""
    TILES.mkdir(parents=True, exist_ok=True)
    aside = BUILD / f"{uuid.uuid4()}.part"
    aside.write_bytes(data)
    aside.replace(path)
