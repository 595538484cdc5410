"""The ablation: SAFE beside its baselines and bounds, every arm over the same seeds and class orders, on test images.

An arm is a configuration. One run of SAFE also gives the slow and the fast learner alone, so those are rows, not arms.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from safe.config import load_config, parse_overrides
from safe.data.registry import class_count
from safe.errors import UserError, choices
from sweeps.campaign import Campaign, Folders, absolute, carry_out
from sweeps.ledger import SweepLog
from sweeps.replicate import final_config, paired_difference, summarise
from sweeps.results import SHOWN, print_mlflow, spread
from sweeps.spec import AblationSpec, checked_name, default_name, resources
from tracking.recorder import Recorder

ARM = "arm"
_UNTRAINED = {"pet.kind": "none", "slow.epochs": 0, "fast.epochs": 0}
_CE_ONLY = {"slow.diag_weight": 0.0, "slow.offdiag_weight": 0.0, "fast.epochs": 0}
ALL_CLASSES = "all"
OURS = "SAFE"
HEADINGS = ("final", "average", "forgetting", "SAFE - this")  # of SHOWN, short enough for 80 columns


@dataclass(frozen=True)
class Arm:
    """One configuration: what differs from the preset, and its rows as (title, metric prefix).

    `data.init_classes: all` stands for the number of classes of the data set.
    """

    settings: Mapping[str, Any]
    rows: tuple[tuple[str, str], ...]
    joint: bool = False


ARMS: dict[str, Arm] = {
    "class-means": Arm(_UNTRAINED | {"head.kind": "class_means"}, (("class means, frozen PTM", ""),)),
    "frozen": Arm(_UNTRAINED, (("closed-form head, frozen PTM", ""),)),
    "ranpac": Arm(_CE_ONLY, (("RanPAC (first-session PET)", ""),)),
    "safe": Arm({}, (("slow learner", "slow/"), ("fast learner", "fast/"), (OURS, ""))),
    # 20 epochs over everything, the published number for session 1, whatever a preset needs for its small sessions.
    "joint": Arm(
        _CE_ONLY | {"data.init_classes": ALL_CLASSES, "slow.epochs": 20, "slow.schedule_epochs": None},
        (("joint PET, all classes at once", ""),),
        joint=True,
    ),
}


def build_ablation(
    *,
    dataset: str,
    seeds: int,
    name: str | None = None,
    arms: Sequence[str] = (),
    overrides: Sequence[str] = (),
    concurrency: int | None = None,
) -> AblationSpec:
    """Return the specification of an ablation; without a name it is `<data set>-ablation`, without arms all of them.

    Raises:
        UserError: a name, number, arm or setting is not valid.
    """
    if seeds < 1:
        raise UserError(f"--seeds must be at least 1, got {seeds}")
    for arm in arms:
        if arm not in ARMS:
            raise UserError(choices(arm, ARMS, "arm"))
    given = parse_overrides(overrides)
    if "data.evaluate_on" in given:
        raise UserError("an ablation is judged on the test images; data.evaluate_on cannot be set")
    config = load_config(dataset, overrides=given)
    threads, concurrency = resources(config, concurrency)
    return AblationSpec(
        name=checked_name(name or default_name(config.dataset, "ablation")),
        dataset=config.dataset,
        seeds=seeds,
        arms=list(dict.fromkeys(arms)) or list(ARMS),
        base=config.flat(),
        threads=threads,
        concurrency=concurrency,
    )


def run_ablation(spec: AblationSpec, results: Path) -> SweepLog:
    """Run what is missing of an ablation and return its log; see `sweeps.campaign.carry_out` for what is raised."""
    for arm in spec.arms:
        arm_config(spec, arm, spec.seeds - 1)  # refuses now what would only come out later
    params: dict[str, object] = {"ablation.arms": ",".join(spec.arms)}
    return carry_out(spec, results, _run_arms, parent_params=params, summarise=_summarise)


def arm_config(spec: AblationSpec, arm: str, repeat: int) -> dict[str, Any]:
    """Return the flat configuration of one run of an arm; `repeat` counts from 0 and shifts seed and class order."""
    settings = dict(ARMS[arm].settings)
    if settings.get("data.init_classes") == ALL_CLASSES:
        classes = class_count(spec.dataset, spec.base["data.root"])
        settings |= {"data.init_classes": classes, "data.scenario": "class"}
    return absolute(final_config({**spec.base, **settings, "runtime.threads": spec.threads}, repeat))


def table(log: SweepLog) -> list[dict[str, Any]]:
    """Return one row per learner of every arm: `arm`, `row`, `seeds`, and mean, std and values of each metric.

    `safe_minus_this` is the difference of final accuracies, paired by seed, where SAFE ran on the same seeds.

    Forgetting and the average over sessions mean nothing for a joint arm, which has one session: they are absent.
    """
    rows = []
    for arm in _spec(log).arms:
        runs = [
            job.sessions[-1]["metrics"]
            for job in log.of_kind(ARM)
            if job.id.rpartition("-")[0] == arm and job.status == "FINISHED"
        ]
        summary = summarise(runs)
        for title, prefix in ARMS[arm].rows:
            metrics = {m: summary.get(f"test/{prefix}{m}") for m, _ in SHOWN}
            kept = {m: s for m, s in metrics.items() if s is not None and (m == "accuracy" or not ARMS[arm].joint)}
            rows.append({"arm": arm, "row": title, "seeds": len(runs), **kept})
    _compare(rows)
    return rows


def _compare(rows: list[dict[str, Any]]) -> None:
    ours: list[float] = next(
        (row["accuracy"]["values"] for row in rows if row["row"] == OURS and "accuracy" in row), []
    )
    for row in rows:
        theirs = row["accuracy"]["values"] if "accuracy" in row else []
        if row["row"] != OURS and len(ours) == len(theirs) > 1:
            row["safe_minus_this"] = paired_difference(ours, theirs)


def ablation_outcome(log: SweepLog) -> dict[str, Any]:
    """Return the ablation as one object for programs; fractions in [0, 1]."""
    return {"name": log.spec.name, "dataset": log.spec.dataset, "rows": table(log), "mlflow": log.tracking}


def show_ablation(log: SweepLog, folder: Path, console: Console) -> None:
    """Print the table for people."""
    spec = log.spec
    seeds = f"{spec.seeds} seed{'s' if spec.seeds > 1 else ''}"
    title = f"{spec.dataset}: test accuracy in percent, mean ± std over {seeds}; SAFE - this: final, paired, 95 %"
    printed = Table(title=title, title_justify="left", title_style="", box=None, pad_edge=False)
    printed.add_column("", no_wrap=True)
    for heading in HEADINGS:
        printed.add_column(heading, justify="right", no_wrap=True)
    for row in table(log):
        printed.add_row(row["row"], *_cells(row))
    console.print(printed)
    for job in log.jobs.values():
        if job.reason and job.status != "FINISHED":
            console.print(f"{job.id} {job.status}: {job.reason}", markup=False, soft_wrap=True)
    console.print(f"results: {folder}", soft_wrap=True, highlight=False)
    if log.tracking is not None:
        print_mlflow(log.tracking, folder, console)


def markdown(log: SweepLog) -> str:
    """Return the table in markdown."""
    lines = ["| | " + " | ".join(HEADINGS) + " |", "|---" * (len(HEADINGS) + 1) + "|"]
    lines += [f"| {row['row']} | " + " | ".join(_cells(row)) + " |" for row in table(log)]
    return "\n".join(lines)


def _cells(row: Mapping[str, Any]) -> list[str]:
    difference = row.get("safe_minus_this")
    told = "-"
    if difference is not None:
        told = f"{100 * difference['mean']:+.1f} ± {100 * difference['half_width']:.1f}"
    return [*(spread(row.get(metric)) for metric, _ in SHOWN), told]


def csv_text(log: SweepLog) -> str:
    """Return the table as CSV, one line per row and seed, fractions in [0, 1]."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["arm", "row", "repeat", *(metric for metric, _ in SHOWN)])
    for row in table(log):
        for repeat in range(row["seeds"]):
            values = [row[m]["values"][repeat] if m in row else "" for m, _ in SHOWN]
            writer.writerow([row["arm"], row["row"], repeat, *values])
    return text.getvalue()


def _run_arms(campaign: Campaign) -> None:
    spec = _spec(campaign.log)
    campaign.run(
        [
            campaign.job(f"{arm}-{repeat}", ARM, f"{arm} {repeat}", arm_config(spec, arm, repeat))
            for arm in spec.arms
            for repeat in range(spec.seeds)
        ]
    )


def _summarise(recorder: Recorder, log: SweepLog, folders: Folders) -> None:
    tables = folders.sweep / "tables"
    tables.mkdir(exist_ok=True)
    (tables / "ablation.md").write_text(markdown(log) + "\n", "utf-8")
    (tables / "ablation.csv").write_text(csv_text(log), "utf-8")
    recorder.set_description(
        log.spec.name, f"Ablation on {log.spec.dataset}, test accuracy in percent.\n\n{markdown(log)}"
    )
    recorder.log_directory(log.spec.name, tables, "tables")


def _spec(log: SweepLog) -> AblationSpec:
    assert isinstance(log.spec, AblationSpec)
    return log.spec
