"""Sessions of a run that is over, packed: a driver of ten thousand runs asks for them seldom."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import overload

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


@lru_cache(maxsize=64)
def _unpacked(packed: bytes) -> tuple[SessionRecord, ...]:
    return tuple(map(SessionRecord.from_json, json.loads(zlib.decompress(packed))))
