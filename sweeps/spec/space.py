"""Search spaces: which settings a sweep varies, and the values of each trial.

A space is YAML, one dotted setting a line, with one of these as its value:

    fast.cross_weight: {zero_or_loguniform: [1e-3, 1e2]}   # exactly 0 with probability 1/4
    slow.lr: {loguniform: [1e-3, 1e-1]}
    pet.dropout: {uniform: [0, 0.5]}                       # whole numbers for settings that are
    pet.rank: {log_int: [2, 64]}                           # whole numbers by their logarithm; int: each equally often
    fast.momentum: {quantised: [0, 0.9, 0.1]}              # in steps of 0.1 from 0 on
    fast.lr: {loguniform: [1e-3, 1], prior: {median: 0.03, spread: 3}}   # half of the first draws lie near 0.03
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
from pathlib import Path
from typing import Any, get_args

from safe.config import setting_names, validate
from safe.config.described import acting, field_of, of_role
from safe.config.loading import ORDER, preset, with_order
from safe.config.marks import Acts, Role
from safe.errors import UserError, nearest
from safe.io.documents import parse_yaml
from safe.io.opening import read_regular
from sweeps.spec.conditions import unmet, used
from sweeps.spec.domains import RANGES, Domain, domain_of
from sweeps.spec.presets import space_presets

PREDICTION_SETTINGS = tuple(sorted(acting(Acts.PREDICTION)))
MOST_PREDICTIONS = 2_000


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
        return parse_space(raw, preset(dataset))

    def settings(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a trial sets: the fixed values and the varied ones.

        A varied setting without effect beside the others keeps the value that trials start from.
        """
        config = {**self.base, **self.fixed, **values}
        return {
            **self.fixed,
            **{name: value if used(name, config) else self.base[name] for name, value in values.items()},
        }


def read_space(file: Path | None, dataset: str) -> dict[str, Any]:
    """Return the raw space of a file or of a preset by its name; without any the data set's, else the default one."""
    shipped = space_presets()
    name = dataset if file is None else str(file)
    if file is None or (name in shipped and not file.exists()):
        chosen = shipped.get(name, shipped["default"])
        return dict(parse_yaml(chosen.read_text("utf-8"), f"the space preset {name}"))
    try:
        tree = parse_yaml(read_regular(file).decode("utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the search space {file}: {error}; or name one of {', '.join(shipped)}") from None
    if not isinstance(tree, dict) or not tree or not all(isinstance(name, str) for name in tree):
        raise UserError(
            f"{file} must hold a search space, one setting a line, such as slow.lr: {{loguniform: [1e-3, 1e-1]}}"
        )
    return tree


def with_orders(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return entries with the names of the classes in place of files with their order, so that no worker needs those.

    Raises:
        UserError: such a file cannot be read.
    """

    def read(value: Any) -> Any:
        return with_order({ORDER: value})[ORDER]

    entry = raw.get(ORDER)
    if isinstance(entry, Mapping):
        lists = {kind: [*map(read, values)] if isinstance(values, list) else values for kind, values in entry.items()}
        return {**raw, ORDER: lists}
    return {**raw, ORDER: read(entry)} if isinstance(entry, str) else dict(raw)


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
            if name in of_role(Role.FRAME):
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
    return domain_of(entry, whole=_is_whole(name))


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
