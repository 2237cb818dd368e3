"""What fits on this terminal: its width, colours, columns.

Nothing here prints. Without a terminal there is no width to keep to and no colour;
with NO_COLOR there is no colour either.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any

import click

_GAP = "  "  # between two columns


def width() -> int | None:
    """Columns of the terminal that stdout is; None if it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def styled(text: str, **style: Any) -> str:
    """Text with colours, as `click.style`; plain with NO_COLOR."""
    return text if os.environ.get("NO_COLOR") else click.style(text, **style)


def fit(line: str, columns: int | None) -> str:
    """A line cut to so many columns, with an ellipsis; wide letters count two."""
    if columns is None or len(line) * 2 <= columns:
        return line
    from rich.cells import cell_len, set_cell_size  # noqa: PLC0415 - only on a terminal

    if cell_len(line) <= columns:
        return line
    return f"{set_cell_size(line, columns - 1).rstrip()}…"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines with aligned columns; a column that is empty takes no room."""
    columns = [column for column in zip(*rows, strict=True) if any(column)]
    widths = [max(map(len, column)) for column in columns]
    kept = zip(*columns, strict=True)
    return [_GAP.join(map(str.ljust, row, widths)).rstrip() for row in kept]
