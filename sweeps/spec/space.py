"""Search spaces: which settings a sweep varies, and the values of each trial.

A space is YAML, one dotted setting a line, with one of these as its value:

    fast.cross_weight: {zero_or_loguniform: [1e-3, 1e2]}   # exactly 0 with probability 1/4
    slow.lr: {loguniform: [1e-3, 1e-1]}
    pet.dropout: {uniform: [0, 0.5]}                       # whole numbers for settings that are
    pet.kind: {choice: [adapter, ssf]}
    aggregation.temperature: {grid: [0.1, 1, 10]}
    slow.epochs: 5                                         # fixed for every trial

Settings that act only at prediction never make a trial. They need listed values, all of which are scored from the
cached logits of every trained state. A setting that a trial does not use (`pet.rank` beside `pet.kind: adapter`) keeps
the preset's value in that trial; one that no trial can use is refused (`sweeps.spec.conditions`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

from safe.config import load_config, setting_names, validate
from safe.config.described import acting, field_of
from safe.config.marks import Acts
from safe.errors import UserError, nearest
from safe.io.documents import parse_yaml
from safe.io.opening import read_regular
from sweeps.spec.conditions import unmet, used

PREDICTION_SETTINGS = tuple(sorted(acting(Acts.PREDICTION)))
MOST_PREDICTIONS = 2_000
MOST_VALUES = 20_000  # of a range of whole numbers that are looked at one by one: more than a sweep has trials
ZERO_SHARE = 0.25
RANGES = ("zero_or_loguniform", "loguniform", "uniform")
LISTS = ("choice", "grid")
SET_BY_THE_SWEEP = ("dataset", "seed", "class_order_seed", "data.evaluate_on", "data.holdout_share", "runtime.threads")


@dataclass(frozen=True)
class Domain:
    """The values that one setting may take: `values` are the two bounds of a range, or the list itself.

    Every domain is the unit interval, so that a search proposes a position in [0, 1) whatever the kind. Of a
    `zero_or_loguniform` the first quarter is exactly 0 and the rest is logarithmic.
    """

    kind: str
    values: tuple[Any, ...]
    whole: bool = False

    @property
    def listed(self) -> bool:
        """Whether the values are listed, not a range."""
        return self.kind not in RANGES

    def at(self, position: float) -> Any:
        """Return the value at a position in [0, 1); a range takes 1 too."""
        if self.listed:
            return self.values[int(position * len(self.values))]
        low, high = (float(bound) for bound in self.values)
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
        # Six digits are more than a search needs, and the value can be read and typed again.
        return min(max(float(f"{value:.6g}"), low), high)

    def position(self, value: Any) -> float:
        """Return the position of a value of the domain; the middle of its share for a listed value and for 0."""
        if self.listed:
            return (self.values.index(value) + 0.5) / len(self.values)
        low, high = (float(bound) for bound in self.values)
        if self.kind == "uniform":
            return (value - low) / (high - low)
        zero = ZERO_SHARE if self.kind == "zero_or_loguniform" else 0.0
        if value == 0:
            return zero / 2
        return zero + (1 - zero) * (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))

    def every(self) -> Sequence[Any] | None:
        """Return all values; None of a range of fractions, which has no end."""
        if self.listed:
            return self.values
        if not self.whole:
            return None
        low, high = map(round, self.values)
        return [*([0] if self.kind == "zero_or_loguniform" else []), *range(low, min(high, low + MOST_VALUES) + 1)]

    def __contains__(self, value: Any) -> bool:
        if self.listed:
            return value in self.values
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return False
        return self.values[0] <= value <= self.values[1] or (self.kind == "zero_or_loguniform" and value == 0)

    def covers(self, other: Domain) -> bool:
        """Return whether every value of `other` is one of this domain's."""
        if self.listed and not other.listed:
            return False
        return all(value in self for value in other.extremes())

    def extremes(self) -> tuple[Any, ...]:
        """Return the values whose validity implies that of all others."""
        return (0, *self.values) if self.kind == "zero_or_loguniform" else self.values


