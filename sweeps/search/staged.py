"""Staged search: settings of session 1 first, by themselves; then the best of them with the settings that act later.

The frozen slow learner with its closed-form head is a complete continual learner, so a slow setting is judged over all
sessions for the price of training one (`slow_candidates` of them, number 0 the preset's). Trials are made of the best
`carried`: which one is a choice, and the other settings are proposed, as TPE does it. The first round of trials goes
through the carried ones from the best on. A space that varies only settings of session 1, or none of them, has no
stages and is searched by plain TPE. Trial 0 is the preset as in every search, whether its slow setting is carried on or
not.
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
from sweeps.spec.combinations import every, key, unused
from sweeps.spec.depth import acts_in_session_1
from sweeps.spec.domains import Domain
from sweeps.spec.space import Space
from sweeps.spec.specs import SweepSpec

CARRIED = "carried slow setting"  # which of them, best first: one setting of the space that trials are drawn from


def layout(spec: SweepSpec, space: Space) -> list[Round]:
    """Return one round of slow candidates, then rounds of `round_size` trials."""
    rounds = in_rounds(spec.trials, spec.round_size)
    if not has_stages(space):
        return rounds
    candidates = random_.distinct(_part(space, slow=True), spec.search_seed, spec.slow_count)
    return [Round(Kind.SLOW, range(len(candidates))), *rounds]


def propose(spec: SweepSpec, space: Space, now: Round, history: History) -> dict[int, dict[str, Any]]:
    """Return what each job of a round sets, by index."""
    if not has_stages(space):
        return tpe.propose(spec, space, now, history)
    if now.kind == Kind.SLOW:
        return dict(enumerate(_candidates(spec, space, len(now.indices), history)))
    carried = [_slow(space, settings) for settings in history.slow[: _carried_count(spec, space)]]
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
    part = _part(space, slow=True)
    drawn = random_.distinct(part, spec.search_seed, count)
    best = sorted(history.learned, key=lambda seen: seen.goodness, reverse=True)
    lessons = {key(one): one for one in (part.settings(_slow(space, seen.settings)) for seen in best)}
    first = [*drawn[:1], *[one for one in lessons.values() if one != drawn[0]][: count // 2]]
    return [*first, *(one for one in drawn if one not in first)][:count]


def searched(spec: SweepSpec, space: Space, history: History) -> tuple[Space, list[Observation]]:
    """Return the space that trials are proposed from, and the trials so far as they lie in it."""
    if not has_stages(space):
        return space, history.trials
    carried = [_slow(space, settings) for settings in history.slow[: _carried_count(spec, space)]]
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


def _carried_count(spec: SweepSpec, space: Space) -> int:
    """Return how many slow settings are carried on: more than a third of the trials where their trials are too few."""
    later = every(_part(space, slow=False))
    if spec.carried is not None or later is None:
        return spec.carried_count
    return max(spec.carried_count, math.ceil(spec.trials / len(later)))


def has_stages(space: Space) -> bool:
    """Return whether a space varies settings of session 1 and later ones."""
    return len({acts_in_session_1(name) for name in space.domains}) == 2


def _part(space: Space, *, slow: bool) -> Space:
    domains = {name: domain for name, domain in space.domains.items() if acts_in_session_1(name) is slow}
    return replace(space, domains=domains)


def _slow(space: Space, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: settings[name] for name in _part(space, slow=True).domains}


def _carried_space(space: Space, carried: list[dict[str, Any]]) -> Space:
    """Return the space of the trials: one choice among the carried slow settings, and the settings that act later."""
    choice = Domain("choice", tuple(range(len(carried))))
    return replace(
        space, domains={CARRIED: choice, **_part(space, slow=False).domains}, base={**space.base, CARRIED: 0}
    )


def _within(space: Space, carried: list[dict[str, Any]], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trial's settings in that space; what is no longer carried on is left out, and so not learned from."""
    slow, later = _slow(space, settings), _part(space, slow=False).domains
    return {name: settings[name] for name in later} | ({CARRIED: carried.index(slow)} if slow in carried else {})


def _whole(space: Space, within: Space, carried: list[dict[str, Any]], settings: dict[str, Any]) -> dict[str, Any]:
    later = {name: settings[name] for name in within.domains if name != CARRIED}
    return space.settings({**carried[settings[CARRIED]], **later})
