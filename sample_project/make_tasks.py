"""Cut the picture into tiles, and write one task for each.

    python3 make_tasks.py          60 tiles, as they came
    python3 make_tasks.py 10000    as many as you like

The tile tasks that were there go, and so do the results and products of
earlier runs. The picture is the same, however many tiles it is cut into.
"""

import argparse
import json
import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import clean
from picture import HEIGHT, PROJECT, WIDTH

TASKS = PROJECT / "tasks" / "tiles"
DEFAULT = 60  # a quarter of a second each
MOST = WIDTH * HEIGHT // 16  # a tile has about 4 x 4 pixels then


def main() -> None:
    """Replace the tile tasks, unless somebody works here."""
    count = wanted_count()
    clean.main()
    TASKS.mkdir(parents=True, exist_ok=True)
    for old in TASKS.glob("*.json"):
        old.unlink()
    for name, box in cut(count):
        drop(TASKS / f"{name}.json", {"call": "render:tile", "kwargs": box})
    print(f"{count} tasks in {TASKS}")


def wanted_count() -> int:
    """Read the number of tiles from the command line."""
    about = "Cut the picture into tiles, and write one task for each."
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument(
        "count", type=int, nargs="?", default=DEFAULT, help=f"default: {DEFAULT}"
    )
    count: int = parser.parse_args().count
    if not 1 <= count <= MOST:
        parser.error(f"count must be 1 to {MOST}, not {count}")
    return count


def cut(count: int) -> Iterator[tuple[str, dict[str, int]]]:
    """Give the name and place of each of `count` tiles, about square ones.

    A name is ROW-COLUMN. Where the rows cannot be alike, some have a tile more.
    """
    rows = max(1, round(math.sqrt(count * HEIGHT / WIDTH)))
    lengths = spans(count, rows)  # how many tiles each row has
    for row, (y, height) in enumerate(spans(HEIGHT, rows)):
        _, columns = lengths[row]
        for column, (x, width) in enumerate(spans(WIDTH, columns)):
            box = {"x": x, "y": y, "width": width, "height": height}
            yield f"{row}-{column}", box


def spans(length: int, parts: int) -> list[tuple[int, int]]:
    """Divide `length` as evenly as whole numbers can: (start, size) of each part."""
    edges = [length * part // parts for part in range(parts + 1)]
    return [(start, end - start) for start, end in pairwise(edges)]


def drop(path: Path, task: dict[str, object]) -> None:
    """Write a task file in one step, so that no worker reads half of it."""
    aside = path.with_name(f".{path.name}")  # a dot: never taken for a task
    aside.write_text(json.dumps(task) + "\n", encoding="utf-8")
    aside.replace(path)


if __name__ == "__main__":
    main()
