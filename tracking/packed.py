"""Points of a run that has ended, packed: a journal of ten thousand runs is asked for them seldom."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache


class PackedPoints(Mapping[str, Mapping[int, float]]):
    """Values by metric and step, in a small part of the memory; an access unpacks them, but for the last few runs."""

    def __init__(self, points: Mapping[str, Mapping[int, float]]) -> None:
        told = {key: [*steps.items()] for key, steps in points.items()}  # keys of JSON are texts, steps are not
        self._packed = zlib.compress(json.dumps(told).encode())

    def __getitem__(self, key: str) -> Mapping[int, float]:
        return _kept(self._packed)[key]

    def __iter__(self) -> Iterator[str]:
        return iter(_kept(self._packed))

    def __len__(self) -> int:
        return len(_kept(self._packed))

    def unpacked(self) -> dict[str, dict[int, float]]:
        """Return the points, anew."""
        return _points(self._packed)


def _points(packed: bytes) -> dict[str, dict[int, float]]:
    return {key: dict(steps) for key, steps in json.loads(zlib.decompress(packed)).items()}


_kept = lru_cache(maxsize=16)(_points)
