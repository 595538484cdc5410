"""The audit of a claimed configuration: which sweep it is, and what its table says."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from scipy.stats import t

from safe.errors import UserError
from sweeps.cli import main
from sweeps.studies.claim import claim_rows, claim_spec, show_claim

from ..report.made_up import level, make_log

SPACE = {"fast.cross_weight": {"choice": [0.0, 1.0]}, "aggregation.temperature": {"grid": [0.1, 1.0]}}


@pytest.fixture
def claimed(tmp_path: Path) -> Path:
    file = tmp_path / "paper.yaml"
    file.write_text("fast:\n  cross_weight: 0.25\n  epochs: 2\ndata:\n  evaluate_on: test\nslow.epochs: 3\n")
    return file


def test_the_control_is_the_claim_and_trials_search_the_space_from_there(claimed: Path) -> None:
    spec = claim_spec("digits", claimed, space=SPACE, trials=2, seeds=2, name="claim", results="results")
    assert {name: spec.base[name] for name in ("fast.cross_weight", "fast.epochs", "slow.epochs")} == {
        "fast.cross_weight": 0.25,
        "fast.epochs": 2,
        "slow.epochs": 3,
    }
    trial = spec.trial_config({"fast.cross_weight": 1.0})
    assert (trial["fast.cross_weight"], trial["fast.epochs"]) == (1.0, 2)
    assert (trial["data.evaluate_on"], trial["data.holdout_share"]) == ("holdout", 0.2)
    assert (spec.control, spec.audit, spec.selection) == (True, True, "holdout")
    assert claim_spec("digits", claimed, name="claim", results="results").base["fast.cross_weight"] == 0.25


def test_what_is_typed_for_the_claim_and_every_trial_is_not_searched_in_the_presets_space(claimed: Path) -> None:
    spec = claim_spec("digits", claimed, overrides=["head.kind=ridge"], name="claim", results="results")
    wide = claim_spec("digits", claimed, name="claim", results="results")
    assert set(wide.space) - set(spec.space) == {"head.kind"}
    assert spec.base == wide.base
    assert not spec.space_asked, "called again it goes on in the space that it began with"


def test_what_would_leave_the_table_without_a_row_is_refused(claimed: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="audited by the holdout, got --selection test"):
        claim_spec("digits", claimed, selection="test", results="results")
    with pytest.raises(UserError, match="leave neither out"):
        claim_spec("digits", claimed, control=False, results="results")
    assert main(["audit-claim", "--config", str(tmp_path / "none.yaml"), "--results", str(tmp_path)]) == 2


def test_the_three_numbers_stand_in_one_table() -> None:
    """The chosen trial is the best on the holdout, and the audit has it 3 points lower on the test images."""
    log = make_log(seeds=3, audit=True)
    claim, by_test, honest = claim_rows(log)
    assert (claim.runs, by_test.runs, honest.runs) == ("3 seeds", "best of 12 trials, one seed", "3 seeds")
    # After 4 sessions the mean over them is 0.75 points below the start; seeds are 2 points and 1 point apart.
    assert claim.mean == pytest.approx(0.82 - 0.0075)
    assert claim.half_width == pytest.approx(t.ppf(0.975, 2) * 0.02 / 3**0.5)
    assert honest.mean == pytest.approx(max(map(level, range(12))) + 0.01 - 0.0075)
    second = sorted(map(level, range(12)))[-2]
    assert by_test.mean == pytest.approx(second - 0.0075)
    assert by_test.half_width is None
    text = io.StringIO()
    show_claim(log, Console(file=text, width=100))
    shown = text.getvalue()
    assert "chosen minus claimed: +8.9 ± 2.5 points, paired over 3 seeds: better" in shown
    assert "of what selecting by test would claim is optimism" in shown


def test_a_sweep_that_has_not_come_so_far_has_fewer_rows() -> None:
    assert [row.what for row in claim_rows(make_log(control=False))] == ["chosen on the holdout, in the same space"]
