"""How busy the workers of a sweep were is counted from its journal."""

from __future__ import annotations

import pytest

from benchmarks.default_sweep import runs_under_way, seconds_with

RECORDS = [
    ("start", "demo", 0.0),
    ("start", "demo/trial-00", 5.0),
    ("start", "demo/trial-01", 6.0),
    ("log_points", "demo/trial-00", 7.0),
    ("finish", "demo/trial-00", 10.0),
    ("start", "demo/trial-02", 11.5),
    ("finish", "demo/trial-01", 13.0),
    ("finish", "demo/trial-02", 20.0),
    ("log_models", "demo/trial-02", 21.0),
    ("finish", "demo", 22.0),
]


def test_runs_are_under_way_from_their_start_to_their_end() -> None:
    spans = runs_under_way({"call": call, "run_key": key, "at": at} for call, key, at in RECORDS)
    assert sorted(spans) == [(5.0, 10.0), (6.0, 13.0), (11.5, 20.0)]
    assert [seconds_with(spans, least) for least in (1, 2, 3)] == [pytest.approx(15.0), pytest.approx(4 + 1.5), 0.0]
    assert seconds_with([], 1) == 0.0
