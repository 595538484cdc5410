"""How trials are proposed: one module a strategy, all of them pure functions of the specification and the ledger.

A search is a row of rounds laid out in advance. What a round proposes depends on the results of earlier rounds alone,
read in trial order: not on the clock, nor on which worker was first, nor on an object that lives on between rounds. So
a search that is killed goes on to the same trials. A trial that the ledger knows keeps its configuration, also when
the space has grown since.

- `random`: every trial drawn on its own; one round.
- `grid`: every combination of listed values; one round.
- `tpe`: rounds of `round_size`; the first is random, the others come from a Tree-structured Parzen Estimator.
- `staged` (default): many settings of session 1 judged by the frozen slow learner alone; the best are carried on into
  trials, whose other settings TPE proposes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from safe.errors import tell
from sweeps.ledger.jobs import Kind, job_id
from sweeps.ledger.ledger import SweepLog
from sweeps.search import grid, random_, staged, tpe
from sweeps.search.history import read_history
from sweeps.search.layout import Round
from sweeps.spec.combinations import used_up
from sweeps.spec.configs import absolute
from sweeps.spec.specs import SweepSpec

STRATEGIES: dict[str, ModuleType] = {"random": random_, "grid": grid, "tpe": tpe, "staged": staged}


@dataclass(frozen=True)
class Proposal:
    """One job of the search: its number among those of its kind, and its full configuration."""

    kind: Kind
    index: int
    config: Mapping[str, Any]


def layout(spec: SweepSpec) -> list[Round]:
    """Return the rounds of a search, the last one perhaps smaller."""
    rounds: list[Round] = STRATEGIES[spec.search].layout(spec, spec.parsed_space())
    return rounds


def proposals(spec: SweepSpec, log: SweepLog) -> Iterator[list[Proposal]]:
    """Yield the search round by round, from its beginning; `log` has a round's results before the next is asked for.

    It ends before its last trial where every trial that the space has was proposed.

    Raises:
        UserError: a proposal is not a valid configuration.
    """
    space = spec.parsed_space()
    for now in layout(spec):
        ids = {index: job_id(now.kind, index) for index in now.indices}
        fresh: dict[int, dict[str, Any]] = {}
        if missing := [id for id in ids.values() if id not in log.jobs]:
            fresh = STRATEGIES[spec.search].propose(spec, space, now, read_history(spec, space, log, now))
        yield [
            Proposal(now.kind, index, log.jobs[id].config if id in log.jobs else _config(spec, now, fresh[index]))
            for index, id in ids.items()
            if id in log.jobs or index in fresh
        ]
        if len(fresh) < len(missing):
            tell(used_up(len(log.trials()), spec.trials))
            return


def _config(spec: SweepSpec, now: Round, settings: dict[str, Any]) -> dict[str, Any]:
    alone = {"fast.epochs": 0} if now.kind == Kind.SLOW else {}  # the fast learner then is the slow one
    return absolute(spec.trial_config({**settings, **alone}))
