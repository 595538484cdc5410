"""What a sweep keeps of a session: the record that workers report, and ledgers and runs' own files hold as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from operator import itemgetter
from typing import Any, Self

from safe.evaluation.metrics import depends_on_prediction
from safe.types import SessionResult, Work, with_split

VERSION = 1  # of the JSON
_NOTHING: dict[str, str] = {}
_told = itemgetter(
    "session", "sessions", "split", "metrics", "losses", "row", "grid", "grid_metrics", "counts", "provenance", "work"
)
_LEFT_OUT = ("within", "confusion", "grid_within", "notes")  # where they are empty


@dataclass(slots=True)
class SessionRecord:
    """One session of a run; nobody changes one, though to make tens of thousands takes too long where they are frozen.

    Attributes:
        session: index of the session, from 1.
        sessions: after which one the run is complete.
        split: images that judged it, `val` or `test`.
        metrics: all that is logged at step = session, under full names (`val/accuracy`, `time/train_seconds`).
        losses: per epoch, (epochs done so far in the run, terms).
        row: accuracy of each session group so far.
        within: the same where only the group's own classes compete; empty in ledgers that kept none.
        confusion: images of each session group (row) by the session whose class is predicted (column); empty likewise.
        grid, grid_metrics: the row, and other metrics without prefix, at each setting of prediction.
        grid_within: `within` at each setting of prediction; empty in ledgers that kept none.
        counts: images of each session group.
        provenance: what the run was fed with (`SafeTrainer.provenance`).
        work: what it cost.
        notes: what its user should know, by kind.
    """

    session: int
    sessions: int
    split: str
    metrics: Mapping[str, float]
    losses: Sequence[Sequence[Any]] = field(default_factory=list)
    row: Sequence[float] = field(default_factory=list)
    grid: Sequence[Sequence[float]] = field(default_factory=list)
    grid_metrics: Sequence[Mapping[str, float]] = field(default_factory=list)
    grid_within: Sequence[Sequence[float]] = field(default_factory=list)
    within: Sequence[float] = field(default_factory=list)
    confusion: Sequence[Sequence[int]] = field(default_factory=list)
    counts: Sequence[int] = field(default_factory=list)
    provenance: Mapping[str, str] = field(default_factory=dict)
    work: Work = Work("trained", 0.0)  # noqa: RUF009 (frozen)
    notes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        result: SessionResult,
        provenance: Mapping[str, str],
        counts: Sequence[int],
        grid: Sequence[Sequence[float]] = (),
        grid_metrics: Sequence[Mapping[str, float]] = (),
        grid_within: Sequence[Sequence[float]] = (),
        *,
        until: int | None = None,
        machine: Mapping[str, float] | None = None,
        notes: Mapping[str, str] | None = None,
    ) -> Self:
        """Return the record of a trainer's result.

        Args:
            until: session after which the run is complete; `None` is the last of the stream.
            machine: how busy the machine was, by metric.
        """
        return cls(
            session=result.session,
            sessions=min(result.sessions, until or result.sessions),
            split=result.split,
            metrics=result.as_metrics() | dict(machine or {}),
            losses=[[step, dict(terms)] for step, terms in result.losses],
            row=[*result.row],
            grid=[*map(list, grid)],
            grid_metrics=[dict(metrics) for metrics in grid_metrics or [{}] * len(grid)],
            grid_within=[*map(list, grid_within)],
            within=[*result.within],
            confusion=[*map(list, result.confusion)],
            counts=[*counts],
            provenance=dict(provenance),
            work=result.work,
            notes=dict(notes or {}),
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON holds it, without notes and what lies within sessions where there is none."""
        told = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        told["work"] = {**asdict(self.work), "trained": self.trained}
        return {name: value for name, value in told.items() if value or name not in _LEFT_OUT}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Self:
        """Return what JSON holds; what it holds beside is left.

        Raises:
            LookupError, TypeError, ValueError: it is no session's record.
        """
        # In the order of the fields, and lists as they were parsed: ledgers of ten thousand trials hold tens of
        # thousands of records.
        session, sessions, split, metrics, losses, row, grid, grid_metrics, counts, provenance, work = _told(line)
        return cls(
            session,
            sessions,
            split,
            metrics,
            losses,
            row,
            grid,
            grid_metrics,
            line.get("grid_within", []),
            line.get("within", []),
            line.get("confusion", []),
            counts,
            _shared(tuple(provenance.items())),
            Work(
                work["training"],
                work["seconds"],
                work.get("saved_seconds", 0.0),
                work.get("waited_seconds", 0.0),
                work.get("stages", {}),
            ),
            line.get("notes") or _NOTHING,
        )

    @property
    def trained(self) -> bool:
        """Whether its training was done in its own run."""
        return self.work.training == "trained"

    @property
    def reused(self) -> bool:
        """Whether its training came from the stage store."""
        return self.work.training == "reused"

    def not_finite(self) -> str | None:
        """Return in words what of it is NaN or infinite, which no ledger takes; None when nothing is."""
        try:
            json.dumps(self.to_json(), allow_nan=False)
        except ValueError:
            names = [name for name, value in self.metrics.items() if not math.isfinite(value)]
            return f"session {self.session} gave {', '.join(names) or 'a value'} that is not finite"
        return None

    def metric(self, name: str) -> float | None:
        """Return a metric of the evaluation by its name without split, or None where it is undefined."""
        return self.metrics.get(with_split(self.split, name))

    def settled(self) -> dict[str, float]:
        """Return the metrics that are known once the session is over, whatever settings of prediction are chosen later.

        Names are full; those of the aggregate, and what is made of probabilities, are left out.
        """
        prefix = with_split(self.split, "")
        later = {name for name in self.judged() if depends_on_prediction(name)}
        return {name: value for name, value in self.metrics.items() if name.removeprefix(prefix) not in later}

    def judged(self, learner: str = "") -> dict[str, float]:
        """Return the metrics of the evaluation, names without split and `learner` (`slow/`, `fast/`; "" is all)."""
        prefix = with_split(self.split, learner)
        return {name.removeprefix(prefix): value for name, value in self.metrics.items() if name.startswith(prefix)}


@lru_cache(maxsize=1024)
def _shared(entries: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    """Return these entries; the sessions of a sweep were fed with the same, and keep it once."""
    return dict(entries)
