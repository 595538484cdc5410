"""What a sweep is: everything its results depend on, fixed under its name.

A name stands for one specification. Calling it again continues the sweep; more trials or seeds extend it; any other
difference is refused, because two searches would be mixed in one table.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from safe.config import Config, load_config, parse_overrides, validate
from safe.errors import UserError, choices
from sweeps.space import Space, parse_space, read_space, sample

Search = Literal["random"]
Selection = Literal["holdout", "test"]
Objective = Literal["average_accuracy", "accuracy", "accuracy_session_mean"]

DEFAULT_TRIALS = 6
DEFAULT_SEEDS = 3
DEFAULT_HOLDOUT_SHARE = 0.2
NAME_LENGTH = 64
MAY_GROW = ("trials", "seeds")
MAY_CHANGE = ("concurrency",)


class RunsSpec(BaseModel):
    """What every named set of runs has: where it starts from and how it is run."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    name: str
    """Names the folder, the parent run and every later call."""
    dataset: str
    """Canonical name of the data set."""
    seeds: int = Field(ge=1)
    """Runs of one configuration on all training images; seed and class order both change."""
    base: dict[str, Any]
    """Preset and overrides under dotted names: what every run starts from."""
    threads: int = Field(ge=1)
    """CPU threads of a run; part of the results, which are equal for equal thread counts."""
    concurrency: int = Field(ge=1)
    """Runs at the same time; no result depends on it once `threads` is set."""

    def comparable(self) -> dict[str, Any]:
        """Return what must stay equal under one name, one entry per setting."""
        return self.model_dump(mode="json", exclude={"name", "base", *MAY_GROW, *MAY_CHANGE}) | self.base

    def digest(self) -> str:
        """Return a digest of what defines the results."""
        return hashlib.sha256(json.dumps(self.comparable(), sort_keys=True).encode()).hexdigest()[:16]


class AblationSpec(RunsSpec):
    """The specification of an ablation: the same runs for every arm, judged on the test images, nothing selected."""

    kind: Literal["ablation"] = "ablation"
    arms: list[str]
    """Names of the arms; see `sweeps.ablation.ARMS`."""

    @property
    def selection(self) -> Literal["none"]:
        """No decision is taken, so nothing steers it."""
        return "none"

    @property
    def runs(self) -> int:
        """How many training runs there will be."""
        return len(self.arms) * self.seeds


class SweepSpec(RunsSpec):
    """The specification of one sweep; `seeds` counts the final runs of the chosen configuration."""

    kind: Literal["sweep"] = "sweep"
    trials: int = Field(ge=1)
    """Trained configurations of the search."""
    search: Search = "random"
    """How trials are proposed."""
    selection: Selection = "holdout"
    """What steers the search: held-out training images, or (only to reproduce papers) the test images."""
    objective: Objective = "average_accuracy"
    """Metric of the last session that the chosen trial maximises."""
    search_seed: int = 0
    """Seed of the proposals."""
    holdout_share: float = Field(gt=0, lt=1)
    """Share of each class's training images held out for selection."""
    space: dict[str, Any]
    """The search space as written."""

    @property
    def runs(self) -> int:
        """How many training runs there will be."""
        return self.trials + self.seeds

    def comparable(self) -> dict[str, Any]:
        """Return what must stay equal under one name, the space setting by setting."""
        rest = super().comparable()
        return {k: v for k, v in rest.items() if k != "space"} | {f"space {k}": v for k, v in self.space.items()}

    @property
    def split(self) -> Literal["val", "test"]:
        """Prefix of the metrics that steer the search."""
        return "test" if self.selection == "test" else "val"

    def parsed_space(self) -> Space:
        """Return the checked search space."""
        return parse_space(self.space, self.base)

    def trial_config(self, index: int, space: Space) -> dict[str, Any]:
        """Return the full flat configuration of trial `index`, checked."""
        judged: dict[str, Any] = (
            {"data.evaluate_on": "test", "data.holdout_share": 0.0}
            if self.selection == "test"
            else {"data.evaluate_on": "holdout", "data.holdout_share": self.holdout_share}
        )
        drawn = sample(space, self.search_seed, index, self.base)
        return validate({**self.base, **drawn, **judged, "runtime.threads": self.threads}).flat()


Spec = SweepSpec | AblationSpec


def read_spec(raw: Mapping[str, Any]) -> Spec:
    """Return the specification that `model_dump` wrote."""
    kind = AblationSpec if raw["kind"] == "ablation" else SweepSpec
    return kind.model_validate(raw)


