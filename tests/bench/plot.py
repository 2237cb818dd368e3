"""Two pictures in one file, as SVG made by these few lines.

    write(path, rows)

Left, throughput against how many tasks are ready; right, how many of the drops had
started within so many milliseconds. What was not measured has no line.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from tests.bench.table import Row, number

WIDE, HIGH = 420, 300  # of one picture, its edges included
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 40, 50  # edges
STYLE = (
    "text{font:12px sans-serif;fill:#333}.title{font-weight:bold}"
    "path{fill:none;stroke:#07c;stroke-width:2}circle{fill:#07c}"
    "line{stroke:#ddd}.mark{stroke:#c30;stroke-dasharray:4}"
)
Point = tuple[float, float]


class Picture(NamedTuple):
    """One set of axes; x grows by its logarithm."""

    title: str
    below: str  #: what x is
    points: Sequence[Point]
    marks: Sequence[tuple[str, float]] = ()  #: upright lines
    dots: bool = False

    def draw(self, at: float) -> str:
        """The picture with its left edge here."""
        exponents = [math.log10(x) for x, _ in self.points]
        low, high = math.floor(min(exponents)), math.ceil(max(exponents))
        high = max(high, low + 1)
        top = max(y for _, y in self.points) * 1.1

        def place(x: float, y: float) -> Point:
            right = (math.log10(x) - low) / (high - low) * (WIDE - LEFT - RIGHT)
            up = y / top * (HIGH - TOP - BOTTOM)
            return at + LEFT + right, HIGH - BOTTOM - up

        parts = [text(at + LEFT, TOP - 18, self.title, "title")]
        for exponent in range(low, high + 1):
            (x, bottom), (_, up) = place(10**exponent, 0), place(10**exponent, top)
            label = number(10**exponent)
            parts += [line(x, bottom, x, up), text(x - 8, bottom + 16, label)]
        for step in range(6):
            (x, y), (end, _) = place(10**low, top * step / 5), place(10**high, 0)
            label = number(top * step / 5)
            parts += [line(x, y, end, y), text(at + 8, y + 4, label)]
        for name, value in self.marks:
            (x, bottom), (_, up) = place(value, 0), place(value, top)
            parts += [line(x, bottom, x, up, "mark"), text(x + 3, up + 12, name)]
        places = [place(*point) for point in self.points]
        words = " L ".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(f'<path d="M {words}"/>')
        if self.dots:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places]
        parts.append(text(at + LEFT, HIGH - 12, self.below))
        return "\n".join(parts)


def text(x: float, y: float, words: str, kind: str = "") -> str:
    """Words at a place."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(words)}</text>'


def line(x: float, y: float, to_x: float, to_y: float, kind: str = "") -> str:
    """A straight line."""
    ends = f'x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"'
    return f'<line {ends} class="{kind}"/>'


def pictures(rows: Sequence[Row]) -> list[Picture]:
    """Those that these rows have points for."""
    series = {name: points for row in rows for name, points in row.series.items()}
    found = []
    if points := series.get("backlog"):
        title = "tasks a second, 2 workers, no-op callables"
        found.append(Picture(title, "ready tasks at the start", points, dots=True))
    if points := series.get("latency"):
        half, most = (points[round(len(points) * q) - 1][0] for q in (0.5, 0.99))
        marks = [(f"p50 {half:.1f} ms", half), (f"p99 {most:.1f} ms", most)]
        title = "share of drops that have started, idle farm"
        found.append(Picture(title, "ms after the drop", points, marks))
    return found


def write(path: Path, rows: Sequence[Row]) -> None:
    """Draw what was measured."""
    drawn = [p.draw(number * WIDE) for number, p in enumerate(pictures(rows))]
    size = f'width="{WIDE * max(1, len(drawn))}" height="{HIGH}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>'
    ground = '<rect width="100%" height="100%" fill="#fff"/>'
    path.write_text("\n".join([head, ground, *drawn, "</svg>\n"]))