@dataclass(frozen=True)
class Space:
    """A checked search space.

    Attributes:
        domains: what trials vary.
        fixed: what is the same for all trials.
        predictions: every combination of the settings of prediction, at which each trained state is scored.
        base: flat configuration that trials start from.
        raw: the entries as written.
    """

    domains: Mapping[str, Domain]
    fixed: Mapping[str, Any]
    predictions: tuple[dict[str, Any], ...]
    base: Mapping[str, Any]
    raw: Mapping[str, Any]

    @classmethod
    def of(cls, raw: Mapping[str, Any], dataset: str = "digits") -> Space:
        """Return a space written in Python, `{"slow.lr": {"loguniform": [1e-3, 1e-1]}}`, checked at once.

        Raises:
            UserError: as `parse_space`, for trials that start from the preset of `dataset`.
        """
        return parse_space(raw, load_config(dataset).flat())

    def settings(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a trial sets: the fixed values, and of the varied ones those that have an effect beside the
        others; a setting without effect keeps the value that trials start from."""
        config = {**self.base, **self.fixed, **values}
        return {
            **self.fixed,
            **{name: value if used(name, config) else self.base[name] for name, value in values.items()},
        }


def read_space(file: Path | None, dataset: str) -> dict[str, Any]:
    """Return the raw space of a file, or the preset of the data set (else the default preset)."""
    if file is None:
        presets = files("sweeps") / "presets"
        names = [preset.name for preset in presets.iterdir()]
        chosen = presets / (f"{dataset}.yaml" if f"{dataset}.yaml" in names else "default.yaml")
        return dict(parse_yaml(chosen.read_text("utf-8"), f"the space preset of {dataset}"))
    try:
        tree = parse_yaml(read_regular(file).decode("utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the search space {file}: {error}") from None
    if not isinstance(tree, dict) or not tree or not all(isinstance(name, str) for name in tree):
        raise UserError(
            f"{file} must hold a search space, one setting a line, such as slow.lr: {{loguniform: [1e-3, 1e-1]}}"
        )
    return tree


def parse_space(raw: Mapping[str, Any], base: Mapping[str, Any]) -> Space:
    """Return the checked space of raw entries; `base` is the flat configuration that trials start from.

    Raises:
        UserError: names every unknown setting, malformed entry and value out of range, all at once.
    """
    known, problems = setting_names(), []
    domains: dict[str, Domain] = {}
    fixed: dict[str, Any] = {}
    at_prediction: dict[str, tuple[Any, ...]] = {name: (base[name],) for name in PREDICTION_SETTINGS}
    for name, entry in raw.items():
        try:
            if name not in known:
                raise ValueError(f"unknown setting.{nearest(name, known)}")
            if name in SET_BY_THE_SWEEP:
                raise ValueError("the sweep itself sets this; it cannot be searched")
            domain = parse_domain(name, entry)
            _check_values(name, domain, base)
        except ValueError as error:
            problems.append(f"{name}: {error}")
            continue
        if name in PREDICTION_SETTINGS:
            if domain.kind in RANGES:
                problems.append(f"{name}: acts at prediction only and is scored for free; list values: {{grid: [...]}}")
            else:
                at_prediction[name] = domain.values
        elif domain.kind == "fixed":
            fixed[name] = domain.values[0]
        else:
            domains[name] = domain
    if not problems:
        problems = [f"{name}: changes nothing, because {why}" for name, why in without_effect(raw, base).items()]
    if problems:
        raise UserError("\n".join(["the search space is not valid:", *(f"  - {problem}" for problem in problems)]))
    if (count := math.prod(map(len, at_prediction.values()))) > MOST_PREDICTIONS:
        raise UserError(
            f"the settings of prediction ({', '.join(PREDICTION_SETTINGS)}) have {count} combinations, each of which "
            f"is scored after every session and written down; at most {MOST_PREDICTIONS} are: list fewer values"
        )
    return Space(domains, fixed, _predictions(at_prediction, base), base, dict(raw))


def _predictions(lists: Mapping[str, Sequence[Any]], base: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return the combinations of listed values that differ in effect; one without effect keeps its value of `base`."""
    different: dict[tuple[Any, ...], None] = {}
    for values in itertools.product(*lists.values()):
        config = {**base, **dict(zip(lists, values, strict=True))}
        different[tuple(config[name] if used(name, config) else base[name] for name in lists)] = None
    return tuple(dict(zip(lists, values, strict=True)) for values in different)


def without_effect(raw: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, str]:
    """Return the well-formed entries that can change nothing whatever the others are, each with the reason."""
    possible: dict[str, Sequence[Any]] = {name: (value,) for name, value in base.items()}
    possible |= {name: parse_domain(name, entry).extremes() for name, entry in raw.items()}
    return {name: why for name in raw if (why := unmet(name, possible))}


def parse_domain(name: str, entry: Any) -> Domain:
    """Return the values that the space entry of a setting stands for; ValueError for a malformed one."""
    return _domain(entry, whole=_is_whole(name))


def _domain(entry: Any, *, whole: bool) -> Domain:
    if not isinstance(entry, Mapping):
        return Domain("fixed", (entry,))
    if len(entry) != 1:
        raise ValueError(f"needs exactly one of {', '.join((*RANGES, *LISTS))}, got {dict(entry)!r}")
    ((kind, values),) = entry.items()
    if kind not in RANGES + LISTS:
        raise ValueError(
            f"unknown kind {kind!r}; choose one of: {', '.join((*RANGES, *LISTS))}.{nearest(str(kind), RANGES + LISTS)}"
        )
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise ValueError(f"{kind} needs a list, got {values!r}")
    if kind in LISTS:
        if any(values.count(value) > 1 for value in values):
            raise ValueError(f"{kind} lists a value twice: {list(values)!r}")
        return Domain(kind, tuple(values))
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    if len(values) != 2 or not numbers or not all(map(math.isfinite, values)) or not values[0] < values[1]:
        raise ValueError(f"{kind} needs [low, high], two finite numbers with low < high, got {list(values)!r}")
    if kind != "uniform" and values[0] <= 0:
        raise ValueError(f"{kind} needs bounds above 0, got {list(values)!r}")
    return Domain(kind, tuple(values), whole)


def _is_whole(name: str) -> bool:
    """Whether a setting is a whole number, also where its default is empty."""
    kinds: list[Any] = [field_of(name).annotation]
    for kind in kinds:  # a union or an annotation adds what it is made of
        kinds += get_args(kind)
    return int in kinds


def _check_values(name: str, domain: Domain, base: Mapping[str, Any]) -> None:
    """Raise `ValueError` with the configuration's own words for the values that it does not accept."""
    refused: list[str] = []
    for value in domain.extremes():
        try:
            validate({**base, name: value})
        except UserError as error:
            refused += [line.strip(" -").removeprefix(f"{name}: ") for line in str(error).splitlines()[1:]]
    if refused:
        raise ValueError("; ".join(dict.fromkeys(refused)))
