"""Sweeps over the settings of SAFE, from Python:

    from sweeps import load_sweep, run_sweep

    sweep = run_sweep("digits", trials=8, name="demo", overrides={"fast.epochs": 3})
    sweep.best.settings, sweep.final["test/accuracy"]["mean"]
    load_sweep("demo").trials.sort_values("val/average_accuracy")

The names below are loaded on first use, so that `import sweeps` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.spec.space import Space
    from sweeps.studies.asked import Sweep, load_sweep, run_sweep

    __version__: str

__all__ = ["Space", "Sweep", "__version__", "load_sweep", "run_sweep"]

_HOMES = {
    "Space": "sweeps.spec.space",
    "Sweep": "sweeps.studies.asked",
    "__version__": "safe",
    "load_sweep": "sweeps.studies.asked",
    "run_sweep": "sweeps.studies.asked",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sweeps' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
