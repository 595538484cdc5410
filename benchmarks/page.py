"""`python -m benchmarks.page`: put what `<results>/bench/*.json` holds into the tables of docs/performance.md.

Tables of suites that have not been measured there stay as they are.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- tables: written by python -m benchmarks.page -->", "<!-- end of tables -->"
HEADING = "### "


def tables(folder: Path) -> dict[str, str]:
    """Return a Markdown section for every suite that has been measured: machine, command, one table of numbers."""
    sections = {}
    for path in folder.glob("*.json"):
        suite = json.loads(path.read_text("utf-8"))
        machine = ", ".join(f"{name} {value}" for name, value in suite["machine"].items())
        head = f"{HEADING}{suite['suite']}\n\n`make bench SUITE={suite['suite']}`; {machine}\n"
        sections[suite["suite"]] = "\n".join([head, *map(table, _alike(suite["items"]))])
    return sections


def replaced(page: str, new: Mapping[str, str]) -> str:
    """Return the page with the sections of `new` between its two marks, beside those of other suites there.

    Raises:
        ValueError: it does not have both marks.
    """
    before, begin, rest = page.partition(BEGIN)
    old, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page needs the marks {BEGIN!r} and {END!r}")
    _, *parts = f"\n{old.strip()}\n".split(f"\n{HEADING}")
    sections = {part.split("\n")[0]: f"{HEADING}{part.strip()}\n" for part in parts} | dict(new)
    text = "\n".join(sections[suite] for suite in sorted(sections))
    return f"{before}{BEGIN}\n\n{text}\n{END}{after}"


def _alike(items: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the rows in groups of the same columns."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for item in items:
        groups.setdefault(tuple(_columns(item)), []).append(item)
    return list(groups.values())


def _columns(item: dict[str, Any]) -> list[str]:
    return [name for name, value in item.items() if isinstance(value, str | int | float)]


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows of the same columns as a Markdown table."""
    columns = _columns(rows[0])
    lines = [[name.replace("_", " ") for name in columns], ["---"] * len(columns)]
    lines += [[_cell(row[name]) for name in columns] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(value: str | int | float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> int:
    """Write the page; 0."""
    sections = tables(Path(os.environ.get("RESULTS") or "results") / "bench")
    PAGE.write_text(replaced(PAGE.read_text("utf-8"), sections), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
