"""What a registered version says of itself, like a model card: what it knows, how good it is, how to use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safe.types import with_split
from sweeps.ledger.folders import FILE_NAME, FOLDER
from sweeps.ledger.job_log import JobLog
from sweeps.ledger.ledger import SweepLog
from sweeps.results.finalists import learner_rows
from sweeps.results.summary import final_summary
from sweeps.spec.objective import objectives
from tracking.mlflow_pages import run_page


def card(log: SweepLog, job: JobLog, address: str) -> str:
    """Return the card of the model of a final run's last session, as markdown.

    Args:
        address: `models:/NAME/VERSION`.
    """
    config, record, score = job.config, job.sessions[-1], (log.selected or {}).get("score")
    lines = [
        f"**{learner_rows(log)[0][0]} on {log.began_as.dataset}** after {record.sessions} sessions: "
        f"{config['pet.kind']} and {config['head.kind']} readouts on `{config['backbone.name']}`, which is not in it.",
        "",
    ]
    if (summary := final_summary(log)) is not None:
        what = (("accuracy", "after the last session"), ("average_accuracy", "mean over the sessions"))
        named = ((with_split("test", name), words) for name, words in what)
        told = [f"{_spread(summary[key])} {words}" for key, words in named if key in summary]
        lines += [f"- test accuracy: {', '.join(told)}, over {summary['seeds']} seeds"] if told else []
    if score is not None:
        wish = objectives(log.sweep_spec.objective)[0]
        split = log.sweep_spec.split
        lines.append(f"- chosen by {with_split(split, wish.name)} {score:.4f} ({log.spec.selection})")
    lines.append(f"- data: digest `{record.provenance.get('data_digest', 'unknown')}`{_classes(log)}")
    lines += _links(log)
    lines += [
        "",
        "Loading it needs the package safe-sweeps installed:",
        "",
        f"    python -m sweeps predict --model {address} image.png",
        f"    python -m sweeps serve --model {address}",
    ]
    return "\n".join(lines)


def _spread(stats: Mapping[str, Any]) -> str:
    std = "" if stats["std"] is None else f" ± {100 * stats['std']:.1f}"
    return f"{100 * stats['mean']:.1f}{std} %"


def _classes(log: SweepLog) -> str:
    sets = log.data or {}
    data = sets.get("evaluate_on") or sets.get("dataset")
    return f", {len(data['classes'])} classes" if data else ""


def _links(log: SweepLog) -> list[str]:
    tracking = log.tracking or {}
    pages = [run_page(tracking, inside).removeprefix("/") for inside in ("", f"/artifacts/{FOLDER}/{FILE_NAME}")]
    if not all(pages):
        return [f"- sweep: {log.spec.name}"]
    return [f"- sweep: [{log.spec.name}]({pages[0]}), [report]({pages[1]})"]
