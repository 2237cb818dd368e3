"""Join the tiles to mandelbrot.png; the command of tasks/picture.json.

Each tile file says where it belongs, so any cut will do, as long as it leaves
no hole. The picture appears in one step, and the tiles stay.
"""

import struct
import sys
import zlib

from picture import HEIGHT, PROJECT, TILES, WIDTH, Tile, load, write

PICTURE = PROJECT / "mandelbrot.png"
REMEDY = "delete the results of its task and of this one, so that both run again"


def main() -> None:
    """Join the tiles, or end with a sentence that says which one is missing."""
    canvas = Canvas()
    paths = sorted(TILES.glob("*.ppm"))
    for path in paths:
        try:
            canvas.paint(load(path))
        except ValueError:
            sys.exit(f"{path} is not a whole tile; {REMEDY}")
    hole = canvas.covered.find(0)
    if hole >= 0:
        y, x = divmod(hole, WIDTH)
        sys.exit(f"no tile in {TILES} covers the pixel at {x}, {y}; {REMEDY}")
    data = png(bytes(canvas.pixels))
    write(PICTURE, data)
    print(f"{PICTURE.name}: {len(paths)} tiles, {len(data):,} bytes")


class Canvas:
    """The whole picture, and which of its pixels have been painted."""

    def __init__(self) -> None:
        self.pixels = bytearray(3 * WIDTH * HEIGHT)
        self.covered = bytearray(WIDTH * HEIGHT)

    def paint(self, tile: Tile) -> None:
        """Put `tile` where it belongs."""
        width = tile.width
        for row in range(tile.height):
            at = (tile.y + row) * WIDTH + tile.x
            line = tile.pixels[3 * width * row : 3 * width * (row + 1)]
            self.pixels[3 * at : 3 * (at + width)] = line
            self.covered[at : at + width] = b"\1" * width


def png(pixels: bytes) -> bytes:
    """Pack red, green and blue bytes into a PNG file."""
    lines = [
        b"\0" + pixels[start : start + 3 * WIDTH]  # 0: the line is not filtered
        for start in range(0, len(pixels), 3 * WIDTH)
    ]
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)  # 8 bits, RGB
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"".join(lines), 9))
        + chunk(b"IEND", b"")
    )


def chunk(kind: bytes, data: bytes) -> bytes:
    """Wrap one part of a PNG file: length, kind, data, checksum."""
    return (
        struct.pack(">I4s", len(data), kind)
        + data
        + struct.pack(">I", zlib.crc32(kind + data))
    )


if __name__ == "__main__":
    main()
