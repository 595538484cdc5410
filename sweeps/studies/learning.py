"""Learning from earlier sweeps: their finished trials are told to the search and stand in its ledger from then on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safe.errors import UserError
from sweeps.engine.work import Study
from sweeps.ledger.known import known_sweep
from sweeps.ledger.ledger import SweepLog
from sweeps.results.selection import leaderboard
from sweeps.spec.specs import SweepSpec


def refuse_early(spec: SweepSpec, results: Path) -> None:
    """Refuse sweeps that cannot be learned from before anything is begun, as far as it shows without the data.

    Raises:
        UserError: as `lessons`.
    """
    for name in _names(spec):
        lessons(spec, known_sweep(results, name)[0], None)


def learn(study: Study) -> None:
    """Write down what earlier sweeps teach, unless the ledger has it already.

    Raises:
        UserError: as `lessons`.
    """
    log, spec = study.log, study.log.sweep_spec
    if log.learned is None and (names := _names(spec)):
        others = [known_sweep(log.folder.parents[1], name)[0] for name in names]
        study.append("learned", trials=[one for other in others for one in lessons(spec, other, log.data)])


def lessons(spec: SweepSpec, other: SweepLog, data: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return the finished trials of another sweep, best first: settings of this one's space, and goodness.

    Args:
        data: what this sweep's data hold (`sweeps.ledger.data`); None compares everything else.

    Raises:
        UserError: it was chosen or judged otherwise, or is about other data and `across_data` is not asked for.
    """
    name = other.spec.name
    if not isinstance(other.spec, SweepSpec):
        raise UserError(f"--learn-from {name}: it is an ablation, which has no trials; name a sweep")
    theirs = other.spec.protocol()
    for field, ours in spec.protocol().items():
        # The target is of the final runs alone, what the space varies is told with every trial, and other data come
        # in sessions of their own.
        told = field == "target" or field in spec.space or (spec.across_data and field.startswith("data."))
        if ours != theirs[field] and not told:
            differ = f"its {field} is {theirs[field]}, here it is {ours}; scores differ by that"
            raise UserError(f"--learn-from {name}: {differ}")
    mine, its = ((side or {}).get("dataset", {}).get("digest") for side in (data, other.data))
    if not spec.across_data and mine is not None and mine != its:
        raise UserError(
            f"--learn-from {name}: it is about other data (digest {str(its)[:12]}, here {mine[:12]}); "
            "--across-data learns from it all the same"
        )
    board = leaderboard(other.within(), spec.objective, spec.split)
    domains = spec.parsed_space().domains
    return [
        {
            "sweep": name,
            "settings": {setting: other.jobs[entry.trial].config[setting] for setting in domains},
            "goodness": list(entry.goodness),
        }
        for entry in board
        if None not in entry.values
    ]


def _names(spec: SweepSpec) -> list[str]:
    return [name.strip() for name in (spec.learn_from or "").split(",") if name.strip()]