def build_spec(
    *,
    name: str | None,
    dataset: str,
    overrides: Sequence[str] = (),
    trials: int = DEFAULT_TRIALS,
    seeds: int = DEFAULT_SEEDS,
    search: str = "random",
    selection: str = "holdout",
    space_file: Path | None = None,
    concurrency: int | None = None,
) -> SweepSpec:
    """Return the specification that a command line asks for.

    Raises:
        UserError: a name, number, choice, setting or space is not valid.
    """
    for number, what in ((trials, "trials"), (seeds, "seeds"), (concurrency, "concurrency")):
        if number is not None and number < 1:
            raise UserError(f"--{what} must be at least 1, got {number}")
    for word, allowed, what in ((search, Search, "search"), (selection, Selection, "selection")):
        if word not in get_args(allowed):
            raise UserError(choices(word, get_args(allowed), what))
    given = parse_overrides(overrides)
    if "dataset" in given:
        raise UserError(f"choose the data set with --dataset {given['dataset']}")
    if "data.evaluate_on" in given:
        raise UserError("data.evaluate_on is decided by --selection, which is holdout or test")
    config = load_config(dataset, overrides=given)
    base = config.flat()
    raw_space = read_space(space_file, config.dataset)
    clash = sorted(set(raw_space) & set(given))
    if clash and space_file is not None:
        raise UserError(f"set either in the space or as key=value, not both: {', '.join(clash)}")
    # A value typed on the command line is meant for every trial and leaves nothing of the preset space to search there.
    space = {setting: entry for setting, entry in raw_space.items() if setting not in given}
    if not parse_space(space, base).domains and trials > 1:
        raise UserError("nothing is left to search, so every trial would be the same; ask for one trial (TRIALS=1)")
    threads, concurrency = resources(config, concurrency)
    return SweepSpec(
        name=checked_name(name or default_name(config.dataset, f"{datetime.now():%Y%m%d-%H%M%S}")),
        dataset=config.dataset,
        trials=trials,
        seeds=seeds,
        search="random",
        selection="test" if selection == "test" else "holdout",
        holdout_share=config.data.holdout_share or DEFAULT_HOLDOUT_SHARE,
        space=space,
        base=base,
        threads=threads,
        concurrency=concurrency,
    )


def resources(config: Config, concurrency: int | None) -> tuple[int, int]:
    """Return (threads of a run, runs at a time): one run a GPU, else one a core, so that nothing is oversubscribed."""
    gpus = gpu_count() if config.runtime.device != "cpu" else 0
    cores = core_count()
    concurrency = concurrency or gpus or max(1, cores // (config.runtime.threads or 1))
    return config.runtime.threads or max(1, cores // concurrency), concurrency


def core_count() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu_count() -> int:
    """Return how many GPUs torch can use here."""
    import torch

    return torch.cuda.device_count()


def checked_name(name: str) -> str:
    """Return `name` if it can name a sweep, a folder and a run; else raise `UserError` with the rule."""
    if not re.fullmatch(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{NAME_LENGTH - 1}}}", name):
        raise UserError(
            f"{name!r} cannot name a sweep: use 1 to {NAME_LENGTH} letters, digits, '.', '_' or '-', "
            "beginning with a letter or digit"
        )
    return name


def default_name(dataset: str, suffix: str) -> str:
    """Return a name made of a data set's, which may be a path with any letters, and a suffix."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(dataset).name).strip("-._")
    return f"{stem[: NAME_LENGTH - len(suffix) - 1] or 'data'}-{suffix}"


def continued(old: Spec, new: Spec) -> Spec:
    """Return the specification under which the sweep `old` goes on when `new` is asked for under its name.

    The thread count stays that of `old` unless it was given, so that another concurrency changes no result.

    Raises:
        UserError: names every setting that differs, with both values.
    """
    if not new.base["runtime.threads"]:
        new = new.model_copy(update={"threads": old.threads})
    before, now = old.comparable(), new.comparable()
    differing = [
        f"{key}: {before.get(key, '(absent)')} -> {now.get(key, '(absent)')}"
        for key in dict.fromkeys([*before, *now])
        if before.get(key) != now.get(key)
    ]
    differing += [
        f"{key}: {getattr(old, key)} -> {getattr(new, key)} (can only grow)"
        for key in MAY_GROW
        if getattr(new, key, 0) < getattr(old, key, 0)
    ]
    if differing:
        raise UserError(
            "\n".join(
                [
                    f"the name {old.name!r} belongs to a sweep with other settings:",
                    *(f"  - {line}" for line in differing),
                    "Choose another name, or repeat the old settings to continue that sweep.",
                ]
            )
        )
    return new
