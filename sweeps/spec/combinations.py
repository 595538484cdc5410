"""Every combination of the listed values of a space."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from safe.errors import UserError, tell
from sweeps.spec.depth import acts_in_session_1, acts_on_heads_alone
from sweeps.spec.domains import MOST_VALUES, STEPPED
from sweeps.spec.space import Space


def combinations(space: Space) -> list[dict[str, Any]]:
    """Return what every combination sets, without repetition, settings of session 1 varying fastest.

    Raises:
        UserError: a setting has a range instead of listed values.
    """
    if ranges := [name for name, domain in space.domains.items() if not (domain.listed or domain.kind in STEPPED)]:
        raise UserError(
            f"grid search needs listed values, {{grid: [...]}}, but the space has ranges for {', '.join(ranges)}; "
            "list values there, or choose --search staged, tpe or random"
        )
    return _combined(space, {name: domain.every() or () for name, domain in space.domains.items()})


def every(space: Space) -> list[dict[str, Any]] | None:
    """Return what every combination sets, without repetition; None of a space with no end, or none in sight."""
    lists = {name: domain.every() for name, domain in space.domains.items()}
    finite = {name: values for name, values in lists.items() if values is not None}
    if len(finite) < len(lists) or math.prod(map(len, finite.values())) > MOST_VALUES:
        return None
    return _combined(space, finite)


def of_heads(space: Space) -> list[str]:
    """Return the listed settings of heads."""
    return [name for name, domain in space.domains.items() if domain.listed and acts_on_heads_alone(name)]


def heads(space: Space) -> list[dict[str, Any]]:
    """Return what every combination of listed settings of heads sets, the one that trials start from first if there."""
    names = of_heads(space)
    every_one = _combined(space, {name: space.domains[name].values for name in names})
    return sorted(every_one, key=lambda one: any(one[name] != space.base[name] for name in names))


def unused(space: Space, taken: Container[str]) -> Iterator[dict[str, Any]]:
    """Yield of `every` combination those whose `key` is not taken by then; none where there is no end."""
    return (settings for settings in every(space) or () if key(settings) not in taken)


def _combined(space: Space, lists: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    names = sorted(lists, key=acts_in_session_1)  # stable: the order of the space within each of the two
    products = itertools.product(*(lists[name] for name in names))
    settings = (space.settings(dict(zip(names, values, strict=True))) for values in products)
    return list({key(one): one for one in settings}.values())


def key(settings: Mapping[str, Any]) -> str:
    """Return a text that is equal for equal settings; 1 and 1.0 are equal."""
    plain = {name: float(value) if type(value) is int else value for name, value in settings.items()}
    return json.dumps(plain, sort_keys=True)


def used_up(trials: int, asked: int) -> str:
    """Return in words that a space has fewer trials than were asked for."""
    return f"the space is used up: {trials} different trials are all there are of the {asked} asked for"


def possible(trials: int, search: str, space: Space) -> int:
    """Return how many of so many trials there are at most, and tell when they are fewer."""
    listed = every(space)
    different = trials if listed is None else len(listed)
    if different < trials and search != "grid":  # of a grid nobody asks for more on purpose
        tell(used_up(different, trials))
    return min(trials, different)
