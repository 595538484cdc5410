"""Random search: every trial is drawn on its own, in one round.

The values of a trial depend on the seed, its index and the setting's name alone, so more trials, or more settings,
extend a sweep without changing what was drawn before; only one that would repeat another is drawn again. Trial 0 takes
the preset's own values wherever they lie in the space: it is the control of the search. Half of the draws of a setting
that has a prior come from it, so that a wrong one costs half of them.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from typing import Any

from sweeps.ledger.jobs import Kind
from sweeps.search.history import History
from sweeps.search.layout import Round
from sweeps.spec.combinations import every, key, unused
from sweeps.spec.space import Space
from sweeps.spec.specs import SweepSpec

PRIOR_SHARE = 0.5  # of the draws come from the prior of a setting that has one
DRAWN_AGAIN = 20  # draws for each value wanted that differs from the others


def layout(spec: SweepSpec, space: Space) -> list[Round]:
    """Return one round of all trials."""
    return [Round(Kind.TRIAL, range(spec.trials))]


def propose(spec: SweepSpec, space: Space, now: Round, history: History) -> dict[int, dict[str, Any]]:
    """Return what each trial that has not begun sets, by index; fewer when the space is used up."""
    taken = {key(space.settings(settings)) for settings in history.begun.values()}
    proposals: dict[int, dict[str, Any]] = {}
    for index in (index for index in now.indices if index not in history.begun):
        draws = (space.settings(draw(space, spec.search_seed, index, again)) for again in range(DRAWN_AGAIN))
        others = itertools.chain((settings for settings in draws if key(settings) not in taken), unused(space, taken))
        if (settings := next(others, None)) is None:
            break
        taken.add(key(settings))
        proposals[index] = settings
    return proposals


def draw(space: Space, seed: int, index: int, again: int = 0) -> dict[str, Any]:
    """Return a value for every varied setting: a pure function of its arguments."""
    values = {}
    for name, domain in space.domains.items():
        if index == again == 0 and space.base[name] in domain:
            values[name] = space.base[name]
        else:
            which = f"{index}.{again}" if again else f"{index}"
            digest = hashlib.sha256(f"{seed}\x1f{which}\x1f{name}".encode()).digest()
            rng = random.Random(digest)
            position = rng.random()
            if domain.prior is not None and rng.random() < PRIOR_SHARE:
                position = domain.near_prior(rng.gauss())
            values[name] = domain.at(position)
    return values


def distinct(space: Space, seed: int, count: int) -> list[dict[str, Any]]:
    """Return what the first `count` different draws set; fewer when the space is used up.

    With a larger count the first ones stay as they are.
    """
    chosen: dict[str, dict[str, Any]] = {}
    listed, draws = every(space), range(DRAWN_AGAIN * count)
    count = count if listed is None else min(count, len(listed))
    for index in draws:
        settings = space.settings(draw(space, seed, index))
        chosen.setdefault(key(settings), settings)
        if len(chosen) == count:
            break
    for settings in itertools.islice(unused(space, chosen), count - len(chosen)):
        chosen[key(settings)] = settings
    return list(chosen.values())
