"""Tables on a terminal: cells are whole, and what does not fit beside the others is left out as a column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

GAP = 2  # letters between two columns


class Column(NamedTuple):
    """A column.

    Attributes:
        right: whether its cells stand at the right, as numbers do.
        rank: of columns that do not fit, the one with the highest rank goes first; one of rank 0 stays.
    """

    heading: str
    right: bool = False
    rank: int = 0


def fitted(columns: Sequence[Column], rows: Sequence[Sequence[str | Text]], width: int) -> tuple[Table, list[str]]:
    """Return a table of at most `width` letters, and the headings of the columns that were left out for it.

    The columns of rank 0 alone may be wider; their cells then go on in the next line.
    """
    kept = list(range(len(columns)))

    def takes(column: int) -> int:
        cells = (Text(cell) if isinstance(cell, str) else cell for cell in (row[column] for row in rows))
        return max(Text(columns[column].heading).cell_len, *(cell.cell_len for cell in cells), 0)

    widths = [takes(column) for column in kept]
    while sum(widths[column] + GAP for column in kept) - GAP > width:
        last = max(kept, key=lambda column: (columns[column].rank, column))
        if columns[last].rank == 0:
            break
        kept.remove(last)
    table = Table(box=None, pad_edge=False)
    for column in kept:
        heading, right, _ = columns[column]
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(row[column] for column in kept))
    return table, [column.heading for place, column in enumerate(columns) if place not in kept]
