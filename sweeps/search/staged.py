"""Staged search: settings of session 1 first, by themselves; then the best of them with the settings that act later.

The frozen slow learner with its closed-form head is a complete continual learner, so a slow setting is judged over all
sessions for the price of training one (`slow_candidates` of them, number 0 the preset's), the better half again with
another seed, and so on (`sweeps.results.slow`). Listed settings of heads cost no training: every slow setting is judged
with every combination of theirs, and goes on with its best one. Trials are made of the best `carried`: which one is a
choice, and the other settings are proposed, as TPE does it. The first round of trials goes through the carried ones
from the best on. A space that varies only settings of session 1, or none of them, has no stages and is searched by
plain TPE. Trial 0 is the preset as in every search, whether its slow setting is carried on or not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from sweeps.ledger.jobs import Kind
from sweeps.search import random_, tpe
from sweeps.search.history import History, Observation
from sweeps.search.layout import Round, in_rounds
from sweeps.spec.combinations import every, heads, key, unused
from sweeps.spec.depth import acts_in_session_1, acts_on_heads_alone
from sweeps.spec.domains import Domain
from sweeps.spec.space import Space
from sweeps.spec.specs import SweepSpec

CARRIED = "carried slow setting"  # which of them, best first: one setting of the space that trials are drawn from


def layout(spec: SweepSpec, space: Space) -> list[Round]:
    """Return one round of slow candidates, then rounds of `round_size` trials."""
    rounds = in_rounds(spec.trials, spec.round_size)
    if not has_stages(space):
        return rounds
    candidates = random_.distinct(_slow_part(space), spec.search_seed, spec.slow_count)
    return [Round(Kind.SLOW, range(len(candidates) * len(heads(space)))), *rounds]


def propose(spec: SweepSpec, space: Space, now: Round, history: History) -> dict[int, dict[str, Any]]:
    """Return what each job of a round sets, by index."""
    if not has_stages(space):
        return tpe.propose(spec, space, now, history)
    if now.kind == Kind.SLOW:
        slow = _candidates(spec, space, len(now.indices) // len(heads(space)), history)
        return dict(enumerate({**one, **head} for head in heads(space) for one in slow))
    carried = _carried(spec, space, history)
    within, told = searched(spec, space, history)
    first: dict[int, dict[str, Any]] = {}
    if now.first:
        first = {0: space.settings(random_.draw(space, spec.search_seed, 0))}
        tried = {key(_within(space, carried, one)) for one in (first[0], *_before(history))}
        proposals = _first_round(spec, within, now.indices[1:], len(carried), tried)
    else:
        begun = {index: _within(space, carried, settings) for index, settings in history.begun.items()}
        proposals = tpe.propose(spec, within, now, History(told, begun=begun), partial(_whole, space, within, carried))
    return first | {index: _whole(space, within, carried, settings) for index, settings in proposals.items()}


def _before(history: History) -> list[Mapping[str, Any]]:
    """Return what a user added before the first trial was proposed."""
    return [settings for index, settings in history.begun.items() if index < 0]


def _candidates(spec: SweepSpec, space: Space, count: int, history: History) -> list[dict[str, Any]]:
    """Return the slow settings to judge: the preset's, up to half from earlier sweeps' best trials, then draws."""
    part = _slow_part(space)
    drawn = random_.distinct(part, spec.search_seed, count)
    best = sorted(history.learned, key=lambda seen: seen.goodness, reverse=True)
    earlier = ({name: seen.settings[name] for name in part.domains} for seen in best)
    lessons = {key(one): one for one in map(part.settings, earlier)}
    first = [*drawn[:1], *[one for one in lessons.values() if one != drawn[0]][: count // 2]]
    return [*first, *(one for one in drawn if one not in first)][:count]


def searched(spec: SweepSpec, space: Space, history: History) -> tuple[Space, list[Observation]]:
    """Return the space that trials are proposed from, and the trials so far as they lie in it."""
    if not has_stages(space):
        return space, history.trials
    carried = _carried(spec, space, history)
    told = [replace(seen, settings=_within(space, carried, seen.settings)) for seen in history.trials]
    return _carried_space(space, carried), told


def _first_round(
    spec: SweepSpec, within: Space, indices: range, carried: int, tried: set[str]
) -> dict[int, dict[str, Any]]:
    """Go through the carried slow settings from the best on; what is `tried`, by its key, comes no second time."""
    proposals = {}
    draws = itertools.count(1)
    for index in indices:
        for draw in itertools.islice(draws, random_.DRAWN_AGAIN):
            values = random_.draw(within, spec.search_seed, draw)
            proposals[index] = within.settings({**values, CARRIED: (index - 1) % carried})
            if key(proposals[index]) not in tried:
                break
        else:
            if (other := next(unused(within, tried), None)) is None and every(within) is not None:
                del proposals[index]
                break
            proposals[index] = other or proposals[index]
        tried.add(key(proposals[index]))
    return proposals


def _carried(spec: SweepSpec, space: Space, history: History) -> list[dict[str, Any]]:
    """Return what is carried on, best first: each slow setting with its best head."""
    best, slow = dict[str, dict[str, Any]](), [*_slow_part(space).domains]
    for settings in history.slow:
        best.setdefault(key({name: settings[name] for name in slow}), _alone(space, settings))
    return list(best.values())[: _carried_count(spec, space)]


def _carried_count(spec: SweepSpec, space: Space) -> int:
    """Return how many slow settings are carried on: more than usual where their trials are too few."""
    later = every(_later_part(space))
    if spec.carried is not None or later is None:
        return spec.carried_count
    return max(spec.carried_count, math.ceil(spec.trials / len(later)))


def judged_alone(name: str, domain: Domain) -> bool:
    """Return whether the slow learner by itself judges a setting: of session 1, or of heads with listed values."""
    return acts_in_session_1(name) or (domain.listed and acts_on_heads_alone(name))


def has_stages(space: Space) -> bool:
    """Return whether a space varies settings of session 1 and later ones."""
    return len({acts_in_session_1(name) for name in space.domains}) == 2


def _slow_part(space: Space) -> Space:
    return replace(space, domains={name: one for name, one in space.domains.items() if acts_in_session_1(name)})


def _later_part(space: Space) -> Space:
    domains = {name: one for name, one in space.domains.items() if not judged_alone(name, one)}
    return replace(space, domains=domains)


def _alone(space: Space, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: settings[name] for name, domain in space.domains.items() if judged_alone(name, domain)}


def _carried_space(space: Space, carried: list[dict[str, Any]]) -> Space:
    """Return the space of the trials: one choice among the carried slow settings, and the settings that act later."""
    choice = Domain("choice", tuple(range(len(carried))))
    return replace(space, domains={CARRIED: choice, **_later_part(space).domains}, base={**space.base, CARRIED: 0})


def _within(space: Space, carried: list[dict[str, Any]], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trial's settings in that space; what is no longer carried on is left out, and so not learned from."""
    alone, later = _alone(space, settings), _later_part(space).domains
    return {name: settings[name] for name in later} | ({CARRIED: carried.index(alone)} if alone in carried else {})


def _whole(space: Space, within: Space, carried: list[dict[str, Any]], settings: dict[str, Any]) -> dict[str, Any]:
    later = {name: settings[name] for name in within.domains if name != CARRIED}
    return space.settings({**carried[settings[CARRIED]], **later})
