"""How much of a spread is the order of the classes and how much the seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import stdev, variance
from typing import Any

CONFIDENCE = 0.95


def order_share(orders: Sequence[float], seeds: Sequence[float]) -> dict[str, Any] | None:
    """Return the standard deviations over class orders and over seeds, and the share of the order in both variances.

    Args:
        orders: values over class orders, with one seed.
        seeds: values over seeds, with one class order.

    Each standard deviation has `low` and `high` of its 95 % interval (chi-squared), the share those of the ratio of
    two variances (F); both take the values for normally distributed. What order and seed do only together is in both.
    None with fewer than two values on a side, or where one does not vary: equal values give no interval.
    """
    if min(len(orders), len(seeds)) < 2:
        return None
    ours, theirs = variance(orders), variance(seeds)
    if 0 in (ours, theirs):
        return None
    from scipy.special import fdtri

    first, second = len(orders) - 1, len(seeds) - 1
    tail = (1 - CONFIDENCE) / 2
    ends = [_share(ours, theirs * float(fdtri(first, second, point))) for point in (1 - tail, tail)]
    share = {"value": _share(ours, theirs), "low": ends[0], "high": ends[1]}
    return {"orders": _deviation(orders), "seeds": _deviation(seeds), "share": share}


def components(
    orders: Sequence[Mapping[str, float]], seeds: Sequence[Mapping[str, float]], metrics: Iterable[str]
) -> dict[str, dict[str, Any]]:
    """Return `order_share` of every metric that all runs have, where it tells anything."""
    known = [name for name in metrics if all(name in run for run in (*orders, *seeds))]
    shares = {name: order_share([run[name] for run in orders], [run[name] for run in seeds]) for name in known}
    return {name: share for name, share in shares.items() if share is not None}


def component_words(shares: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return in a sentence a metric how much of its spread is the order of the classes."""
    return [
        f"{name.replace('_', ' ')}: {_interval(told['share'], ' %')} of the variance is the class order; standard "
        f"deviation over orders {_interval(told['orders'])} points, over seeds {_interval(told['seeds'])} points"
        for name, told in shares.items()
    ]


def _interval(part: Mapping[str, float], unit: str = "") -> str:
    value, low, high = (f"{100 * part[name]:.{0 if unit else 1}f}" for name in ("value", "low", "high"))
    return f"{value}{unit} ({low} to {high})"


def _deviation(values: Sequence[float]) -> dict[str, float]:
    from scipy.special import chdtri

    freedom, tail = len(values) - 1, (1 - CONFIDENCE) / 2
    # chdtri inverts the upper tail.
    low, high = (stdev(values) * (freedom / float(chdtri(freedom, point))) ** 0.5 for point in (tail, 1 - tail))
    return {"value": stdev(values), "low": low, "high": high}


def _share(ours: float, theirs: float) -> float:
    return ours / (ours + theirs)
