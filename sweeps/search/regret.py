"""How much better than the best trial so far the best of the space could still be.

The bound of Makarova et al., "Automatic Termination for Hyperparameter Optimization" (AutoML 2022), Optuna's: a
Gaussian process over the better half of the trials; the highest upper confidence bound of the space less the highest
lower one of the trials.
"""

from __future__ import annotations

from sweeps.ledger.jobs import Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.results.optuna_trials import distributions, places, trial
from sweeps.search import staged
from sweeps.search.compat import upper_regret
from sweeps.search.history import read_history
from sweeps.search.layout import Round

FEWEST = 8  # trials; below that a surrogate of a few settings says nothing


def regret_bound(log: SweepLog, before: int) -> float | None:
    """Return the bound in the unit of the first objective, >= 0; None with fewer than FEWEST finished trials.

    Only trials below the number `before` count, and what was added by then.

    The search's own space counts: of a staged search, the slow settings that it carries on.
    """
    spec = log.sweep_spec
    space = spec.parsed_space()
    history = read_history(spec, space, log, Round(Kind.TRIAL, range(before, before + 1)))
    within, seen = staged.searched(spec, space, history) if spec.search == "staged" else (space, history.trials)
    known = distributions(within)
    trials = [
        trial(known, places(within, one.settings), [one.goodness[0]])
        for one in seen
        if not one.stopped and abs(one.goodness[0]) < float("inf")
    ]
    trials = [one for one in trials if len(one.params) == len(known)]
    if len(trials) < FEWEST:
        return None
    return max(0.0, upper_regret(trials, FEWEST))
