"""SAFE: slow and fast parameter-efficient tuning for continual learning with pre-trained models.

Train, keep what predicting needs, predict:

    from safe import SafeTrainer, load_config, load_predictor
    from safe.states.checkpoint import save_state

    trainer = SafeTrainer(load_config("digits"))
    while not trainer.done:
        print(trainer.run_session().as_metrics())
    save_state(trainer.inference_state(), "digits.state")

    prediction = load_predictor("digits.state").predict(["a.png", "b.png"])
    print(prediction.labels, prediction.probabilities, prediction.fast_weight)

The names below are loaded on first use, so that `import safe` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safe.config import load_config
    from safe.data.loading import register_dataset
    from safe.heads import register_head
    from safe.pet.registry import register as register_pet
    from safe.predictor import load_predictor
    from safe.training.trainer import SafeTrainer

    __version__: str

__all__ = [
    "SafeTrainer",
    "__version__",
    "load_config",
    "load_predictor",
    "register_dataset",
    "register_head",
    "register_pet",
]

_HOMES = {
    "SafeTrainer": ("safe.training.trainer", "SafeTrainer"),
    "load_config": ("safe.config", "load_config"),
    "load_predictor": ("safe.predictor", "load_predictor"),
    "register_dataset": ("safe.data.loading", "register_dataset"),
    "register_head": ("safe.heads", "register_head"),
    "register_pet": ("safe.pet.registry", "register"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":  # as it was installed: pyproject.toml alone says it
        try:
            return version("safe-sweeps")
        except PackageNotFoundError:  # a bare checkout, as in the containers
            return "not installed"
    if name not in _HOMES:
        raise AttributeError(f"module 'safe' has no attribute {name!r}")
    module, own = _HOMES[name]
    return getattr(import_module(module), own)
