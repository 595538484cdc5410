"""What a learner's head reads besides the features of its own network."""

from __future__ import annotations

from typing import Literal

from safe.config.settings import Config
from safe.heads import is_closed_form


def beside(config: Config, learner: str) -> Literal["ptm", "slow"] | None:
    """Return whose features stand in front of a learner's own, of equal width, where its closed form reads them.

    Args:
        learner: `slow` or `fast`. Without epochs of its own the fast learner is the slow one and reads the same.

    Returns:
        `ptm` for the frozen network (APER, arXiv 2303.07338), `slow` for the slow learner, `None` for nobody's.
    """
    if not is_closed_form(config.head.kind):
        return None
    if config.head.features == "with_frozen":
        return "ptm"
    both = config.head.features == "with_slow" and config.fast.epochs > 0
    return "slow" if both and learner == "fast" else None


def shares_statistics(config: Config) -> bool:
    """Return whether each learner's head adds up the features of both; one that reads both side by side does not."""
    return config.head.statistics == "shared" and config.head.features != "with_slow"
