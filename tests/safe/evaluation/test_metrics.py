"""Metrics on a 3 x 3 accuracy matrix that a person can check."""

from __future__ import annotations

import pytest

from safe.evaluation.metrics import session_metrics

ROWS = [[0.6], [0.8, 0.7], [0.5, 0.9, 0.4]]
COUNTS = [10, 20, 10]


def test_first_session_has_no_metric_of_old_classes() -> None:
    expected = {"accuracy": 0.6, "accuracy_session_mean": 0.6, "average_accuracy": 0.6, "plasticity": 0.6}
    assert session_metrics(ROWS[:1], COUNTS) == pytest.approx(expected)


def test_second_session() -> None:
    overall = (0.8 * 10 + 0.7 * 20) / 30
    expected = {
        "accuracy": overall,
        "accuracy_session_mean": 0.75,
        "average_accuracy": (0.6 + overall) / 2,
        "plasticity": 0.7,
        "forgetting": 0.6 - 0.8,  # the present session is no earlier session: a gain is negative forgetting
        "backward_transfer": 0.8 - 0.6,
    }
    assert session_metrics(ROWS[:2], COUNTS) == pytest.approx(expected)


def test_third_session() -> None:
    overall = [0.6, 22 / 30, (5 + 18 + 4) / 40]
    expected = {
        "accuracy": overall[2],
        "accuracy_session_mean": 0.6,
        "average_accuracy": sum(overall) / 3,
        "plasticity": 0.4,
        "forgetting": ((0.8 - 0.5) + (0.7 - 0.9)) / 2,  # best of 0.6 and 0.8; only 0.7
        "backward_transfer": ((0.5 - 0.6) + (0.9 - 0.7)) / 2,
    }
    assert session_metrics(ROWS, COUNTS) == pytest.approx(expected)


def test_a_stream_that_forgets_nothing() -> None:
    metrics = session_metrics([[1.0], [1.0, 1.0], [1.0, 1.0, 1.0]], COUNTS)
    assert (metrics["forgetting"], metrics["backward_transfer"], metrics["accuracy"]) == (0, 0, 1)


@pytest.mark.parametrize(
    ("rows", "counts"), [([], []), ([[0.5], [0.5]], [1, 1]), ([[0.5, 0.5]], [1, 1]), ([[0.5], [0.5, 0.5]], [1])]
)
def test_rows_and_counts_of_the_wrong_length_are_refused(rows: list[list[float]], counts: list[int]) -> None:
    with pytest.raises(ValueError, match=r"need rows of length 1\.\.t and t counts"):
        session_metrics(rows, counts)
