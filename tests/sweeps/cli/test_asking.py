"""The options of `run` and `plan`, and the specification that they ask for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps.cli import main, parser
from sweeps.cli.asking import asked_options, flag
from sweeps.ledger.ledger import Ledger
from sweeps.spec.marks import options
from sweeps.spec.specs import AblationSpec, SweepSpec
from sweeps.studies.asked import sweep_spec


def asked(*words: str) -> SweepSpec:
    return sweep_spec(**asked_options(parser().parse_args(["run", "runtime.device=cpu", *words])))


def test_every_option_reaches_the_specification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.spec.options.gpu_count", lambda: 1)
    space = tmp_path / "space.yaml"
    space.write_text("slow.lr: {loguniform: [1e-3, 1e-1]}\nfast.lr: {grid: [0.01, 0.02]}\n")
    values: dict[str, Any] = {
        "trials": 5,
        "name": "mine",
        "seeds": 2,
        "search": "tpe",
        "slow_candidates": 7,
        "carried": 3,
        "search_seed": 4,
        "objective": "accuracy,forgetting:min",
        "max_sessions": 50,
        "max_hours": 1.5,
        "stop": "asha",
        "concurrency": 3,
        "gpus_per_trial": 0.5,
        "trial_timeout": 60.0,
        "retries": 0,
        "checkpoints": "last",
        "stage_limit_gb": 2.5,
        "finalists": 4,
        "race_sessions": 30,
    }
    words = [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    words += ["--space", str(space), "--no-stages", "--fresh", "--no-control", "--no-audit"]
    words += ["--system-metrics", "fast.momentum=0.5"]
    spec = sweep_spec(**asked_options(parser().parse_args(["run", *words, "--results", str(tmp_path)])))
    assert {name: getattr(spec, name) for name in values} == values
    assert list(spec.space) == ["slow.lr", "fast.lr"]
    assert (spec.stages, spec.fresh, spec.control, spec.audit) == (False, True, False, False)
    assert spec.system_metrics
    assert not asked("--results", str(tmp_path)).system_metrics
    assert spec.base["fast.momentum"] == 0.5
    first = asked("--selection", "first-k", "--first-k", "2", "--results", str(tmp_path))
    assert (first.selection, first.first_k, first.stages, first.audit) == ("first-k", 2, True, True)
    other = asked("--selection", "transfer", "--evaluate-on", "glyphs", "--results", str(tmp_path))
    assert (other.evaluate_on, other.target and other.target["dataset"]) == ("glyphs", "glyphs")
    tried = {
        *values,
        "space",
        "no_stages",
        "fresh",
        "system_metrics",
        "no_control",
        "no_audit",
        "selection",
        "first_k",
        "evaluate_on",
        "learn_from",
        "across_data",
    }
    assert {flag(field).removeprefix("--").replace("-", "_") for field in options(SweepSpec)} == tried


def test_a_known_sweep_needs_neither_trials_nor_seeds_again(
    finished_sweep: Callable[[], Ledger], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished_sweep()
    known = ["--name", "demo", "--results", str(tmp_path)]
    assert (asked(*known).trials, asked(*known).seeds) == (2, 2)
    assert asked(*known, "--trials", "9").trials == 9
    assert (asked("--name", "new", "--results", str(tmp_path)).trials) == 8


def test_an_ablation_takes_the_options_of_its_specification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    specs: list[AblationSpec] = []
    monkeypatch.setattr("sweeps.cli.ablation.run_ablation", lambda spec, results, detail: specs.append(spec))
    monkeypatch.setattr("sweeps.cli.ablation.carry_out", lambda work, name, arguments: work() or 0)
    place = ["--dataset", "digits", "--results", str(tmp_path), "runtime.device=cpu"]
    assert main(["ablation", *place]) == 0
    assert main(["variants", "--name", "mine", "--seeds", "2", "--variants", "batch", "--retries", "0", *place,
                 "--checkpoints", "all", "--no-stages", "--system-metrics", "fast.epochs=1"]) == 0  # fmt: skip
    usual, own = specs
    assert (usual.name, usual.seeds, usual.checkpoints, usual.retries) == ("digits-ablation", 5, "last", 1)
    assert (own.name, own.seeds, own.checkpoints, own.retries) == ("mine", 2, "all", 0)
    assert (own.catalogue, own.variants, own.stages, own.system_metrics) == ("variants", ["batch"], False, True)
    assert own.base["fast.epochs"] == 1
    assert main(["ablation", "--checkpoints", "alll", *place]) == 2
    assert (
        "unknown checkpoints 'alll'; choose one of: best, all, last, none. Did you mean 'all'?"
        in capsys.readouterr().err
    )
