"""Tables of texts: as markdown, as HTML by a template, and on a terminal, which leaves out columns that do not fit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rich import table as rich
from rich.text import Text

GAP = 2  # letters between two columns on a terminal
_NUMERIC = re.compile(r"[-+−]?\d|[-–]$|$")


class Column(NamedTuple):
    """A column.

    Attributes:
        right: whether its cells stand at the right; None where all of them are numbers.
        rank: of columns that do not fit, the one with the highest rank goes first; one of rank 0 stays.
    """

    heading: str
    right: bool | None = None
    rank: int = 0


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        head: its columns; a heading alone is a column that always stays.
        rows: its cells; a row of one cell is a heading over the rows below.
        marked: index of the row that stands out.
        folded: in HTML, shown when the reader asks for it, and in print.
    """

    head: Sequence[str | Column]
    rows: Sequence[Sequence[str | Text]]
    caption: str = ""
    marked: int | None = None
    folded: bool = False
    kind: str = field(default="table", init=False)

    @property
    def columns(self) -> list[Column]:
        """Its columns, each with the side on which its cells stand; the first, which names the rows, at the left."""
        columns = []
        for place, column in enumerate(self.head):
            heading, right, rank = column if isinstance(column, Column) else Column(column)
            if right is None:
                right = place > 0 and all(_NUMERIC.match(str(cell)) for cell in self._cells(place))
            columns.append(Column(heading, right, rank))
        return columns

    def markdown(self) -> str:
        """Return it in markdown, without its caption."""
        columns = self.columns
        lines = [[column.heading for column in columns]]
        for row in self.rows:
            cells = [str(cell).strip() for cell in row]
            lines.append([f"**{cells[0]}**", *[""] * (len(columns) - 1)] if len(cells) < len(columns) else cells)
        head, *rows = ("".join(f"| {cell} " if cell else "| " for cell in line) + "|" for line in lines)
        sides = "|".join("---:" if column.right else "---" for column in columns)
        return "\n".join([head, f"|{sides}|", *rows])

    def on_terminal(self, width: int) -> rich.Table:
        """Return it with at most `width` letters; a line below names the columns that were left out for it.

        The columns of rank 0 alone may be wider; their cells then go on in the next line.
        """
        columns = self.columns
        kept = list(range(len(columns)))
        widths = [
            max(Text(column.heading).cell_len, *(Text(str(cell)).cell_len for cell in self._cells(place)), 0)
            for place, column in enumerate(columns)
        ]
        while sum(widths[place] + GAP for place in kept) - GAP > width:
            last = max(kept, key=lambda place: (columns[place].rank, place))
            if columns[last].rank == 0:
                break
            kept.remove(last)
        shown = rich.Table(title=self.caption or None, title_justify="left", title_style="", box=None, pad_edge=False)
        for place in kept:
            justify = "right" if columns[place].right else "left"
            shown.add_column(columns[place].heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
        for number, row in enumerate(self.rows):
            style = "bold green" if number == self.marked else "bold" if len(row) < len(columns) else None
            shown.add_row(*(row[place] for place in kept if place < len(row)), style=style)
        if left_out := [column.heading for place, column in enumerate(columns) if place not in kept]:
            shown.caption, shown.caption_justify = f"too wide for this terminal: {', '.join(left_out)}", "left"
        return shown

    def _cells(self, column: int) -> list[str | Text]:
        """Return the cells of a column."""
        return [row[column] for row in self.rows if column < len(row)]
