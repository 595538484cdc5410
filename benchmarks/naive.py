"""A sweep in the plain form: every combination of trained and prediction-time settings is a Tune trial of its own,
which trains from scratch. Nothing is shared, recorded or kept, so it is the leanest sweep of that form.

Ray reads its environment when it is imported: import this module inside `sweeps.engine.tuner.local_ray`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray import tune

from safe.config import validate
from safe.training.trainer import SafeTrainer


class NaiveRun(tune.Trainable):
    """Trains the configuration `run` from its first session; an iteration is a session.

    Every result holds `rows` (accuracy per session group after each session so far), `average_accuracy`, and the clock
    at the run's beginning (`began`) and now (`ended`).
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Begin a run."""
        self.began = time.time()
        self.trainer = SafeTrainer(validate(config["run"]))
        self.rows: list[list[float]] = []

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin the next run in the same process, so that only the first one of a worker starts Python and torch."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train a session."""
        result = self.trainer.run_session()
        self.rows.append(list(result.row))
        return {
            "rows": self.rows,
            "average_accuracy": result.metrics["average_accuracy"],
            "began": self.began,
            "ended": time.time(),
            "done": self.trainer.done,
        }


def naive_sweep(
    configs: Sequence[Mapping[str, Any]], folder: Path, *, threads: int, concurrency: int
) -> list[dict[str, Any]]:
    """Return the last result of a run of each flat configuration, in their order; needs a running Ray."""
    tuner = tune.Tuner(
        tune.with_resources(NaiveRun, {"cpu": threads}),
        param_space={"run": tune.grid_search([dict(config) for config in configs])},
        tune_config=tune.TuneConfig(max_concurrent_trials=concurrency, reuse_actors=True),
        run_config=tune.RunConfig(
            name="naive",
            storage_path=str(folder),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    results = tuner.fit()
    if results.errors:
        raise results.errors[0]
    reports = [results[i].metrics or {} for i in range(len(results))]
    return [next(last for last in reports if last["config"]["run"] == config) for config in configs]
