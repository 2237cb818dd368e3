"""What a row of the table is, and how people and programs read it.

    row = Row("call", "no-op callables, 2 workers")
    row.figures.append(Figure("farm", "tasks/s", [8100.0, 8300.0]))
    row.targets.append(at_least("farm / xargs", 1.0, [1.1, 1.2]))
    print_row(row); print_targets(rows); as_json(rows)

A figure keeps every measured value; its median is shown with the least and the most.
A ratio is the median of the ratios of the rounds: both sides of one were measured
one right after the other, so a machine that slows down slows both.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median

WIDTH = 44  # letters of a name


@dataclass(frozen=True)
class Figure:
    """One thing, measured some times."""

    name: str
    unit: str
    values: Sequence[float]

    @property
    def value(self) -> float:
        """The one number for it."""
        return median(self.values)


@dataclass(frozen=True)
class Target:
    """What a ratio or a figure ought to be, and what it is; None: not measured."""

    name: str
    wanted: float
    is_least: bool  #: else it is the most that it may be
    measured: float | None
    unit: str = "x"

    @property
    def verdict(self) -> str:
        """In one word."""
        if self.measured is None:
            return "not measured"
        above = self.measured >= self.wanted
        good = above if self.is_least else self.measured < self.wanted
        return "met" if good else "NOT MET"


@dataclass
class Row:
    """A row of the table: figures, targets, and what must be said of them."""

    key: str
    title: str
    figures: list[Figure] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def values(self, name: str) -> Sequence[float]:
        """Of a figure; none if it was not measured."""
        return next((f.values for f in self.figures if f.name == name), [])

    def add(self, name: str, unit: str, values: Sequence[float]) -> None:
        """One more figure."""
        self.figures.append(Figure(name, unit, values))

    def ratio(self, one: str, other: str, least: float) -> None:
        """One more target: `one` is at least so many times `other`."""
        pairs = zip(self.values(one), self.values(other), strict=False)
        self.targets.append(
            at_least(f"{one} / {other}", least, [a / b for a, b in pairs])
        )


def at_least(
    name: str, wanted: float, values: Sequence[float], unit: str = "x"
) -> Target:
    """A target that is met from `wanted` upwards."""
    return Target(name, wanted, True, median(values) if values else None, unit)


def less_than(
    name: str, wanted: float, values: Sequence[float], unit: str = "x"
) -> Target:
    """A target that is met below `wanted`."""
    return Target(name, wanted, False, median(values) if values else None, unit)


# -- for people ------------------------------------------------------------------------


def number(value: float) -> str:
    """Three digits that matter."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def print_row(row: Row) -> None:
    """The figures of a row, and what was skipped."""
    print(f"\n{row.key}: {row.title}", flush=True)
    for figure in row.figures:
        low, high = (number(f(figure.values)) for f in (min, max))
        spread = f"   {low} .. {high}" if len(figure.values) > 1 else ""
        shown = f"{number(figure.value):>10} {figure.unit:<8}"
        print(f"  {figure.name:<{WIDTH}}{shown}{spread}".rstrip(), flush=True)
    for note in row.notes:
        print(f"  - {note}", flush=True)


def print_targets(rows: Iterable[Row]) -> None:
    """Every target: its name, what is wanted, what was measured, met or not."""
    print(f"\n{'target':<{WIDTH + 12}}{'wanted':>12}{'measured':>12}  verdict")
    for row in rows:
        for target in row.targets:
            sign = ">=" if target.is_least else "<"
            wanted = f"{sign} {number(target.wanted)} {target.unit}"
            found = "-" if target.measured is None else number(target.measured)
            name = f"{row.key}: {target.name}"
            print(f"{name:<{WIDTH + 12}}{wanted:>12}{found:>12}  {target.verdict}")


# -- for programs ------------------------------------------------------------------------


def as_json(rows: Iterable[Row]) -> list[dict[str, object]]:
    """All that was measured; each figure with its median, each target judged."""
    found = []
    for row in rows:
        facts = asdict(row)
        for one, figure in zip(facts["figures"], row.figures, strict=True):
            one["median"] = figure.value
        for one, target in zip(facts["targets"], row.targets, strict=True):
            one["verdict"] = target.verdict
        found.append(facts)
    return found
