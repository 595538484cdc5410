"""The configurations of the runs that a specification asks for, beside those of its trials."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safe.config import validate
from sweeps.spec.space import PREDICTION_SETTINGS
from sweeps.spec.specs import SweepSpec

# What a baseline sets beside what is fixed for every trial; the preset is as it is.
PRESET = "preset"
BASELINES: Mapping[str, Mapping[str, Any]] = {
    PRESET: {},
    "ranpac": {"slow.diag_weight": 0.0, "slow.offdiag_weight": 0.0, "fast.epochs": 0},
    "frozen": {"pet.kind": "none", "slow.epochs": 0, "fast.epochs": 0},
}
BASELINE_NAMES = {PRESET: "the preset", "ranpac": "RanPAC", "frozen": "the frozen head"}


def absolute(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration whose paths mean the same to every worker."""
    root = str(Path(config["data.root"]).absolute())
    weights = config["backbone.weights"]
    local = weights is not None and Path(weights).exists()
    return {**config, "data.root": root, "backbone.weights": str(Path(weights).absolute()) if local else weights}


def refit_config(
    spec: SweepSpec, trial: Mapping[str, Any], prediction: Mapping[str, Any], baseline: str | None = None
) -> dict[str, Any]:
    """Return what the final runs start from: the configuration of a trial or baseline at its settings of prediction.

    With selection=transfer it is the other data set's preset with the searched settings, the fixed ones of the space
    among them.
    """
    if spec.target is None:
        return {**trial, **prediction}
    if baseline == PRESET:
        return control_config(spec)
    searched = {name: trial[name] for name in (*spec.space, *BASELINES.get(baseline or PRESET, ()))}
    return {**spec.target, **searched, **prediction, "runtime.threads": spec.threads}


def control_config(spec: SweepSpec) -> dict[str, Any]:
    """Return what the control starts from: the preset as it is, with what was typed for every run."""
    return {**(spec.target or spec.base), "runtime.threads": spec.threads}


def baseline_config(spec: SweepSpec, name: str, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a baseline, judged as a trial is; `fixed` is what the space fixes."""
    return spec.trial_config({**({} if name == PRESET else fixed), **BASELINES[name]})


def own_prediction(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of prediction that a configuration names."""
    return {name: config[name] for name in PREDICTION_SETTINGS}


def race_config(trial: Mapping[str, Any], repeat: int) -> dict[str, Any]:
    """Return a finalist's configuration with other seeds; `repeat` counts from 1, 0 being the search.

    Other images are held out too: those of the search chose the finalists, so they flatter them.
    """
    seeds = ("seed", "class_order_seed", "data.holdout_seed")
    return validate({**trial, **{name: trial[name] + repeat for name in seeds}}).flat()


def audit_config(trial: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trial judged on the test images: what it trained on stays, so its state can be taken as it is."""
    return validate({**trial, "data.evaluate_on": "test"}).flat()


def final_config(chosen: Mapping[str, Any], repeat: int) -> dict[str, Any]:
    """Return the flat configuration of one final run; `repeat` counts from 0 and shifts seed and class order."""
    return validate(
        {
            **chosen,
            "data.holdout_share": 0.0,
            "data.evaluate_on": "test",
            "seed": chosen["seed"] + repeat,
            "class_order_seed": chosen["class_order_seed"] + repeat,
        }
    ).flat()
