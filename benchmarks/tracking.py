"""Suite `tracking`: what recording a digits trial in MLflow (SQLite) costs, against the same trial unrecorded.

Wall time alone would drown the cost in noise, so it is also taken apart: how long the calls keep their caller waiting,
and how much processor time recording takes in all, its background thread included.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from safe.backbones.loading import load_backbone
from safe.config import Config, load_config
from safe.data.loading import load_dataset
from safe.states.inference import save_session, session_file, state_files
from safe.training.trainer import SafeTrainer
from safe.types import SessionResult
from sweeps.model.saving import STATE_FOLDER, model_code
from tracking import JournalRecorder, Point, Status, load_sweep, sqlite_uri
from tracking.recorder import ModelFiles, ModelOutput

PAIRS = 5
SWEEP, TRIAL = "bench", "bench/trial-00"


def run(console: Console) -> list[dict[str, Any]]:
    """Measure, print a line each, return them as rows."""
    config = load_config("digits")
    dataset = load_dataset(config.dataset, config.data.root, 32)
    vit = load_backbone(config.backbone.name)
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder)
        seconds: dict[str, list[float]] = {"plain": [], "recorded": []}
        for pair in range(PAIRS):
            began = time.perf_counter()
            sessions = train(SafeTrainer(config, dataset, vit), lambda result: None)
            seconds["plain"].append(time.perf_counter() - began)
            books = Books(results / str(pair))
            began = time.perf_counter()
            books.begin(config)
            train(SafeTrainer(config, dataset, vit), books.session)
            books.end()
            seconds["recorded"].append(time.perf_counter() - began)
            books.close()
        costs = {"recording it": record(results / "cost", config, sessions)}
        states, trainer = results / "states", SafeTrainer(config, dataset, vit)
        train(trainer, lambda result: save_session(trainer.inference_state(), states))
        costs["recording it, each session a model"] = record(results / "models", config, sessions, states)
    plain = statistics.median(seconds["plain"])
    ratios = [a / b - 1 for a, b in zip(seconds["recorded"], seconds["plain"], strict=True)]
    wall = {"name": "digits trial, recorded against not", "plain_seconds": plain, "pairs": PAIRS}
    wall |= {"added": statistics.median(ratios), "added_min": min(ratios), "added_max": max(ratios)}
    parts = [{"name": name, **cost, "share": cost["cpu_seconds"] / plain} for name, cost in costs.items()]
    console.print(
        f"{wall['name']}: {plain:.2f} s, {wall['added']:+.1%} when recorded (median of {PAIRS} pairs, "
        f"{wall['added_min']:+.1%} to {wall['added_max']:+.1%})",
        *(
            f"{cost['name']}: {cost['calls']} calls of {cost['points']} points wait {1e3 * cost['waited_seconds']:.1f} "
            f"ms in all, {1e3 * cost['longest_seconds']:.1f} ms at most; with delivery {cost['cpu_seconds']:.3f} s of "
            f"processor time, {cost['share']:.2%} of the trial"
            for cost in parts
        ),
        sep="\n",
        highlight=False,
        soft_wrap=True,
    )
    return [wall, *parts]


def train(trainer: SafeTrainer, session: Callable[[SessionResult], None]) -> list[SessionResult]:
    """Train to the end, handing over every session."""
    results = []
    while not trainer.done:
        results.append(trainer.run_session())
        session(results[-1])
    return results


def record(folder: Path, config: Config, sessions: list[SessionResult], states: Path | None = None) -> dict[str, Any]:
    """Record a trial that is trained already; return what that cost, after proving that all of it has arrived.

    Args:
        states: holds the inference states of its sessions, which become models; None makes none.
    """
    books = Books(folder, states)
    began = time.process_time()
    books.begin(config)
    for result in sessions:
        books.session(result)
    books.end()
    books.close()
    cpu = time.process_time() - began
    expected = sorted((point.key, point.step, point.value) for result in sessions for point in points(result))
    frame = load_sweep(SWEEP, tracking_uri=books.uri).metrics
    if sorted(frame[["key", "step", "value"]].itertuples(index=False, name=None)) != expected:
        raise AssertionError("MLflow does not hold what was recorded")
    return {
        "calls": len(books.waits),
        "points": len(expected),
        "waited_seconds": sum(books.waits),
        "longest_seconds": max(books.waits),
        "cpu_seconds": cpu,
    }


def points(result: SessionResult) -> list[Point]:
    """Return what a sweep records of a session."""
    made = [Point(name, value, result.session) for name, value in result.as_metrics().items()]
    return made + [Point(name, value, step) for step, terms in result.losses for name, value in terms.items()]


class Books:
    """A recorder for one trial, which notes how long every session's call keeps its caller waiting."""

    def __init__(self, folder: Path, states: Path | None = None) -> None:
        self.uri = sqlite_uri(folder / "mlflow.db")
        self.waits: list[float] = []
        self._states = states
        self._code = model_code(folder / "code") if states else None  # once a sweep
        self._recorder = JournalRecorder(folder / "journal.jsonl", self.uri, "bench")
        self._recorder.start(SWEEP, {}, {"kind": "sweep"})
        self._recorder.flush(60)

    def begin(self, config: Config) -> None:
        """Begin the trial."""
        self._recorder.start(TRIAL, config.flat(), {"kind": "trial"}, parent=SWEEP)

    def session(self, result: SessionResult) -> None:
        """Record a session."""
        began = time.perf_counter()
        self._recorder.log_models(TRIAL, list(self._models(result.session)), points(result))
        self.waits.append(time.perf_counter() - began)

    def _models(self, session: int) -> Iterator[ModelOutput]:
        if self._states and self._code:
            state = (ModelFiles(file, STATE_FOLDER) for file in state_files(session_file(self._states, session)))
            files = (ModelFiles(self._code), *state)
            yield ModelOutput(f"trial-00-session-{session:02d}", session, "test/", tags={"sweep": SWEEP}, files=files)

    def end(self) -> None:
        """End the trial."""
        self._recorder.finish(TRIAL, Status.FINISHED)

    def close(self) -> None:
        """Wait until MLflow has everything."""
        self._recorder.close()
