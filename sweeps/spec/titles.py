"""Names that people recognise: of settings, values, runs, sweeps and lengths of time."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any

from safe.config import setting_names
from sweeps.spec.domains import is_number
from sweeps.spec.specs import Spec, SweepSpec
from tracking.recorder import Status

# The method's own words where a leaf alone would say nothing.
SHORT = {
    "slow.diag_weight": "diag",
    "slow.offdiag_weight": "rdn",
    "fast.feature_weight": "cos",
    "fast.cross_weight": "cross",
    "head.kind": "head",
    "head.projection_dim": "M",
    "aggregation.temperature": "temp.",
}
MOST_SETTINGS = 6
LONGEST_NAMES = 60


def data_name(dataset: str) -> str:
    """Return the name of a data set, which may be a path of any letters, in letters that every store takes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(dataset).name).strip("-._") or "data"


@lru_cache(maxsize=1024)
def short_name(name: str) -> str:
    """Return a setting's short form: its leaf, with the section where two sections have the leaf."""
    section, _, leaf = name.rpartition(".")
    shared = sum(other.rpartition(".")[2] == leaf for other in setting_names()) > 1
    return SHORT.get(name) or (f"{section} {leaf}" if shared else leaf)


def short_value(value: Any) -> str:
    """Return a value as people write it: `1e-3`, `0.05`, `24`, `ssf`; three digits and what stands before the point."""
    if _is_names(value):
        return names_in_short(value)
    if not is_number(value):
        return Path(value).name if isinstance(value, str) and "/" in value else str(value)
    plain = f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    scientific = f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return plain if value == 0 or 0.01 <= abs(value) < 1e4 else scientific


def names_in_short(names: Sequence[str]) -> str:
    """Return names in a line: all of a few, else how many, the first and the last, and a digest of all of them."""
    line = ", ".join(names)
    if len(line) <= LONGEST_NAMES:
        return line
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]
    return f"{len(names)} classes from {names[0]} to {names[-1]} ({digest})"


def param(value: Any) -> Any:
    """Return a setting as MLflow shows it: long lists of names in short, everything else as it is."""
    return names_in_short(value) if _is_names(value) else value


def _is_names(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(one, str) for one in value)


def status_word(status: Status) -> str:
    """Return how far a run is, in words: one that was interrupted goes on with the next call, so it is paused."""
    return "paused" if status == Status.KILLED else status.lower()


def prediction_word(prediction: Mapping[str, Any]) -> str:
    """Return settings of prediction in a word: the temperature of entropy weights, else the kind of aggregation."""
    kind = prediction["aggregation.kind"]
    return short_value(prediction["aggregation.temperature"]) if kind == "entropy" else str(kind)


def trial_title(label: str, config: Mapping[str, Any], varied: Collection[str]) -> str:
    """Return `trial 07 · diag 1e-3 · rdn 0`: a label and what the run sets of the varied settings."""
    words = [f"{short_name(name)} {short_value(config[name])}" for name in varied]
    more = [f"+{len(words) - MOST_SETTINGS}"] if len(words) > MOST_SETTINGS else []
    return " · ".join([label, *words[:MOST_SETTINGS], *more])


def run_name(title: str, config: Mapping[str, Any]) -> str:
    """Return a run's title without its settings, which tables have in columns of their own."""
    settings = tuple(f"{short_name(name)} " for name in config)
    return " · ".join(takewhile(lambda part: not part.startswith(settings), title.split(" · ")))


def title_of(spec: Spec) -> str:
    """Return `digits · staged · 2026-11-22 14:05`: the data set, the search and when the sweep began.

    An ablation has its name alone.
    """
    if not isinstance(spec, SweepSpec):
        return spec.name
    target = f" → {Path(spec.evaluate_on).name}" if spec.evaluate_on else ""
    mark = " · selected on test" if spec.selection == "test" else ""
    return " · ".join(filter(None, [f"{Path(spec.dataset).name}{target}", spec.search, spec.created])) + mark
