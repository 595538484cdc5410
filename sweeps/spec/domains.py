"""The values that one setting of a search space may take, as positions between 0 and 1."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safe.errors import nearest

MOST_VALUES = 20_000  # of a range of whole numbers that are looked at one by one: more than a sweep has trials
ZERO_SHARE = 0.25
LOGARITHMIC = ("zero_or_loguniform", "loguniform", "log_int")
STEPPED = ("int", "log_int", "quantised")
RANGES = (*LOGARITHMIC, "uniform", "int", "quantised")
LISTS = ("choice", "grid")


def is_number(value: Any) -> bool:
    """Return whether a value is a number, which True and False are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@dataclass(frozen=True)
class Domain:
    """The values that one setting may take.

    Every domain is the unit interval, so that a search proposes a position in [0, 1) whatever the kind. Of a
    `zero_or_loguniform` the first quarter is exactly 0 and the rest is logarithmic.

    Attributes:
        values: the two bounds of a range, with the step of a `quantised` one; or the list itself.
        whole: whether the setting is a whole number.
        prior: median and spread of a normal distribution that proposals are drawn from too, of the logarithm where the
            range is logarithmic (the spread then is a factor); None without.
    """

    kind: str
    values: tuple[Any, ...]
    whole: bool = False
    prior: tuple[float, float] | None = None

    @property
    def listed(self) -> bool:
        """Whether the values are listed, not a range."""
        return self.kind not in RANGES

    def at(self, position: float) -> Any:
        """Return the value at a position in [0, 1); a range takes 1 too."""
        if self.listed:
            return self.values[int(position * len(self.values))]
        low, high = (float(bound) for bound in self.values[:2])
        if self.kind in STEPPED:
            return self._step(position)
        if self.kind == "uniform":
            value = low + position * (high - low)
        else:
            if self.kind == "zero_or_loguniform":
                if position < ZERO_SHARE:
                    return 0 if self.whole else 0.0
                position = (position - ZERO_SHARE) / (1 - ZERO_SHARE)
            value = math.exp(math.log(low) + position * (math.log(high) - math.log(low)))
        if self.whole:
            return round(value)
        return min(max(_readable(value), low), high)

    def _step(self, position: float) -> Any:
        low, high = self.values[:2]
        if self.kind == "log_int":
            return min(math.floor(low * ((high + 1) / low) ** position + 1e-9), high)
        return self._steps()[min(int(position * len(self._steps())), len(self._steps()) - 1)]

    def _steps(self) -> Sequence[Any]:
        """Return all values of a range in steps, in order."""
        low, high = self.values[:2]
        if self.kind != "quantised":
            return range(low, high + 1)
        step = self.values[2]
        steps = [_readable(low + index * step) for index in range(math.floor((high - low) / step + 1e-9) + 1)]
        return [round(value) for value in steps] if self.whole else steps

    def position(self, value: Any) -> float:
        """Return the position of a value of the domain; the middle of its share for what has one, such as 0."""
        if self.listed:
            return (self.values.index(value) + 0.5) / len(self.values)
        low, high = (float(bound) for bound in self.values[:2])
        if self.kind == "log_int":
            return math.log((value + 0.5) / low) / math.log((high + 1) / low)
        if self.kind in STEPPED:
            step = 1.0 if self.kind == "int" else float(self.values[2])
            return ((value - low) / step + 0.5) / len(self._steps())
        if self.kind == "uniform":
            return (value - low) / (high - low)
        zero = ZERO_SHARE if self.kind == "zero_or_loguniform" else 0.0
        if value == 0:
            return zero / 2
        return zero + (1 - zero) * (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))

    def near_prior(self, deviation: float) -> float:
        """Return the position that lies so many spreads from the prior's median, at the nearest end if beyond.

        Raises:
            ValueError: there is no prior.
        """
        if self.prior is None:
            raise ValueError("no prior")
        median, spread = self.prior
        value = median * spread**deviation if self.kind in LOGARITHMIC else median + spread * deviation
        low, high = self.values[:2]
        return min(max(self.position(min(max(value, low), high)), 0.0), math.nextafter(1, 0))

    def every(self) -> Sequence[Any] | None:
        """Return all values; None of a range of fractions, which has no end."""
        if self.listed:
            return self.values
        if self.kind == "quantised":
            return self._steps()
        if not self.whole and self.kind not in STEPPED:
            return None
        low, high = map(round, self.values)
        return [*([0] if self.kind == "zero_or_loguniform" else []), *range(low, min(high, low + MOST_VALUES) + 1)]

    def __contains__(self, value: Any) -> bool:
        if self.listed:
            return value in self.values
        if not is_number(value):
            return False
        if self.kind in STEPPED:
            low, high = self.values[:2]
            step = self.values[2] if self.kind == "quantised" else 1
            nearest_step = (
                _readable(low + round((value - low) / step) * step) if self.kind == "quantised" else round(value)
            )
            return low <= nearest_step <= high and math.isclose(value, nearest_step, rel_tol=1e-9, abs_tol=1e-12)
        return self.values[0] <= value <= self.values[1] or (self.kind == "zero_or_loguniform" and value == 0)

    def covers(self, other: Domain) -> bool:
        """Return whether every value of `other` is one of this domain's."""
        if (self.listed or self.kind in STEPPED) and not other.listed:
            values = other.every()
            return values is not None and not self.listed and all(value in self for value in values)
        return all(value in self for value in other.extremes())

    def extremes(self) -> tuple[Any, ...]:
        """Return the values whose validity implies that of all others."""
        if self.kind in STEPPED:
            return self._steps()[0], self._steps()[-1]
        return (0, *self.values) if self.kind == "zero_or_loguniform" else self.values


