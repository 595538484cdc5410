"""TPE: a Tree-structured Parzen Estimator (Bergstra et al., NeurIPS 2011), Optuna's.

It is built anew for every round from the results of earlier rounds in trial order, with a seed of the round, so no
state is kept between rounds. Every setting is a position in [0, 1] (`sweeps.spec.space.Domain`), a listed one a
choice; so `zero_or_loguniform` is one parameter whose first quarter is exactly 0. A setting that a trial did not use is
not told.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from safe.errors import UserError
from sweeps.results.optuna_trials import distributions, places, trial
from sweeps.search import random_
from sweeps.search.history import History, Observation
from sweeps.search.layout import Round, in_rounds
from sweeps.spec.combinations import every, key, unused
from sweeps.spec.space import Space
from sweeps.spec.specs import SweepSpec

PRIOR_TRIALS = 10  # told so many, a prior has half of its weight
ASKED_AGAIN = 20  # times that a proposal which was tried already is asked anew


def layout(spec: SweepSpec, space: Space) -> list[Round]:
    """Return rounds of `round_size` trials."""
    return in_rounds(spec.trials, spec.round_size)


def propose(
    spec: SweepSpec,
    space: Space,
    now: Round,
    history: History,
    complete: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> dict[int, dict[str, Any]]:
    """Return what each trial of a round sets, by index; `complete` makes settings of a trial from those of `space`."""

    def valid(settings: dict[str, Any]) -> bool:
        try:
            spec.trial_config(complete(settings))
        except UserError:
            return False
        return True

    if now.first and not history.learned:
        return dict(enumerate(random_.distinct(space, spec.search_seed, len(now.indices))))
    first: dict[int, dict[str, Any]] = {}
    if now.first:  # the preset, as without lessons
        first = {0: space.settings(random_.draw(space, spec.search_seed, 0))}
    before = [*first.values(), *(settings for index, settings in history.begun.items() if index < now.indices.start)]
    tried = {key(space.settings(settings)) for settings in before}
    seed = f"{spec.search_seed}\x1f{now.indices.start}"
    rest = [index for index in now.indices if index not in first]
    return first | dict(zip(rest, suggest(space, seed, history.trials, tried, len(rest), valid), strict=False))


def suggest(
    space: Space,
    seed: str,
    told: Sequence[Observation],
    tried: AbstractSet[str],
    count: int,
    valid: Callable[[dict[str, Any]], bool],
) -> list[dict[str, Any]]:
    """Return what `count` trials set; fewer when the space is used up.

    In a space without end, settings that were `tried` before, by `key`, or are not valid together come when nothing
    else is found.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    told = [seen for seen in told if all(abs(value) != float("inf") for value in seen.goodness)]
    several = bool(told) and len(told[0].goodness) > 1
    sampler = optuna.samplers.TPESampler(
        seed=int(hashlib.sha256(seed.encode()).hexdigest()[:8], 16), n_startup_trials=1, constant_liar=True
    )
    study = optuna.create_study(sampler=sampler, directions=["maximize"] * (len(told[0].goodness) if told else 1))
    known_values, rng = distributions(space), random.Random(f"{seed} prior")
    for seen in told:
        if not (several and seen.stopped):  # a stopped trial has no place on a front
            study.add_trial(_told(space, known_values, seen))
    known = set(tried)
    others = (settings for settings in unused(space, known) if valid(settings))
    suggested: list[dict[str, Any]] = []
    for _ in range(count):
        for _ in range(ASKED_AGAIN):
            if near := _near_priors(space, rng, len(told)):
                study.enqueue_trial(near)
            settings = space.settings(_values(space, study.ask(known_values).params))
            if key(settings) not in known and valid(settings):
                break
        else:
            if (other := next(others, None)) is None and every(space) is not None:
                break
            settings = other or settings
        known.add(key(settings))
        suggested.append(settings)
    return suggested


def _near_priors(space: Space, rng: random.Random, told: int) -> dict[str, float]:
    """Return the positions that come from priors: half of them before anything is known, ever fewer with evidence.

    The weight falls as PRIOR_TRIALS / (PRIOR_TRIALS + trials told), the idea of PiBO (Hvarfner et al., ICLR 2022) for
    proposals that are drawn and not maximised, as in PriorBand (Mallik et al., NeurIPS 2023).
    """
    share = random_.PRIOR_SHARE * PRIOR_TRIALS / (PRIOR_TRIALS + told)
    draws = {name: (rng.random(), rng.gauss()) for name, domain in space.domains.items() if domain.prior is not None}
    return {name: space.domains[name].near_prior(gauss) for name, (chance, gauss) in draws.items() if chance < share}


def _told(space: Space, known: Mapping[str, Any], seen: Observation) -> Any:
    stopped: dict[str, Any] = {"intermediate_values": {seen.session: seen.goodness[0]}} if seen.stopped else {}
    return trial(known, places(space, seen.settings), None if seen.stopped else list(seen.goodness), **stopped)


def _values(space: Space, at: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: domain.values[at[name]] if domain.listed else domain.at(at[name])
        for name, domain in space.domains.items()
    }
