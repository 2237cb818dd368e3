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
    ".mid{text-anchor:middle}.end{text-anchor:end}"
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
        step = round_step(max(y for _, y in self.points))
        steps = math.ceil(max(y for _, y in self.points) / step)
        top = step * steps

        def place(x: float, y: float) -> Point:
            right = (math.log10(x) - low) / (high - low) * (WIDE - LEFT - RIGHT)
            up = y / top * (HIGH - TOP - BOTTOM)
            return at + LEFT + right, HIGH - BOTTOM - up

        parts = [text(at + LEFT, TOP - 18, self.title, "title")]
        for exponent in range(low, high + 1):
            (x, bottom), (_, up) = place(10**exponent, 0), place(10**exponent, top)
            label = number(10**exponent)
            parts += [line(x, bottom, x, up), text(x, bottom + 16, label, "mid")]
        for count in range(steps + 1):
            (x, y), (end, _) = place(10**low, step * count), place(10**high, 0)
            label = number(step * count)
            parts += [line(x, y, end, y), text(x - 6, y + 4, label, "end")]
        for above, (name, value) in enumerate(self.marks, start=1):
            (x, bottom), (_, up) = place(value, 0), place(value, top)
            parts += [
                line(x, bottom, x, up, "mark"),
                text(x + 3, up + 14 * above, name),
            ]
        places = [place(*point) for point in self.points]
        words = " L ".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(f'<path d="M {words}"/>')
        if self.dots:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places]
        parts.append(text(at + LEFT, HIGH - 12, self.below))
        return "\n".join(parts)


def round_step(most: float) -> float:
    """What to go up by to reach so much in at most five steps: 1, 2, 2.5 or 5 x 10**n."""
    unit = 10.0 ** math.floor(math.log10(most / 5))
    return next(unit * n for n in (1, 2, 2.5, 5, 10) if unit * n * 5 >= most * 0.999)


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
