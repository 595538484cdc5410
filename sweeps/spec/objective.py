"""What a sweep is to improve: metrics of a trial's last session, each with its direction.

Written `NAME`, `NAME:max` or `NAME:min`, several separated by commas: `average_accuracy`, `accuracy,forgetting`,
`slow/accuracy`, `time/train_seconds:min`. Names are those of the metrics without the prefix of the split; without a
direction, what is better small (forgetting, nll, ece, times, losses) is minimised and all else maximised.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from safe.errors import UserError, choices
from safe.evaluation.metrics import LEARNERS, METRICS, metric
from safe.types import with_split

OWN_GROUPS = ("ridge/", "time/", "memory/", "train/")  # better small, all of them
DIRECTIONS = ("max", "min")


@dataclass(frozen=True)
class Objective:
    """One metric, named without the prefix of its split, and whether more of it is better."""

    name: str
    maximise: bool

    def metric(self, split: str) -> str:
        """Return the full name of the metric, which names the split of what depends on it."""
        return self.name if self.name.startswith(OWN_GROUPS) else with_split(split, self.name)

    def goodness(self, value: float | None) -> float:
        """Return the value so that more is better; what a trial does not have is worst."""
        if value is None:
            return float("-inf")
        return value if self.maximise else -value


@lru_cache(maxsize=64)
def objectives(text: str) -> tuple[Objective, ...]:
    """Return the objectives of a text; the first one decides among equals of the Pareto front.

    Raises:
        UserError: an unknown metric or direction, a metric named twice, or one of the test images.
    """
    parsed = tuple(_objective(part.strip()) for part in text.split(","))
    names = [objective.name for objective in parsed]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise UserError(f"--objective names {', '.join(twice)} twice")
    return parsed


def metric_names() -> tuple[str, ...]:
    """Return the metrics that may steer a sweep, without those of times, losses and the like."""
    single = [name for name, known in METRICS.items() if known.of in ("images", "probabilities")]
    of_learners = (f"{learner}/{name}" for learner in LEARNERS for name in single)
    return (*single, *of_learners, *(name for name in METRICS if name not in single))


def _objective(part: str) -> Objective:
    name, colon, direction = part.partition(":")
    if colon and direction not in DIRECTIONS:
        raise UserError(choices(direction, DIRECTIONS, f"direction of the objective {name}"))
    if name.startswith(with_split("test", "")):
        raise UserError(f"--objective {name}: what steers a sweep is decided by --selection; name the metric alone")
    name = name.removeprefix(with_split("val", ""))
    if name not in metric_names() and not name.startswith(OWN_GROUPS):
        raise UserError(choices(name, metric_names(), "objective"))
    known = metric(name)
    small = name.startswith(OWN_GROUPS) if known is None else known.small
    return Objective(name, direction == "max" if colon else not small)
