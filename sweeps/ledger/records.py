"""What a sweep keeps of a session: the record that workers report and ledgers hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from safe.types import Provenance, SessionResult


def session_record(
    result: SessionResult,
    provenance: Provenance,
    counts: Sequence[int],
    grid: Sequence[Sequence[float]] = (),
    grid_metrics: Sequence[Mapping[str, float]] = (),
    *,
    until: int | None = None,
    machine: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Return the record of a session, ready for JSON.

    Args:
        counts: images of each session group.
        grid, grid_metrics: accuracies of the groups and metrics at each setting of prediction; none without metrics.
        until: session after which the run is complete; `None` is the last of the stream.
        machine: how busy the machine was, by metric.
    """
    return {
        "session": result.session,
        "sessions": min(result.sessions, until or result.sessions),
        "split": result.split,
        "metrics": result.as_metrics() | dict(machine or {}),
        "losses": [[step, dict(terms)] for step, terms in result.losses],
        "row": list(result.row),
        "grid": [list(row) for row in grid],
        "grid_metrics": [dict(metrics) for metrics in grid_metrics or [{}] * len(grid)],
        "counts": list(counts),
        "provenance": asdict(provenance),
        "work": {**asdict(result.work), "trained": result.work.training == "trained"},
    }
