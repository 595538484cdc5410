"""Packed sessions are the sessions, in less memory."""

from __future__ import annotations

import sys
from collections import ChainMap
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from safe.types import Work
from sweeps.ledger.packed import PackedSessions, settings_over
from sweeps.ledger.record import SessionRecord

Make = Callable[..., SessionRecord]


@pytest.fixture
def sessions(make_session: Make) -> list[SessionRecord]:
    work = Work("reused", 2.0, 3.0, 0.5, {"slow": {"computed": 0, "reused": 1}})
    inner: dict[str, Any] = {"within": [0.75], "confusion": [[99, 1]], "notes": {"memory": "little"}, "work": work}
    return [replace(make_session(1, [[1 / 3], [0.5]]), **inner), make_session(2, [[0.1, 0.2], [0.3, 0.7]])]


def test_they_are_read_as_the_list_that_they_were(sessions: list[SessionRecord]) -> None:
    packed = PackedSessions(sessions)
    assert [*packed] == sessions
    assert (len(packed), packed[-1], packed[0]) == (2, sessions[1], sessions[0])
    assert (list(packed[:1]), list(packed[1:]), list(packed[5:])) == (sessions[:1], sessions[1:], [])
    assert [*PackedSessions([])] == []
    with pytest.raises(IndexError):
        packed[2]


def test_settings_are_kept_where_they_differ_in_value_or_kind() -> None:
    base = {"lr": 0.1, "epochs": 1, "sizes": [1, 2], "on": True}
    config = {"lr": 0.1, "epochs": 1.0, "sizes": [1, 2.0], "on": True, "own": None}
    kept = settings_over(base, config)
    assert repr(dict(kept)) == repr(config)
    assert isinstance(kept, ChainMap)
    assert kept.maps == [{"epochs": 1.0, "sizes": [1, 2.0], "own": None}, base]
    assert settings_over(base, {"lr": 0.1}) == {"lr": 0.1}, "what it lacks is not filled in"


def test_a_hundred_long_sessions_take_a_tenth_of_what_their_text_takes(make_session: Make) -> None:
    sessions = [make_session(session, [[0.5] * session] * 24) for session in range(1, 101)]
    packed = PackedSessions(sessions)
    text = sum(len(str(record.to_json())) for record in sessions)
    assert sum(map(sys.getsizeof, vars(packed).values())) < text / 10
