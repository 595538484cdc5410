"""kill -9 of the MLflow server in mid-sweep: what it holds at the end is what an undisturbed sweep leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sweeps.ledger.ledger import read_ledger

from .state import differences, final_state
from .sweeping import Sweep, wait_for

KILLED_AT, BACK_AT = 3, 5  # sessions done, of the 9 of two trials and a final run


def test_a_server_killed_and_restarted_in_mid_sweep_ends_with_the_same_database(
    tmp_path: Path, make_server: Callable[..., Any], undisturbed: Callable[[str], dict[str, Any]]
) -> None:
    expected = undisturbed("grid")
    (tmp_path / "results").mkdir()
    server = make_server(tmp_path, tmp_path / "results" / "mlflow.db")
    server.start()
    sweep = Sweep(tmp_path, environment={"MLFLOW_TRACKING_URI": server.uri})

    driver = sweep.start({"at": "session", "nth": KILLED_AT, "do": "wait"})
    driver.reached()
    server.kill()
    driver.go_on()
    wait_for(lambda: sessions(sweep) >= BACK_AT, "sessions while the server is away")
    server.start()
    ended = driver.end()
    assert ended.code == 0, ended
    assert "The work goes on" in ended.errors
    assert "Traceback" not in ended.errors
    ended = sweep.resume()  # brings what came too late for the end, its model too
    assert ended.code == 0, ended

    state = final_state(sweep)
    for part in ("jobs", "selected", "runs", "logged models", "registered"):
        assert differences(state[part], expected[part]) == [], part
    assert len(state["registered"]) == 1
    assert run_files(server.uri, sweep) == {path for path in expected["files"] if path.startswith("run/")}
    here = {path for path in state["files"] if path.startswith("sweep/")}
    assert here == {path for path in expected["files"] if path.startswith("sweep/")}


def sessions(sweep: Sweep) -> int:
    return sum(len(job.sessions) for job in read_ledger(sweep.place).jobs.values())


def run_files(uri: str, sweep: Sweep) -> set[str]:
    """Return the artefacts of every run as the server lists them."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    paths: set[str] = set()
    for run in client.search_runs([experiment.experiment_id]):
        key, folders = run.data.tags["safe.run_key"].removeprefix(sweep.name), [""]
        while folders:
            for entry in client.list_artifacts(run.info.run_id, folders.pop()):
                if entry.is_dir:
                    folders.append(entry.path)
                else:
                    paths.add(f"run/{key}/artifacts/{entry.path}")
    return paths