def domain_of(entry: Any, *, whole: bool) -> Domain:
    """Return the values that an entry of a space stands for; `ValueError` for a malformed one."""
    if not isinstance(entry, Mapping):
        return Domain("fixed", (entry,))
    known = {key: value for key, value in entry.items() if key != "prior"}
    if len(known) != 1:
        raise ValueError(f"needs exactly one of {', '.join((*RANGES, *LISTS))}, got {dict(entry)!r}")
    ((kind, values),) = known.items()
    if kind not in RANGES + LISTS:
        raise ValueError(
            f"unknown kind {kind!r}; choose one of: {', '.join((*RANGES, *LISTS))}.{nearest(str(kind), RANGES + LISTS)}"
        )
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise ValueError(f"{kind} needs a list, got {values!r}")
    if kind in LISTS:
        if "prior" in entry:
            raise ValueError(f"a prior belongs to a range, and {kind} lists values")
        if any(values.count(value) > 1 for value in values):
            raise ValueError(f"{kind} lists a value twice: {list(values)!r}")
        return Domain(kind, tuple(values))
    _check_range(kind, values, whole=whole)
    if kind in ("int", "log_int"):
        values = [int(value) for value in values]  # 1e3 is read as a fraction
    return Domain(kind, tuple(values), whole, _prior(kind, values, entry["prior"]) if "prior" in entry else None)


def _check_range(kind: str, values: Sequence[Any], *, whole: bool) -> None:
    quantised = kind == "quantised"
    wanted = "[low, high, step]" if quantised else "[low, high]"
    numbers = all(map(is_number, values))
    size = 3 if quantised else 2
    if len(values) != size or not numbers or not all(map(math.isfinite, values)) or not values[0] < values[1]:
        count = "three" if quantised else "two"
        raise ValueError(f"{kind} needs {wanted}, {count} finite numbers with low < high, got {list(values)!r}")
    if kind in LOGARITHMIC and values[0] <= 0:
        raise ValueError(f"{kind} needs bounds above 0, got {list(values)!r}")
    if quantised and not 0 < values[2] <= values[1] - values[0]:
        raise ValueError(f"quantised needs a step above 0 and at most high - low, got {list(values)!r}")
    if (kind in ("int", "log_int") or (quantised and whole)) and any(value != int(value) for value in values):
        raise ValueError(f"{kind} needs whole numbers here, got {list(values)!r}")
    if kind in STEPPED and (values[1] - values[0]) / (values[2] if quantised else 1) > MOST_VALUES:
        raise ValueError(f"{kind} has more than {MOST_VALUES} values: {list(values)!r}")


def _prior(kind: str, values: Sequence[Any], prior: Any) -> tuple[float, float]:
    words = f"prior needs {{median: number, spread: number}}, got {prior!r}"
    if not isinstance(prior, Mapping) or set(prior) != {"median", "spread"}:
        raise ValueError(words)
    median, spread = prior["median"], prior["spread"]
    if not all(is_number(one) and math.isfinite(one) for one in (median, spread)):
        raise ValueError(words)
    if not values[0] <= median <= values[1]:
        raise ValueError(f"the prior's median {median:g} lies outside {list(values[:2])!r}")
    least = 1.0 if kind in LOGARITHMIC else 0.0
    if not spread > least:
        raise ValueError(f"the prior's spread must be above {least:g} for {kind}, got {spread:g}")
    return float(median), float(spread)


def _readable(value: float) -> float:
    """Return six digits, which are more than a search needs, and can be read and typed again."""
    return float(f"{value:.6g}")
