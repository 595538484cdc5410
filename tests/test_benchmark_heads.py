"""`python -m benchmarks.closed_forms`: what its tables say of made-up results, and that the answer is the holdout's."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    import benchmarks.closed_forms as bench

    assert "benchmarks.closed_forms" in sys.modules
    return bench


def told(bench: Any, holdout: dict[str, float], test: dict[str, float]) -> dict[str, Any]:
    """Return a seed's results of two heads: the other one is two points better where it learns fast."""
    more = {"preset": 0.0, "AnaCP": 0.02}
    by_split = {"holdout": holdout, "test": test}
    return {
        head: {
            split: {name: {"accuracy": value + (gain if name == bench.FAST else 0)} for name, value in columns.items()}
            for split, columns in by_split.items()
        }
        for head, gain in more.items()
    }


def test_the_holdout_chooses_and_test_images_tell(bench: Any) -> None:
    holdout = {bench.FROZEN: 0.5, bench.SLOW: 0.6, bench.FAST: 0.6, bench.SAFE: 0.61}
    tests = [{bench.FROZEN: 0.50 + d, bench.SLOW: 0.53, bench.FAST: 0.51, bench.SAFE: 0.55 + d} for d in (0, 0.01)]
    runs = [told(bench, holdout, test) for test in tests]
    lines = bench.answer(runs, [[4.0, 5.0, 6.0], [6.0, 5.0, 6.0]]).splitlines()
    assert lines[0] == "best by holdout: AnaCP on fast"
    # Paired by seed: t of one degree of freedom, 12.7, times the standard error 0.5.
    assert "on test images, minus preset on frozen: +2.5 ± 6.4" in lines
    assert lines[-2:] == [
        "| slow - frozen | +2.5 ± 6.4 | +2.5 ± 6.4 | 5 |",
        "| SAFE - slow | +2.5 ± 6.4 | +2.5 ± 6.4 | 11 |",
    ]
    table = bench.table(runs, "test", "accuracy").splitlines()
    assert table[0] == "| accuracy, test, n = 2 | frozen | slow | fast | SAFE |"
    assert table[-1].split(" | ")[3] == "53.0 ± 0.0 (+2.0 ± 0.0)"
