"""The pieces of training that trials have in common, as a tree, and how many stages of each kind were shared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sweeps.ledger.job_log import JobLog
from sweeps.ledger.jobs import Kind
from sweeps.report.gather import Gathered
from sweeps.results.selection import varied

KINDS = ("slow", "fast", "features", "readout", "logits", "views")


def stages(gathered: Gathered) -> dict[str, dict[str, float]]:
    """Return per kind of stage how many were `computed` and `reused`, and their `seconds` and `saved_seconds`."""
    rows: dict[str, dict[str, float]] = {}
    for job in gathered.log.jobs.values():
        for record in job.sessions:
            for kind, counts in record.work.stages.items():
                row = rows.setdefault(kind, dict.fromkeys(("computed", "reused", "seconds", "saved_seconds"), 0.0))
                for name in row:
                    row[name] += counts.get(name, 0)
    return {kind: rows[kind] for kind in sorted(rows, key=lambda kind: (*KINDS, kind).index(kind))}


@dataclass
class Node:
    """A piece of training that trials have in common.

    Attributes:
        settings: those that tell it from its siblings.
        children: further pieces that begin from it.
        trials: ids below it.
        trained, reused: sessions of its own trained in this sweep, and taken over from elsewhere instead.
    """

    settings: dict[str, Any]
    children: list[Node]
    trials: list[str]
    trained: int = 0
    reused: int = 0


def tree(gathered: Gathered) -> list[Node]:
    """Return the distinct first sessions of the trials, each with its distinct later ones."""
    from safe.config import validate
    from safe.sharing.stages import sharing_key
    from sweeps.spec.depth import acts_in_session_1

    first: dict[str, list[JobLog]] = defaultdict(list)
    later: dict[str, list[JobLog]] = defaultdict(list)
    for job in gathered.log.of_kind(Kind.TRIAL):
        config = validate(job.config)
        first[sharing_key(config, 1)].append(job)
        later[f"{sharing_key(config, 1)} {sharing_key(config, 2)}"].append(job)
    nodes = []
    for key, jobs in first.items():
        below = [group for name, group in later.items() if name.startswith(f"{key} ")]
        node = _node(list(filter(acts_in_session_1, gathered.varied)), jobs, slice(0, 1))
        for group in below:
            differing = {*node.settings, *varied(gathered.varied, [job.config for job in group])}
            node.children.append(_node([n for n in gathered.varied if n not in differing], group, slice(1, None)))
        nodes.append(node)
    return nodes


def _node(names: Sequence[str], jobs: Sequence[JobLog], sessions: slice) -> Node:
    records = [record for job in jobs for record in job.sessions[sessions]]
    return Node(
        {name: jobs[0].config[name] for name in names},
        [],
        [job.id for job in jobs],
        sum(record.trained for record in records),
        sum(record.reused for record in records),
    )
