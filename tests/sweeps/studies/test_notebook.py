"""The example notebook runs on a sweep that is there, and shows what its sentences say."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from sweeps.ledger.ledger import Ledger

from ..report.made_up import SPACE, make_log

ROOT = Path(__file__).parents[3]
NOTEBOOK = ROOT / "examples" / "reading_a_sweep.ipynb"


def test_the_notebook_shows_the_sweep_the_choice_the_trials_and_the_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records: list[dict[str, Any]] = []
    space = {**SPACE, "fast.feature_weight": {"loguniform": [0.1, 100]}}
    log = make_log(trials=4, records=records, space=space, name="quickstart")
    folder = tmp_path / "results" / "sweeps" / "quickstart"
    folder.mkdir(parents=True)
    ledger = Ledger.create(folder, log.spec)
    for record in records:
        fields = {name: value for name, value in record.items() if name != "type"}
        ledger.append(record["type"], **fields)
    ledger.close()
    monkeypatch.chdir(tmp_path)
    run_notebook = runpy.run_path(str(ROOT / "docs" / "pictures.py"))["run_notebook"]
    whole, settings, trials, tests = run_notebook(json.loads(NOTEBOOK.read_text("utf-8")))
    assert whole.splitlines()[0] == "Sweep 'quickstart'"
    assert whole.splitlines()[-1] == "  files: results/sweeps/quickstart"
    assert "'fast.feature_weight'" in settings
    assert [line.split()[1] for line in trials.splitlines()[1:]] == ["trial-01", "trial-00", "trial-02", "trial-03"]
    # Levels 0.8992, and 0, 1 and 2 points by seed, less 1.5 points after four sessions; the control 0.8, 2 and 4 more.
    assert tests == "{'test/accuracy': (0.894, 0.805), 'test/forgetting': (0.02, 0.02)}"
