"""The record of a session: what it holds is what its JSON says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from safe.types import Work
from sweeps.ledger.record import SessionRecord

Make = Callable[..., SessionRecord]

WRITTEN: dict[str, Any] = {
    "session": 1,
    "sessions": 2,
    "split": "val",
    "metrics": {
        "val/accuracy": 0.75,
        "val/slow/accuracy": 0.65,
        "val/fast/accuracy": 0.55,
        "ridge/slow": 1e4,
        "time/train_seconds": 1.5,
    },
    "losses": [[1, {"train/slow/ce": 1.0}]],
    "row": [],
    "grid": [[0.75], [0.5]],
    "grid_metrics": [{}, {}],
    "counts": [100],
    "provenance": {"data_digest": "d" * 16, "weights_digest": "w" * 16, "class_order": "0,1"},
    "work": {
        "training": "trained",
        "seconds": 2.0,
        "saved_seconds": 0.0,
        "waited_seconds": 0.0,
        "stages": {},
        "trained": True,
    },
}


def test_its_json_has_the_keys_that_ledgers_have_always_had(make_session: Make) -> None:
    record = make_session(1, [[0.75], [0.5]])
    written = json.loads(json.dumps(record.to_json()))
    assert json.dumps(written) == json.dumps({**WRITTEN, "metrics": {**WRITTEN["metrics"], **written["metrics"]}})
    assert written["metrics"] == pytest.approx(WRITTEN["metrics"])
    assert make_session(1, [], notes={"memory": "little"}).to_json()["notes"] == {"memory": "little"}


def test_what_is_read_is_what_was_written(make_session: Make) -> None:
    work = Work("reused", 2.0, 3.0, 0.5, {"slow": {"computed": 0, "reused": 1}})
    record = make_session(2, [[0.5, 0.25]], work=work, notes={"memory": "little"})
    inner = {"within": [0.75, 0.5], "confusion": [[99, 1], [20, 280]], "grid_within": [[0.75, 0.5]]}
    record = replace(record, **inner)
    assert (
        SessionRecord.from_json({"type": "session", "job": "a", **json.loads(json.dumps(record.to_json()))}) == record
    )


def test_a_record_of_before_lacks_what_forgetting_is_made_of() -> None:
    parts = ("within", "confusion", "grid_within")
    record = SessionRecord.from_json({name: value for name, value in WRITTEN.items() if name not in parts})
    assert (record.within, record.confusion, record.grid_within) == ([], [], [])


@pytest.mark.parametrize("missing", sorted({*WRITTEN} - {"within", "confusion", "grid_within"}))
def test_what_is_no_record_is_refused(missing: str) -> None:
    with pytest.raises(LookupError, match=missing):
        SessionRecord.from_json({name: value for name, value in WRITTEN.items() if name != missing})


def test_a_metric_is_found_by_its_name_without_split() -> None:
    record = SessionRecord.from_json(WRITTEN)
    assert (record.metric("slow/accuracy"), record.metric("forgetting")) == (0.65, None)
    assert record.judged() == {"accuracy": 0.75, "slow/accuracy": 0.65, "fast/accuracy": 0.55}
    assert record.judged("fast/") == {"accuracy": 0.55}
