"""A published configuration audited: what it gives, what selecting by test would claim, what is chosen honestly.

The three stand on one sweep. Its control is the claimed configuration over several seeds; its trials are judged on held
out training images, and the chosen one is run over the same seeds; once the choice is final its trials are judged on
the test images too, of which the best is what selecting by them would claim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from safe.config import load_config, parse_overrides, validate
from safe.config.loading import preset
from safe.errors import UserError
from safe.io.tables import Column, Table
from safe.types import with_split
from sweeps.ledger.ledger import SweepLog
from sweeps.report.formatting import Measure
from sweeps.report.words import measure
from sweeps.results.statistics import paired_difference
from sweeps.results.summary import control_summary, difference, final_summary, optimism_gap
from sweeps.spec.objective import objectives
from sweeps.spec.space import Space, read_space
from sweeps.spec.specs import SweepSpec
from sweeps.studies.asked import sweep_spec

OF_THE_SWEEP = ("dataset", "data.evaluate_on", "data.holdout_share", "data.holdout_seed", "runtime.threads")


def claim_spec(
    dataset: str,
    config: Path,
    *,
    space: Mapping[str, Any] | Space | Path | str | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    **asked: Any,
) -> SweepSpec:
    """Return the sweep that a claimed configuration is put beside: its base, and so its control, is the claim.

    Args:
        dataset: name, alias or folder.
        config: YAML file of the claimed configuration; what it does not say is as in the data set's preset.
        space: what else could have been chosen; None is the preset's, without what `overrides` set.
        overrides: settings of the claim and of every trial.
        asked: other options of a sweep.

    Raises:
        UserError: as of a sweep, or `selection` is not the holdout, or `control` or `audit` are switched off.
    """
    if asked.get("selection", "holdout") != "holdout":
        raise UserError(f"a claim is audited by the holdout, got --selection {asked['selection']}; leave it out")
    if not (asked.get("control", True) and asked.get("audit", True)):
        raise UserError("an audit of a claim is made of the control and the audit of the trials; leave neither out")
    claimed, before = load_config(dataset, config, overrides).flat(), preset(dataset)
    changed = {name: value for name, value in claimed.items() if value != before[name] and name not in OF_THE_SWEEP}
    raw = space.raw if isinstance(space, Space) else space
    entries = dict(raw) if isinstance(raw, Mapping) else read_space(None if raw is None else Path(raw), dataset)
    if raw is None:
        typed = overrides if isinstance(overrides, Mapping) else parse_overrides(overrides)
        entries = {name: entry for name, entry in entries.items() if name not in typed}
    fixed = {name: value for name, value in changed.items() if name not in entries}
    spec = sweep_spec(dataset, space=entries, overrides=fixed, **{**asked, "control": True, "audit": True})
    searched = {name: changed[name] for name in entries if name in changed}
    base = validate({**spec.base, **searched}).flat()
    return spec.model_copy(update={"base": base, "space_asked": raw is not None})


@dataclass(frozen=True)
class ClaimRow:
    """One of the three numbers on the test images.

    Attributes:
        what: what it is of.
        runs: how it was come by.
        mean: fraction, or in the metric's own unit.
        half_width: of its 95 % t-interval; None for a single run.
    """

    what: str
    runs: str
    mean: float
    half_width: float | None


def claim_rows(log: SweepLog) -> list[ClaimRow]:
    """Return the rows of a sweep, by its first objective; what it does not have yet is absent."""
    metric, rows = with_split("test", objectives(log.sweep_spec.objective)[0].name), []
    for what, summary in (
        ("the claimed configuration", control_summary(log)),
        ("chosen on the holdout, in the same space", final_summary(log)),
    ):
        if summary is not None and metric in summary:
            values = summary[metric]["values"]
            zeros = [0.0] * len(values)
            half = paired_difference(values, zeros)["half_width"] if len(values) > 1 else None
            rows.append(ClaimRow(what, f"{len(values)} seeds", summary[metric]["mean"], half))
    if (gap := optimism_gap(log)) is not None:
        words = f"best of {gap['trials']} trials, one seed"
        rows.insert(1, ClaimRow("what selecting by test would claim", words, gap["claimed"], None))
    return rows


def show_claim(log: SweepLog, console: Console) -> None:
    """Print the rows as a table, and in a sentence each what they come to."""
    name = objectives(log.sweep_spec.objective)[0].name
    rows = []
    for row in claim_rows(log):
        spread = "" if row.half_width is None else f" ± {measure(name, row.half_width)}"
        rows.append([row.what, row.runs, f"{measure(name, row.mean)}{spread}"])
    title = f"audit of the claim: {name} on the test images, 95 % t-intervals"
    table = Table(["", Column("runs", right=False, rank=1), Column(name, right=True)], rows, title)
    console.print(table.on_terminal(console.width))
    if (pair := (difference(log) or {}).get(with_split("test", name))) is not None:
        words = f"chosen minus claimed: {Measure(name).difference(pair)} points, paired over {pair['seeds']} seeds"
        console.print(f"{words}: {pair['verdict']}", highlight=False)
    if (gap := optimism_gap(log)) is not None:
        words = f"{measure(name, gap['gap'])} of what selecting by test would claim is optimism: in the same runs"
        console.print(f"{words} the choice of the holdout has {measure(name, gap['honest'])}", highlight=False)
