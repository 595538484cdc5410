"""What a sweep gave, in sentences for people; the terminal and the description of its parent run share them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from safe.evaluation.metrics import MAIN, METRICS
from safe.io.progress import duration
from safe.types import with_split
from sweeps.ledger.ledger import SweepLog
from sweeps.report.formatting import Measure, plural
from sweeps.results.accounting import work_account
from sweeps.results.finalists import preset_stays, race_summary, tie_words
from sweeps.results.heads import head_scores
from sweeps.results.importance import importance
from sweeps.results.summary import difference, final_summary, optimism_gap
from sweeps.spec.objective import objectives
from sweeps.spec.titles import short_name

SHOWN = tuple((name, METRICS[name].title) for name in MAIN)
MOST_SHARES = 4


def outcome_lines(log: SweepLog) -> list[str]:
    """Return what comes after the answer: forgetting, the difference to the preset, what mattered, gap and work."""
    return [
        *forgetting_words(final_summary(log) or {}, with_split("test", "")),
        *enough_words(log),
        *difference_lines(log),
        *head_lines(log),
        *importance_lines(log),
        *gap_lines(log),
        *work_lines(log),
    ]


def forgetting_words(metrics: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return in sentences what forgetting is made of; none where the metrics do not say.

    Args:
        metrics: `mean` of each after the last session, by its name after `prefix`.
    """
    names = ("forgetting", "forgetting_within", "forgetting_confusion", "accuracy_within_session")
    if any(prefix + name not in metrics for name in names):
        return []
    lost, really, confusion, own = (f"{100 * metrics[prefix + name]['mean']:z.1f}" for name in names)
    if any(points.startswith("-") for points in (lost, really, confusion)):
        parts = (
            f"Forgetting of {lost} points is {really} within the sessions and {confusion} by confusion with other "
            "ones; what is below 0 was gained."
        )
    else:
        parts = (
            f"Of {lost} points of forgetting, {really} are really forgotten and {confusion} are more confusion with "
            "other sessions."
        )
    return [
        parts,
        f"Among the classes of its own session alone, {own} % of the images are right.",
    ]


def race_lines(log: SweepLog) -> list[str]:
    """Return whether SAFE beat the baselines, on the holdout and then on test; how it was settled; the optimism."""
    raced = race_summary(log)
    if raced is None:
        return []
    name, against = raced["metric"].partition("/")[2], raced["against"]
    lines = []
    if against is not None:
        lines = [
            f"{_compared(name, against, images)}{'; ' + tie_words(raced) if images == 'holdout' else ''}"
            for images in ("holdout", "test")
            if against[images] is not None
        ]
        lines += _other_head(log, against)
    end = f", {raced['end']}" if raced["end"] else ""
    taken = "" if lines else f"; {tie_words(raced)}"  # said already
    lines.append(f"race: {len(raced['finalists'])} finalists, {raced['repeats']} further seeds{end}{taken}")
    lines.append(f"optimism of the search about {raced['winner']}: {_points(name, raced['optimism'])} {_unit(name)}")
    return lines


def enough_words(log: SweepLog) -> list[str]:
    """Return why the search ended before its last trial, where it did because more could not pay."""
    name = objectives(log.sweep_spec.objective)[0].name
    return [
        f"the search ended after {trials} of {log.sweep_spec.trials} trials: at most {_points(name, asked['bound'])} "
        f"{_unit(name)} are left to gain (regret bound), and the difference of two settings changes by "
        f"{_points(name, asked['noise'])} from seed to seed"
        for trials, asked in log.enough.items()
        if asked["enough"]
    ]


def left_words(one: Mapping[str, Any]) -> str:
    """Return when and why a finalist left the race."""
    left = one["left"]
    if left is None:
        return ""
    if left["behind"] is None:
        return f"left at {left['repeat']}: its run failed"
    return f"left at {left['repeat']}: behind {left['behind']}, p {left['p']:.2g}"


def spread_of(name: str, values: Sequence[float]) -> str:
    """Return mean and standard deviation of the values of a metric; `-` without any."""
    if not values:
        return "-"
    mean = measure(name, fmean(values))
    return mean if len(values) < 2 else f"{mean} ± {_points(name, stdev(values))}"


