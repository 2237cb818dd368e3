"""Render one tile of the picture: the function that tasks/tiles/*.json call.

The picture shows spirals at the edge of the Mandelbrot set. A point's colour
tells how soon it escapes to infinity, on a scale without steps. Pixels whose
corners disagree are looked at more closely, so that fine threads are smooth;
the others, five out of six, cost one point each.
"""

import math

from picture import HEIGHT, WIDTH, Tile, save

CENTRE = complex(-0.7780, 0.1350)  # beside the valley of the seahorses
PIXEL = 0.0066 / WIDTH  # its side in the complex plane
LIMIT = 1000  # steps; a point that stays for so long counts as inside the set
FAR = 1000.0  # from here no point returns; well out, it makes `shade_at` smooth

SHADES = 1024  # in the palette, which is a ring
TURNS = 0.7  # how fast the palette goes round
LAGS = (0.0, 0.1, 0.2)  # of a turn: red, green and blue come one after another
BUSY = 200  # shades between a pixel's corners that call for a closer look
INNER = [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)]

PALETTE = [
    [round(127.5 + 127.5 * math.cos(math.tau * (shade / SHADES + lag))) for lag in LAGS]
    for shade in range(SHADES)
]


def tile(x: int, y: int, width: int, height: int) -> dict[str, int]:
    """Render and save the pixels from (x, y), the upper left one; say how many.

    `closer` counts those that needed a closer look.
    """
    corners = [
        [shade_at(column, row) for column in range(x, x + width + 1)]
        for row in range(y, y + height + 1)
    ]
    pixels = bytearray()
    closer = 0
    for j in range(height):
        for i in range(width):
            shades = corners[j][i : i + 2] + corners[j + 1][i : i + 2]
            if max(shades) - min(shades) > BUSY:
                shades += [shade_at(x + i + dx, y + j + dy) for dx, dy in INNER]
                closer += 1
            pixels += blend(shades)
    save(Tile(x, y, width, height, bytes(pixels)))
    return {"pixels": width * height, "closer": closer}


def shade_at(x: float, y: float) -> int:
    """Find the shade of a point of the picture; not yet reduced to the ring."""
    c = CENTRE + PIXEL * complex(x - WIDTH / 2, HEIGHT / 2 - y)
    z = 0j
    for step in range(4, LIMIT + 1, 4):
        z = z * z + c  # four at a time: asking costs more than a step
        z = z * z + c
        z = z * z + c
        z = z * z + c
        if abs(z) > FAR:
            steps = step - math.log2(math.log(abs(z)))
            return int(SHADES * TURNS * math.log(steps + 1))
    return int(SHADES * TURNS * math.log(LIMIT))


def blend(shades: list[int]) -> bytes:
    """Mix the colours of several points of one pixel."""
    colours = [PALETTE[shade % SHADES] for shade in shades]
    return bytes(sum(parts) // len(colours) for parts in zip(*colours, strict=True))
