"""Tables: on a terminal cells are whole and columns go; in markdown; on which side cells stand."""

from __future__ import annotations

import io

from rich.console import Console
from rich.text import Text

from safe.io.tables import Column, Table

COLUMNS = (Column("name"), Column("often", rank=1), Column("seldom", right=True, rank=2), Column("score", right=True))
ROWS = [["a-name-of-thirty-letters-exactly"[:30], "ten letters", "1", Text("99.5")], ["b", "x", "12345678", "1.0"]]


def lines(width: int) -> tuple[list[str], list[str]]:
    """Return the lines of the table, and the columns that the caption below it names."""
    text = io.StringIO()
    table = Table(COLUMNS, ROWS).on_terminal(width)
    told, table.caption = str(table.caption or ""), None
    Console(file=text, width=width).print(table)
    left_out = told.removeprefix("too wide for this terminal: ").split(", ") if told else []
    return [line.rstrip() for line in text.getvalue().splitlines()], left_out


def test_columns_of_the_highest_rank_go_first_and_names_stay_whole() -> None:
    # 30 + 11 + 8 + 5 letters and three gaps of two
    shown, left_out = lines(60)
    assert left_out == []
    assert shown[1] == "a-name-of-thirty-letters-exact  ten letters         1   99.5"
    assert max(map(len, shown)) == 60
    shown, left_out = lines(59)
    assert left_out == ["seldom"]
    assert shown == [
        "name                            often        score",
        "a-name-of-thirty-letters-exact  ten letters   99.5",
        "b                               x              1.0",
    ]
    assert lines(49)[1] == ["often", "seldom"]


def test_what_stays_goes_on_in_the_next_line_and_loses_no_letter() -> None:
    shown, left_out = lines(20)
    assert left_out == ["often", "seldom"]
    assert "".join(line[:13].strip() for line in shown[1:4]) == ROWS[0][0]
    assert all("…" not in line for line in shown)


def test_a_table_without_rows_has_its_headings() -> None:
    table = Table(COLUMNS, []).on_terminal(80)
    assert [column.header for column in table.columns] == ["name", "often", "seldom", "score"]
    assert table.caption is None


def test_numbers_stand_at_the_right_unless_the_column_says_where() -> None:
    rows = [["1", "-", "x", "2", "−3.5"], ["2", "", "1", "3", "+4 ± 1"]]
    table = Table(["first", "numbers", "words", Column("said", right=False), "signs"], rows)
    assert [column.right for column in table.columns] == [False, True, False, False, True]


def test_markdown_has_headings_over_groups_of_rows() -> None:
    table = Table(["", Column("final", right=True)], [["bounds"], ["  joint", "85.0"], ["  none", "-"]], "not in it")
    assert table.markdown() == "| | final |\n|---|---:|\n| **bounds** | |\n| joint | 85.0 |\n| none | - |"
    assert [row.style for row in table.on_terminal(80).rows] == ["bold", None, None]
    assert [row.style for row in Table(["a"], [["x"], ["y"]], marked=1).on_terminal(80).rows] == [None, "bold green"]
