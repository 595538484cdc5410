"""What a sweep gave, in sentences for people: the terminal and the description of its parent run have the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safe.evaluation.metrics import MAIN, METRICS
from safe.types import with_split
from sweeps.ledger.ledger import SweepLog
from sweeps.report.formatting import Measure
from sweeps.results.accounting import work_account
from sweeps.results.importance import edge_words, importance, range_edges
from sweeps.results.summary import difference, final_summary, optimism_gap
from sweeps.spec.objective import objectives
from sweeps.spec.titles import short_name

SHOWN = tuple((name, METRICS[name].title) for name in MAIN)
MOST_SHARES = 4


def outcome_lines(log: SweepLog) -> list[str]:
    """Return all of them."""
    words = forgetting_words(final_summary(log) or {}, with_split("test", ""))
    return [*words, *difference_lines(log), *importance_lines(log), *gap_lines(log), *work_lines(log)]


def forgetting_words(metrics: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return in sentences what forgetting is made of; none where the metrics do not say.

    Args:
        metrics: `mean` of each after the last session, by its name after `prefix`.
    """
    names = ("forgetting", "forgetting_within", "forgetting_confusion", "accuracy_within_session")
    if any(prefix + name not in metrics for name in names):
        return []
    lost, really, confusion, own = (f"{100 * metrics[prefix + name]['mean']:z.1f}" for name in names)
    return [
        f"Of {lost} points of forgetting, {really} are really forgotten and {confusion} are more confusion "
        "with other sessions.",
        f"Among the classes of its own session alone, {own} % of the images are right.",
    ]


def importance_lines(log: SweepLog) -> list[str]:
    """Return how much the settings matter, and which ranges should be wider."""
    shares = [
        f"{short_name(entry.setting)} {100 * entry.share:.0f} % ({100 * entry.low:.0f} to {100 * entry.high:.0f})"
        for entry in importance(log)[:MOST_SHARES]
    ]
    told = [f"what matters (PED-ANOVA, 90 % of bootstraps): {', '.join(shares)}"] if shares else []
    return [*told, *map(edge_words, range_edges(log))]


def difference_lines(log: SweepLog) -> list[str]:
    pairs = difference(log) or {}
    named = [(heading, pairs[name]) for metric, heading in SHOWN if (name := with_split("test", metric)) in pairs]
    return [
        f"chosen minus preset, {heading}: {100 * pair['mean']:+z.1f} ± {100 * pair['half_width']:.1f} points "
        f"(95 % interval, {pair['seeds']} seeds): {pair['verdict']}"
        for heading, pair in named
    ]


def gap_lines(log: SweepLog) -> list[str]:
    gap = optimism_gap(log)
    if gap is None:
        return []
    name = objectives(log.sweep_spec.objective)[0].name
    claimed, honest, lost = (measure(name, gap[part]) for part in ("claimed", "honest", "gap"))
    return [
        f"selecting on test would have claimed {name} {claimed} ({gap['claimed_by']['trial']}); the honest choice has "
        f"{honest} there: optimism gap {lost}"
    ]


def work_lines(log: SweepLog) -> list[str]:
    work = work_account(log)
    total = work["total"]
    hours = [f"{total[f'{unit}_hours']:.2g} {unit} hours" for unit in ("cpu", "gpu") if total[f"{unit}_hours"]]
    if not total["seconds"]:
        return []
    return [
        f"search: {work['sessions_trained']} sessions trained, {work['sessions_reused']} reused; "
        f"{work['sessions_naive']} if every combination were a run, {work['sessions_unshared_trials']} if only "
        "settings of prediction shared one",
        f"final runs: {work['final']['sessions_trained']} trained, {work['final']['sessions_reused']} reused; audit: "
        f"{work['audit']['sessions_trained']} trained; in all {', '.join(hours)}, {total['seconds_saved']:.3g} s saved",
    ]


def measure(name: str, value: float) -> str:
    """Return a value of an objective: in percent where it is a share, else as it is."""
    known = Measure(name)
    return f"{known.write(value)} %" if known.fraction else known.write(value)


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:z.1f}"  # z: no minus before a rounded zero
