"""What is kept of a run that is over: a driver of ten thousand runs asks for little of it, and seldom."""

from __future__ import annotations

import json
import zlib
from collections import ChainMap
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, overload

from sweeps.ledger.record import SessionRecord


class PackedSessions(Sequence[SessionRecord]):
    """Records as they were given, in a tenth of the memory; each access makes them anew, but for the last few runs."""

    def __init__(self, sessions: Sequence[SessionRecord]) -> None:
        self._length = len(sessions)
        self._packed = zlib.compress(json.dumps([record.to_json() for record in sessions]).encode())

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> SessionRecord: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[SessionRecord]: ...

    def __getitem__(self, index: int | slice) -> SessionRecord | Sequence[SessionRecord]:
        return _unpacked(self._packed)[index]


def settings_over(base: dict[str, Any], config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a configuration as what it sets otherwise than another one, beside that; 1 and 1.0 are not the same."""
    if not base.keys() <= config.keys():
        return config
    own = {name: value for name, value in config.items() if name not in base or repr(base[name]) != repr(value)}
    return ChainMap(own, base)


@lru_cache(maxsize=64)
def _unpacked(packed: bytes) -> tuple[SessionRecord, ...]:
    return tuple(map(SessionRecord.from_json, json.loads(zlib.decompress(packed))))
