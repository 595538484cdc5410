"""A whole sweep whose MLflow is away at its end: the next command brings everything to it, and trains nothing.

Everything is real but the engine and the training: jobs run one after another in this process, and their results are
functions of their settings.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking._tracking_service import utils

from safe.config import load_config
from safe.states.checkpoint import load_state
from safe.types import Work
from sweeps.cli import main
from sweeps.engine import joining
from sweeps.engine import study as module
from sweeps.engine.bookkeeper import Bookkeeper
from sweeps.engine.job_queue import JobQueue
from sweeps.ledger.jobs import Job
from sweeps.ledger.ledger import FILE_NAME, SweepLog, read_ledger
from sweeps.model.fetched import fetch_state
from sweeps.model.registry import CHAMPION
from sweeps.results.summary import sweep_summary
from sweeps.spec.specs import SweepSpec
from sweeps.studies.sweep import run_sweep
from sweeps.worker.artifacts import CHECKPOINTS
from tracking import UnreachableError, journal, waiting
from tracking.__main__ import main as tracking_main
from tracking.mlflow_backend import connect, sqlite_uri
from tracking.mlflow_pages import uncharted

DURATIONS = ("time/", "work.")  # metrics that two equal sweeps need not have equal
SPACE = {"fast.cross_weight": {"grid": [0.0, 1.0]}, "aggregation.temperature": {"grid": [0.1, 1.0]}}


class Place:
    """A results folder, and an engine that notes which jobs it ran.

    Attributes:
        away: while true, MLflow does not answer.
        ran: ids of the jobs that were run, in order.
    """

    def __init__(self, results: Path, spec: SweepSpec, runner: Any, checkpoints: Path) -> None:
        self.results, self.spec = results, spec
        self.uri = sqlite_uri(results / "mlflow.db")
        self.away = False
        self.ran: list[str] = []
        self._runner, self._checkpoints = runner, checkpoints

    def sweep(self) -> SweepLog:
        return run_sweep(self.spec, self.results)

    def connect(self, tracking_uri: str) -> Any:
        if self.away:
            raise UnreachableError("MLflow is away")
        return connect(tracking_uri)

    def engine(self, rounds: JobQueue, books: Bookkeeper, **_: Any) -> None:
        while (job := rounds.next()) is not None:
            books.started(job)
            self.ran.append(job.id)
            self._run(job, books, again=self.ran.count(job.id) > 1)
            rounds.ended(job.id)

    def _run(self, job: Job, books: Bookkeeper, again: bool) -> None:
        """Run a job; what is done again has its training from the stage store."""
        for record in self._runner(job):
            work = Work("reused" if again else "trained", seconds=2.0 - again, saved_seconds=0.5 * again)
            books.session(job.id, replace(record, work=work))
        shutil.copytree(self._checkpoints, Path(job.states) / CHECKPOINTS, dirs_exist_ok=True)
        books.ended(job.id, "FINISHED")

    def stored(self) -> dict[str, Any]:
        """Return all that MLflow holds, but for durations and random ids."""
        client = connect(self.uri)
        experiment = client.get_experiment_by_name("digits")
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id])
        keys = {run.info.run_id: run.data.tags["safe.run_key"] for run in runs}
        assert len(set(keys.values())) == len(keys)

        def named(text: str) -> str:
            for run_id, key in keys.items():
                text = text.replace(run_id, key)
            return text

        state: dict[str, Any] = {}
        for run in runs:
            history = {
                key: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, key)]
                for key in run.data.metrics
                if not uncharted(key).startswith(DURATIONS)
            }
            assert all(len({step for step, _ in points}) == len(points) for points in history.values())
            state[keys[run.info.run_id]] = {
                "name": run.info.run_name,
                "status": run.info.status,
                "params": run.data.params,
                "tags": {name: named(value) for name, value in run.data.tags.items()},
                "history": history,
                "inputs": [entry.dataset.digest for entry in run.inputs.dataset_inputs],
                "files": [file.path for file in client.list_artifacts(run.info.run_id)],
            }
        versions = client.search_model_versions("name = 'safe-digits'")
        state["versions"] = [(version.version, version.tags, keys[version.run_id]) for version in versions]
        state["aliases"] = [model.aliases for model in client.search_registered_models()]
        return state


@pytest.fixture
def make_place(
    tmp_path: Path,
    make_spec: Callable[..., SweepSpec],
    fake: Callable[..., Any],
    states: Path,
    untrained: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str], Place]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(journal, "CONTACT_S", 300.0)
    monkeypatch.setattr(journal, "DRAIN_S", 300.0)
    monkeypatch.setattr(joining, "local_ray", lambda *_: nullcontext())

    def make(name: str) -> Place:
        trained = {setting: value for setting, value in untrained.items() if not setting.endswith(".epochs")}
        base = load_config("digits", overrides=trained).flat()
        spec = make_spec(name="demo", search="grid", space=SPACE, trials=2, seeds=1, base=base)
        place = Place(tmp_path / name, spec, fake(lambda config: 0.5 + config["fast.cross_weight"] / 4), states)
        monkeypatch.setattr(module, "run_work", place.engine)
        monkeypatch.setattr("tracking.mlflow_recorder.connect", place.connect)
        monkeypatch.setattr("tracking.mlflow_backend.connect", place.connect)
        return place

    return make


def test_what_mlflow_did_not_take_at_the_end_it_gets_by_the_next_command(
    make_place: Callable[[str], Place], capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed = make_place("undisturbed")
    assert undisturbed.sweep().finished
    expected = undisturbed.stored()
    assert (expected["aliases"], len(expected["versions"])) == ([{CHAMPION: 1}], 1)

    place = make_place("away")
    place.away = True
    log = place.sweep()
    assert log.finished
    words = (
        "no model is logged: MLflow does not have the model of demo/final-01-0 yet; it may once everything is delivered"
    )
    assert log.model == {"words": words, "later": True}
    ran, path = list(place.ran), place.results / "sweeps" / "demo" / "journal.jsonl"
    assert waiting(path, place.uri) > 0
    log = place.sweep()
    assert log.model is not None, "it is still away, which is no reason to fail"
    assert "later" in log.model

    place.away = False
    log = place.sweep()
    assert log.model is not None
    assert (log.model["uri"], log.model["champion"]) == ("models:/safe-digits/1", True)
    assert waiting(path, place.uri) == 0
    assert place.stored() == expected
    assert place.ran == ran == undisturbed.ran
    assert log.tracking is not None
    assert log.tracking["parent_run_id"] is not None
    told = capsys.readouterr().err
    assert "MLflow is away. The work goes on" in told

    before = (place.stored(), path.read_bytes(), read_ledger(path.parent))
    assert place.sweep().finished
    assert (place.stored(), path.read_bytes(), read_ledger(path.parent)) == before, "there is nothing more to do"


def test_after_a_delivery_by_hand_the_model_is_what_is_missing(
    make_place: Callable[[str], Place], capsys: pytest.CaptureFixture[str]
) -> None:
    place = make_place("away")
    place.away = True
    place.sweep()
    place.away = False
    assert tracking_main(["deliver", "demo", "--results", str(place.results)]) == 0
    assert place.stored()["versions"] == []
    ran = list(place.ran)
    assert main(["resume", "demo", "--results", str(place.results)]) == 0
    assert place.stored()["aliases"] == [{CHAMPION: 1}]
    assert place.ran == ran
    assert "Traceback" not in capsys.readouterr().err


def numbers(log: SweepLog) -> dict[str, Any]:
    """Return all that a sweep found, without what it cost and where MLflow has it."""
    return {name: value for name, value in sweep_summary(log).items() if name not in ("work", "mlflow")}


def test_a_finished_ledger_cut_anywhere_goes_on_to_the_same_end(make_place: Callable[[str], Place]) -> None:
    """A copy of before, or what stands before damage: what followed is done again, from the stage store."""
    place = make_place("results")
    expected, stored = numbers(place.sweep()), place.stored()
    ledger = place.results / "sweeps" / "demo" / FILE_NAME
    runs, lines = ["demo", *(f"demo/{job}" for job in set(place.ran))], ledger.read_bytes().splitlines(keepends=True)
    cuts = [1, *range(4, len(lines), 9), len(lines) - 1]
    for cut in cuts:
        ledger.write_bytes(b"".join(lines[:cut]))
        log = place.sweep()
        assert log.finished
        assert numbers(log) == expected
        state = place.stored()
        # What the sweep cost, that the model was the first of its data set, and that a run was ended and went on.
        for tags in (store[run]["tags"] for store in (state, stored) for run in runs):
            for told in ("mlflow.note.content", "model.note", "reason"):
                tags.pop(told, None)
        assert state == stored
        if cut == 1:
            assert (log.sessions_trained, log.sessions_reused) == (0, 4)


def test_results_that_were_moved_go_on_where_they_are_now(make_place: Callable[[str], Place], tmp_path: Path) -> None:
    old = make_place("old")
    old.sweep()
    stored, new = old.stored(), make_place("new é")
    old.results.rename(new.results)
    old.results.write_text("")  # nothing can be written there any more
    utils._artifact_repos_cache.clear()  # which a new process would not have
    ledger = new.results / "sweeps" / "demo" / FILE_NAME
    assert waiting(ledger.with_name("journal.jsonl"), new.uri) == 0, "the store has it all, wherever it lies"
    assert new.sweep().finished
    assert (new.ran, new.stored()) == ([], stored)
    state = fetch_state("models:/safe-digits@champion", new.uri, tmp_path)
    assert len(load_state(state)["classes"]) == 10

    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[: len(lines) // 2]))
    log = new.sweep()
    assert log.finished
    assert new.ran
    assert waiting(ledger.with_name("journal.jsonl"), new.uri) == 0
    assert {run: entry["files"] for run, entry in new.stored().items() if "/" in run} == {
        run: entry["files"] for run, entry in stored.items() if "/" in run
    }
    assert log.tracking is not None
    assert log.tracking["tracking_uri"] == new.uri