def _compared(name: str, against: Mapping[str, Any], images: str) -> str:
    """Return in a sentence how SAFE does beside the nearest baseline."""
    pair, ours = against[images], f"SAFE ({against['safe']})"
    wish = objectives(name)[0]
    ahead = (pair["mean"] > 0) == wish.maximise
    width = "" if pair["half_width"] is None else f" ± {_points(name, pair['half_width'])}"
    noise = pair["half_width"] is not None and abs(pair["mean"]) <= pair["half_width"]
    where = "on the holdout" if images == "holdout" else "on test"
    by = f"{_points(name, abs(pair['mean']))}{width} {_unit(name)} {'ahead of' if ahead else 'behind'}"
    if pair["mean"] == 0:
        by = "level with"
    counted = plural(pair["pairs"], "seed")
    return f"{ours} is {by} {against['baseline']} {where} ({counted}{', within noise' if noise else ''})"


def _other_head(log: SweepLog, against: Mapping[str, Any]) -> list[str]:
    """Return what of the difference to a baseline may be the head's, where the two have not the same."""
    if against["heads"] is None:
        return []
    ours, theirs = against["heads"]
    told = f"{against['safe']} has the head {ours}, {against['baseline']} {theirs}"
    metric, scores = head_scores(log)
    by_head, name = {one.head: one.score for one in scores}, metric.partition("/")[2]
    if ours not in by_head or theirs not in by_head:
        return [f"{told}: part of the difference may be the head's"]
    worth = _points(name, by_head[ours] - by_head[theirs])
    return [f"{told}: on the same features of the slow learner that makes {worth} {_unit(name)}"]


def _points(name: str, value: float) -> str:
    return f"{100 * value:z.1f}" if Measure(name).fraction else f"{value:.3g}"


def _unit(name: str) -> str:
    return "points" if Measure(name).fraction else f"of {name}"


def head_lines(log: SweepLog) -> list[str]:
    """Return which of several heads are best on the features that a staged search judged all of them on."""
    metric, scores = head_scores(log)
    if not scores:
        return []
    name = metric.partition("/")[2]
    told = ", ".join(f"{one.head} {measure(name, one.score)}" for one in scores[:MOST_SHARES])
    rest = f" and {len(scores) - MOST_SHARES} more" if len(scores) > MOST_SHARES else ""
    slow = f"{scores[0].slow} slow setting{'' if scores[0].slow == 1 else 's'}"
    return [f"heads on the same features of {slow}, {name.replace('_', ' ')} of the slow learner: {told}{rest}"]


def importance_lines(log: SweepLog) -> list[str]:
    """Return how much the settings matter, and whether the first is surely before the second."""
    entries = importance(log)
    shares = [
        f"{short_name(entry.setting)} {100 * entry.share:.0f} % ({100 * entry.low:.0f} to {100 * entry.high:.0f})"
        for entry in entries[:MOST_SHARES]
    ]
    unsure = "; not told apart" if len(entries) > 1 and entries[0].low <= entries[1].high else ""
    return [f"importance (PED-ANOVA, 90 % of bootstraps): {', '.join(shares)}{unsure}"] if shares else []


def difference_lines(log: SweepLog) -> list[str]:
    pairs = {} if preset_stays(log) else difference(log) or {}
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
    raced = ""
    if log.sweep_spec.raced:
        raced = "race and baselines: {sessions_trained} trained, {sessions_reused} reused; ".format_map(work["race"])
    return [
        f"search: {work['sessions_trained']} sessions trained, {work['sessions_reused']} reused; "
        f"{work['sessions_naive']} if every combination were a run, {work['sessions_unshared_trials']} if only "
        "settings of prediction shared one",
        f"{raced}final runs: {work['final']['sessions_trained']} trained, {work['final']['sessions_reused']} reused; "
        f"audit: {work['audit']['sessions_trained']} trained; in all {', '.join(hours)}, "
        f"{duration(total['seconds_saved'])} saved",
    ]


def measure(name: str, value: float) -> str:
    """Return a value of an objective: in percent where it is a share, else as it is."""
    known = Measure(name)
    return f"{known.write(value)} %" if known.fraction else known.write(value)


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:z.1f}"  # z: no minus before a rounded zero
