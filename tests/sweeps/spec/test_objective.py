"""The words of an objective and their directions."""

from __future__ import annotations

import pytest

from safe.errors import UserError
from sweeps.spec.objective import Objective, objectives


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("average_accuracy", [("average_accuracy", True)]),
        ("val/slow/accuracy", [("slow/accuracy", True)]),
        ("accuracy, forgetting", [("accuracy", True), ("forgetting", False)]),
        (
            "fast/nll,time/train_seconds,train/fast/ce",
            [(n, False) for n in ("fast/nll", "time/train_seconds", "train/fast/ce")],
        ),
        ("plasticity:min,forgetting:max", [("plasticity", False), ("forgetting", True)]),
        ("backward_transfer", [("backward_transfer", True)]),
    ],
)
def test_an_objective_is_a_metric_with_its_direction(text: str, expected: list[tuple[str, bool]]) -> None:
    assert list(objectives(text)) == [Objective(name, maximise) for name, maximise in expected]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("accuracies", "unknown objective 'accuracies'"),
        ("forgeting", "Did you mean 'forgetting'?"),
        ("accuracy:up", "unknown direction of the objective accuracy 'up'; choose one of: max, min."),
        ("test/accuracy", "decided by --selection"),
        ("accuracy,val/accuracy:min", "names accuracy twice"),
        ("", "unknown objective ''"),
    ],
)
def test_a_bad_objective_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        objectives(text)
    assert words in str(caught.value)


def test_more_goodness_is_better_and_nothing_is_worst() -> None:
    up, down = objectives("accuracy,forgetting")
    assert (up.goodness(0.25), down.goodness(0.25)) == (0.25, -0.25)
    assert up.goodness(None) == down.goodness(None) == float("-inf")
