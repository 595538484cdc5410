"""The pairs of classes that a run confused most often, as its worker wrote them and reports read them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

TABLE, PICTURE = Path("tables", "confused_pairs.csv"), Path("plots", "confused_pairs.png")


@dataclass(frozen=True)
class Pair:
    """A class of which some images are taken for another class.

    Attributes:
        true, predicted: names of the two classes.
        true_session, predicted_session: which sessions brought them, from 1.
        images: how many images are taken so, of the `of` images of the true class.
    """

    true: str
    true_session: int
    predicted: str
    predicted_session: int
    images: int
    of: int


HEADER = tuple(field.name for field in fields(Pair))


def table_of(pairs: Sequence[Pair]) -> list[tuple[object, ...]]:
    """Return the lines of the table, without its header."""
    return [astuple(pair) for pair in pairs]


def read_pairs(run: Path) -> list[Pair]:
    """Return the pairs in the folder of a run, the most images first; none where it wrote none."""
    file = run / TABLE
    if not file.is_file():
        return []
    with file.open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    return [
        Pair(
            line["true"],
            int(line["true_session"]),
            line["predicted"],
            int(line["predicted_session"]),
            int(line["images"]),
            int(line["of"]),
        )
        for line in lines
    ]
