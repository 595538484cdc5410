"""SAFE: slow and fast parameter-efficient tuning for continual learning with pre-trained models.

    from safe import SafeTrainer, load_config

    trainer = SafeTrainer(load_config("digits"))
    while not trainer.done:
        print(trainer.run_session().as_metrics())

The names below are loaded on first use, so that `import safe` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safe.config import load_config
    from safe.trainer import SafeTrainer

__all__ = ["SafeTrainer", "load_config"]


def __getattr__(name: str) -> Any:
    if name == "SafeTrainer":
        from safe.trainer import SafeTrainer

        return SafeTrainer
    if name == "load_config":
        from safe.config import load_config

        return load_config
    raise AttributeError(f"module 'safe' has no attribute {name!r}")
