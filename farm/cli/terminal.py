"""What fits on this terminal: its width, colours, columns.

Nothing here prints. Without a terminal there is no width to keep to and no colour;
with NO_COLOR there is no colour either.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

_GAP = "  "  # between two columns


def width() -> int | None:
    """Columns of the terminal that stdout is; None if it is none."""
    if not sys.stdout.isatty():
        return None
    import shutil  # noqa: PLC0415 - only on a terminal

    return shutil.get_terminal_size().columns


def styled(text: str, **style: Any) -> str:
    """Text with colours, as `click.style`; plain with NO_COLOR."""
    return text if os.environ.get("NO_COLOR") else click.style(text, **style)


def cells(text: str) -> int:
    """Columns that a text takes; wide letters take two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - rich only where it is needed

    return cell_len(text)


def fit(line: str, columns: int | None) -> str:
    """A line cut to so many columns, with an ellipsis; None leaves it whole."""
    if columns is None or cells(line) <= columns:
        return line
    from rich.cells import set_cell_size  # noqa: PLC0415 - the same

    return f"{set_cell_size(line, columns - 1).rstrip()}…"


def padded(text: str, columns: int) -> str:
    """A text with blanks behind it up to so many columns."""
    return text + " " * (columns - cells(text))


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines with aligned columns; a column that is empty takes no room."""
    columns = [column for column in zip(*rows, strict=True) if any(column)]
    widths = [max(map(cells, column)) for column in columns]
    kept = zip(*columns, strict=True)
    return [_GAP.join(map(padded, row, widths)).rstrip() for row in kept]
