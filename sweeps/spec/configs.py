"""The configurations of the runs that a specification asks for, beside those of its trials."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safe.config import validate
from sweeps.spec.specs import SweepSpec


def absolute(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration whose paths mean the same to every worker."""
    root = str(Path(config["data.root"]).absolute())
    weights = config["backbone.weights"]
    local = weights is not None and Path(weights).exists()
    return {**config, "data.root": root, "backbone.weights": str(Path(weights).absolute()) if local else weights}


def refit_config(spec: SweepSpec, trial: Mapping[str, Any], prediction: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the final runs start from: a trial's configuration at its settings of prediction.

    With selection=transfer it is the other data set's preset with the searched settings, the fixed ones of the space
    among them.
    """
    if spec.target is None:
        return {**trial, **prediction}
    searched = {name: trial[name] for name in spec.space}
    return {**spec.target, **searched, **prediction, "runtime.threads": spec.threads}


def control_config(spec: SweepSpec) -> dict[str, Any]:
    """Return what the control starts from: the preset as it is, with what was typed for every run."""
    return {**(spec.target or spec.base), "runtime.threads": spec.threads}


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
