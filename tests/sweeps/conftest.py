"""Hand-made specifications and session records, small enough to check by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from safe.config import load_config
from safe.states.inference import save_session
from safe.training.trainer import SafeTrainer
from safe.types import SessionResult, Split, Work
from sweeps.ledger.data import facts
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.record import SessionRecord
from sweeps.search.random_ import draw
from sweeps.spec.specs import SweepSpec

PROVENANCE = {"data_digest": "d" * 16, "weights_digest": "w" * 16, "class_order": "0,1"}
TEMPERATURES = [0.1, 1.0, 10.0]
PREDICTIONS = [
    {"aggregation.kind": "entropy", "aggregation.temperature": tau, "head.logit_scale": "learned"}
    for tau in TEMPERATURES
]


@pytest.fixture(autouse=True)
def _delivered_here(deliver_here: None) -> None:
    """Almost all tests do without a process that delivers."""


def _make_spec(**changes: Any) -> SweepSpec:
    fields: dict[str, Any] = {
        "name": "demo",
        "dataset": "digits",
        "trials": 2,
        "seeds": 2,
        "search": "random",
        "holdout_share": 0.2,
        "space": {"fast.cross_weight": {"choice": [0.0, 1.0]}, "aggregation.temperature": {"grid": TEMPERATURES}},
        "base": load_config("digits").flat(),
        "threads": 1,
        "concurrency": 2,
    }
    return SweepSpec(**{**fields, **changes})


def _make_session(session: int, grid: list[list[float]], split: Split = "val", **changes: Any) -> SessionRecord:
    """Session record of a stream of two sessions with 100 and 300 images."""
    accuracy = grid[0][-1] if grid else 0.5
    result = SessionResult(
        session,
        2,
        split,
        classes_seen=5 * session,
        metrics={"accuracy": accuracy, "slow/accuracy": accuracy - 0.1, "fast/accuracy": accuracy - 0.2},
        losses=((session, {"train/slow/ce": 1.0 / session}),),
        ridge={"slow": 1e4},
        seconds={"train": 1.5},
        work=Work("trained", seconds=2.0),
    )
    return replace(SessionRecord.of(result, PROVENANCE, [100, 300][:session], grid), **changes)


@cache
def _facts(name: str) -> dict[str, Any]:
    return facts(name, "data")


UNTRAINED = {
    "slow.epochs": 0, "fast.epochs": 0, "head.projection_dim": 32, "data.init_classes": 5, "data.increment": 5,
    "runtime.threads": 1, "runtime.device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="session")
def untrained() -> dict[str, Any]:
    """Return the settings of the run whose states `states` gives."""
    return UNTRAINED


@pytest.fixture(scope="session")
def states(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the states of a run of two sessions on digits, with the shipped network."""
    folder, trainer = tmp_path_factory.mktemp("states"), SafeTrainer(load_config("digits", overrides=UNTRAINED))
    while not trainer.done:
        trainer.run_session()
        save_session(trainer.inference_state(), folder)
    return folder


@pytest.fixture
def predictions() -> list[dict[str, Any]]:
    return PREDICTIONS


@pytest.fixture(scope="session")
def make_spec() -> Callable[..., SweepSpec]:
    """Give a function that makes a small valid specification with some fields changed."""
    return _make_spec


@pytest.fixture
def make_session() -> Callable[..., SessionRecord]:
    """Give a function that makes a session record from its grid of accuracy rows."""
    return _make_session


@pytest.fixture
def finished_sweep(tmp_path: Path) -> Callable[..., Ledger]:
    """Give a function that writes the ledger of a finished sweep, with some fields of its specification changed, under
    `tmp_path / sweeps / demo`."""

    def write(**changes: Any) -> Ledger:
        folder = tmp_path / "sweeps" / "demo"
        folder.mkdir(parents=True)
        spec = _make_spec(**changes)
        ledger = Ledger.create(folder, spec)
        ledger.append("data", sets={"dataset": _facts("digits")})
        ledger.append("tracking", tracking_uri="sqlite:///x", experiment="digits", parent_run_id="p")
        rows = {"trial-00": [0.8, 0.6], "trial-01": [0.9, 0.7]}
        space = spec.parsed_space()
        for index, (job, (low, high)) in enumerate(rows.items()):
            config = spec.trial_config(space.settings(draw(space, spec.search_seed, index)))
            ledger.append("job", job=job, kind="trial", title=job, config=config, predictions=PREDICTIONS)
            ledger.append("session", job=job, **_make_session(1, [[low], [low], [low]]).to_json())
            grid = [[low, 0.4], [low, high], [low, 0.5]]
            ledger.append("session", job=job, **_make_session(2, grid).to_json())
            ledger.append("status", job=job, status="FINISHED", reason=None)
        ledger.append("selected", trial="trial-01", prediction=PREDICTIONS[1], score=0.825)
        for repeat, accuracy in enumerate([0.5, 0.75]):
            job = f"final-01-{repeat}"
            ledger.append("job", job=job, kind="final", title=job, config=config, predictions=[])
            for session in (1, 2):
                record = _make_session(session, [], split="test")
                record = replace(record, metrics={**record.metrics, "test/accuracy": accuracy})
                ledger.append("session", job=job, **record.to_json())
            ledger.append("status", job=job, status="FINISHED", reason=None)
        ledger.append("finished")
        return ledger

    return write


def _fake_runner(value: Callable[..., float], slow: Callable[..., float] | None = None) -> Callable[..., Any]:
    def run(job: Any) -> list[SessionRecord]:
        split: Split = "test" if job.config["data.evaluate_on"] == "test" else "val"
        accuracy, alone = value(job.config), (slow or value)(job.config)
        metrics = dict.fromkeys(("accuracy", "average_accuracy"), accuracy)
        metrics |= {f"slow/{name}": alone for name in ("accuracy", "average_accuracy")}
        return [
            SessionRecord.of(
                SessionResult(
                    session,
                    2,
                    split,
                    classes_seen=5 * session,
                    metrics=metrics,
                    row=(accuracy,) * session,
                    work=Work("trained", 2.0),
                ),
                PROVENANCE,
                [10] * session,
                [[accuracy - 0.01 * (index != 1)] * session for index in range(len(job.predictions))],
            )
            for session in (1, 2)
        ]

    return run


@pytest.fixture
def fake() -> Callable[..., Any]:
    """Give a function that makes a runner (`benchmarks.simulator`) whose accuracy follows from the configuration.

    It is best at the second prediction. The slow learner's is another function, by default the same.
    """
    return _fake_runner


@pytest.fixture
def decisions() -> Callable[..., dict[str, Any]]:
    """Give a function that returns all that a sweep decided: jobs with their configurations, and the choice."""

    def decided(log: Any) -> dict[str, Any]:
        jobs = sorted(log.jobs.values(), key=lambda job: (job.kind, job.order, job.id))
        return {"jobs": [(job.id, job.config) for job in jobs], "selected": log.selected}

    return decided
