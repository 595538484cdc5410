"""Where the values of a setting lie on an axis from 0 to 1, for lines across settings and for their importance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sweeps.spec.domains import is_number
from sweeps.spec.titles import short_value

LOG_FROM = 20.0  # positive values that span at least this factor are laid out by their logarithm
ZERO_SHARE = 0.25  # of a logarithmic axis that also holds the value 0, which the search draws with this probability
MOST_TICKS = 5


@dataclass(frozen=True)
class Axis:
    """One setting of several trials.

    Attributes:
        positions: one per trial, in [0, 1].
        ticks: (position, text), from low to high.
    """

    name: str
    positions: tuple[float, ...]
    ticks: tuple[tuple[float, str], ...]


def axis(name: str, values: Sequence[Any]) -> Axis:
    """Return the axis of a setting: numbers by value or, over a wide range, by logarithm; all else in equal steps."""
    if not values or not all(is_number(value) and math.isfinite(value) for value in values):
        return _categorical(name, values)
    positive = [float(value) for value in values if value > 0]
    if min(values) < 0 or not positive or max(positive) / min(positive) < LOG_FROM:
        return _linear(name, [float(value) for value in values])
    return _logarithmic(name, [float(value) for value in values], min(positive), max(positive))


def _categorical(name: str, values: Sequence[Any]) -> Axis:
    words = tuple(sorted({short_value(value) for value in values}))
    place = {word: _step(index, len(words)) for index, word in enumerate(words)}
    return Axis(name, tuple(place[short_value(value)] for value in values), tuple((p, w) for w, p in place.items()))


def _linear(name: str, values: Sequence[float]) -> Axis:
    low, high = min(values), max(values)
    distinct = sorted(set(values))
    shown = distinct if len(distinct) <= MOST_TICKS else [low + i / 4 * (high - low) for i in range(5)]

    def place(value: float) -> float:
        return (value - low) / (high - low) if high > low else 0.5

    return Axis(name, tuple(map(place, values)), tuple((place(value), short_value(value)) for value in shown))


def _logarithmic(name: str, values: Sequence[float], low: float, high: float) -> Axis:
    start = ZERO_SHARE if 0 in values else 0.0

    def place(value: float) -> float:
        share = math.log(value / low) / math.log(high / low) if value > 0 else 0.0
        return start + (1 - start) * share if value > 0 else 0.0

    distinct = sorted(set(values))
    if len(distinct) <= MOST_TICKS:
        shown = distinct
    else:
        decades = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
        every = max(1, math.ceil(len(decades) / MOST_TICKS))
        shown = [0.0] * (start > 0) + [10.0**power for power in decades[::every]]
    return Axis(name, tuple(map(place, values)), tuple((place(value), short_value(value)) for value in shown))


def _step(index: int, count: int) -> float:
    return index / (count - 1) if count > 1 else 0.5
