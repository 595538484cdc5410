"""Numbers as people read them: percent with one decimal, differences with their sign."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safe.evaluation.metrics import metric
from sweeps.spec.titles import param, short_name, short_value

MOST_ROWS = 50  # of a table that grows with the trials
NO_FRACTIONS = ("ridge", "time", "memory", "train", "system")  # groups that are not of the evaluation


class Measure:
    """How a metric is named and written; `scale` turns its values into those of figures and tables."""

    def __init__(self, name: str) -> None:
        self.name = name
        known, (learner, _, leaf) = metric(name), name.rpartition("/")
        self.fraction = known.share if known else name.partition("/")[0] not in NO_FRACTIONS
        self.scale = 100.0 if self.fraction else 1.0
        title = known.title if known else leaf.replace("_", " ")
        self.title = f"{title} ({learner})" if learner else title
        self.axis = f"{self.title} (%)" if self.fraction else self.title

    def write(self, value: float | None, digits: int = 1) -> str:
        """Return a value, `–` for none."""
        if value is None:
            return "–"
        return f"{100 * value:z.{digits}f}" if self.fraction else f"{value:.4g}"

    def spread(self, stats: Mapping[str, Any] | None) -> str:
        """Return mean ± standard deviation, the mean alone for one value."""
        if stats is None:
            return "–"
        mean, std = self.write(stats["mean"]), stats["std"]
        if std is None:
            return mean
        return f"{mean} ± {self.write(std) if self.fraction else format(std, '.2g')}"

    def difference(self, gap: Mapping[str, Any] | None) -> str:
        """Return a paired difference with its 95 % interval."""
        if gap is None:
            return "–"
        mean = self.write(gap["mean"])
        sign = "+" if gap["mean"] > 0 and mean.strip("0.") else ""
        return f"{sign}{mean} ± {self.write(gap['half_width'])}"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def settings_line(settings: Mapping[str, Any]) -> str:
    """Return settings in one line."""
    return ", ".join(f"{short_name(name)} {short_value(value)}" for name, value in settings.items())


def size(count: int) -> str:
    """Return bytes in MB or GB of 10^6 and 10^9 bytes."""
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


def exact(value: Any) -> str:
    """Return a value of a setting with all the digits that a search draws; an order of many classes in short."""
    return f"{value:.6g}" if isinstance(value, float) else str(param(value))
