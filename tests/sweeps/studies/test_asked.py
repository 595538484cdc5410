"""Sweeps from Python: what `run_sweep` asks for, what `load_sweep` gives, and how it shows."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from safe.config import load_config
from safe.errors import UserError
from sweeps import Space, load_sweep, run_sweep
from sweeps.ledger.ledger import Ledger
from sweeps.spec.specs import SweepSpec
from sweeps.studies.asked import sweep_spec

SPACE = {"slow.lr": {"loguniform": [1e-3, 1e-1]}, "fast.cross_weight": {"grid": [0.0, 1.0]}}


def asked(results: Path, **options: Any) -> SweepSpec:
    return sweep_spec("digits", **{"results": results, "overrides": {"runtime.device": "cpu"}, **options})


def test_a_finished_sweep_gives_its_choice_trials_and_final_runs(
    finished_sweep: Callable[[], Ledger], tmp_path: Path
) -> None:
    finished_sweep().close()
    sweep = load_sweep("demo", results=str(tmp_path))
    best = sweep.best
    assert best is not None
    assert (best.trial, best.metric) == ("trial-01", "val/average_accuracy")
    assert best.score == pytest.approx(sweep.log.selected["score"] if sweep.log.selected else 0)
    assert best.settings["aggregation.temperature"] == 1.0
    assert load_config("digits", overrides=best.config).flat() == best.config
    trials = sweep.trials
    assert list(trials["trial"]) == ["trial-00", "trial-01"]
    assert list(trials.columns[:5]) == [
        "trial", "status", "reason", "fast.cross_weight", "aggregation.temperature"
    ]  # fmt: skip
    assert trials["val/average_accuracy"].max() == pytest.approx(best.score)
    final = sweep.final
    assert final is not None
    assert (final["seeds"], final["test/accuracy"]["mean"]) == (2, 0.625)
    assert final["test/accuracy"]["values"] == [0.5, 0.75]
    assert sweep.control is None
    assert sweep.name == "demo"


def test_it_shows_as_text_and_as_html(finished_sweep: Callable[[], Ledger], tmp_path: Path) -> None:
    finished_sweep().close()
    sweep = load_sweep("demo", results=tmp_path)
    lines = repr(sweep).splitlines()
    assert lines[0] == "Sweep 'demo'"
    assert lines[1].strip() == "digits, random search by holdout, finished"
    assert lines[2].strip().startswith("best: trial-01, val/average_accuracy 0.")
    assert lines[3].strip() == "final: test accuracy 62.5 ± 17.7 % over 2 seeds"
    assert "No setting's effect is told from chance by 2 trials." in repr(sweep)
    assert repr(sweep.best) in lines[2], "and not the whole configuration"
    html = sweep._repr_html_()
    assert "<b>Sweep demo</b>" in html
    assert html.count("<tr") == 3, "a heading and two trials"


def test_a_sweep_that_has_nothing_yet_says_so(make_spec: Callable[..., SweepSpec], tmp_path: Path) -> None:
    folder = tmp_path / "sweeps" / "demo"
    folder.mkdir(parents=True)
    Ledger.create(folder, make_spec()).close()
    sweep = load_sweep("demo", results=tmp_path)
    assert (sweep.best, sweep.final, len(sweep.trials)) == (None, None, 0)
    assert list(sweep.trials.columns) == ["trial", "status", "reason", "fast.cross_weight", "aggregation.temperature"]
    assert "0 of " in repr(sweep)
    assert "<b>Sweep demo</b>" in sweep._repr_html_()


def test_an_unknown_sweep_is_refused_with_the_nearest(finished_sweep: Callable[[], Ledger], tmp_path: Path) -> None:
    finished_sweep().close()
    with pytest.raises(UserError, match=r"no sweep is called 'demi'.*Did you mean 'demo'\?"):
        load_sweep("demi", results=tmp_path)


def test_a_space_is_a_mapping_a_checked_space_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text("slow.lr: {loguniform: [1e-3, 1e-1]}\nfast.cross_weight: {grid: [0.0, 1.0]}\n")
    for space in (SPACE, Space.of(SPACE), file, str(file)):
        assert asked(tmp_path, space=space).space == SPACE
    numbers = {"fast.cross_weight": {"grid": tuple(np.linspace(0, 1, 3))}, "slow.epochs": np.int64(3)}
    assert asked(tmp_path, space=numbers).space == {"fast.cross_weight": {"grid": [0.0, 0.5, 1.0]}, "slow.epochs": 3}
    assert asked(tmp_path, overrides={"fast.epochs": np.int64(3), "runtime.device": "cpu"}).base["fast.epochs"] == 3
    assert set(Space.of(SPACE).domains) == set(SPACE)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"trails": 3}, "unknown option of a sweep 'trails'.*Did you mean 'trials'"),
        ({"threads": 3}, "unknown option of a sweep 'threads'"),
        ({"trials": "8"}, "trials must be a whole number, got '8'"),
        ({"seeds": 0}, "--seeds must be at least 1, got 0"),
        ({"max_hours": "two"}, "max_hours: Input should be a valid number, got 'two'"),
        ({"space": {"slow.lr": {"choice": [object]}}}, "space= takes numbers, texts"),
        ({"space": {"slow.lrr": 1}}, "slow.lrr: unknown setting. Did you mean 'slow.lr'"),
    ],
)
def test_what_is_not_valid_is_refused_in_words(options: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told):
        run_sweep("digits", results=tmp_path, name="a", **options)
    assert not (tmp_path / "sweeps").exists()


def test_ray_is_begun_at_once_for_a_new_sweep_alone(
    finished_sweep: Callable[[], Ledger], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, begun = finished_sweep().log, []
    monkeypatch.setattr("sweeps.engine.helpers.Helpers.begin", lambda self, spec, results: begun.append(spec.name))
    monkeypatch.setattr("sweeps.studies.sweep.run_sweep", lambda *_, **__: log)
    for name in ("demo", "new"):
        run_sweep("digits", results=tmp_path, name=name)
    assert begun == ["new"]


def test_importing_sweeps_brings_nothing_heavy() -> None:
    code = "import sys, sweeps; "
    code += "print(sorted({'ray', 'torch', 'mlflow', 'pandas', 'pydantic'} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"
    with pytest.raises(AttributeError, match="no attribute 'run_sweeps'"):
        __import__("sweeps").run_sweeps  # noqa: B018


def test_results_are_read_as_frames(
    finished_sweep: Callable[[], Ledger], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished_sweep().close()
    monkeypatch.syspath_prepend(Path(__file__).parents[3])
    from examples.read_results import final_values, leaderboard

    board = leaderboard("demo", str(tmp_path))
    assert list(board["trial"]) == ["trial-01", "trial-00"]
    assert list(final_values("demo", str(tmp_path))["test/accuracy"]) == [0.5, 0.75]
