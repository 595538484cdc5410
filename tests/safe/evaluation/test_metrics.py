"""Metrics on a 3 x 3 accuracy matrix that a person can check."""

from __future__ import annotations

import numpy as np
import pytest

from safe.evaluation.metrics import losses, session_metrics

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
        "forgetting_nonneg": 0.0,
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
        "forgetting_nonneg": 0.3 / 2,
        "backward_transfer": ((0.5 - 0.6) + (0.9 - 0.7)) / 2,
    }
    assert session_metrics(ROWS, COUNTS) == pytest.approx(expected)


def test_what_is_made_of_old_groups_is_reckoned_where_it_is_asked_for() -> None:
    whole = session_metrics(ROWS, COUNTS)
    few = {name: whole[name] for name in ("accuracy", "accuracy_session_mean", "average_accuracy", "plasticity")}
    assert session_metrics(ROWS, COUNTS, asked={"average_accuracy", "accuracy"}) == few
    assert session_metrics(ROWS, COUNTS, asked={"accuracy", "forgetting"}) == whole
    assert session_metrics(ROWS, COUNTS, asked={"slow/accuracy"}) == whole


def test_what_forgetting_is_made_of_by_hand() -> None:
    """The first group was best after session 2: 0.8 of all classes, 0.9 of its own; the second after session 2."""
    within = [[0.6], [0.9, 0.7], [0.85, 0.95, 0.4]]
    metrics = session_metrics(ROWS, COUNTS, within)
    assert metrics["accuracy_within_session"] == pytest.approx((0.85 * 10 + 0.95 * 20 + 0.4 * 10) / 40)
    assert losses(ROWS, within) == [pytest.approx((0.05, 0.35 - 0.1)), pytest.approx((0.7 - 0.95, 0.05 - 0.0))]
    assert metrics["forgetting_within"] == pytest.approx((0.05 - 0.25) / 2)
    assert metrics["forgetting_confusion"] == pytest.approx((0.25 + 0.05) / 2)
    assert {name: value for name, value in metrics.items() if name in session_metrics(ROWS, COUNTS)} == session_metrics(
        ROWS, COUNTS
    )
    assert losses(ROWS[:1], within[:1]) == []
    with pytest.raises(ValueError, match="as many accuracies within sessions as over all"):
        session_metrics(ROWS, COUNTS, within[:2])


def drawn_matrices(seed: int) -> tuple[list[list[float]], list[list[float]]]:
    """Return accuracies of 2 to 8 sessions, in steps so that the best is often reached twice, and those within."""
    draw = np.random.default_rng(seed)
    rows = [(draw.integers(0, 8, size=s) / 7).tolist() for s in range(1, 2 + int(draw.integers(1, 8)))]
    return rows, [[a + (1 - a) * draw.random() for a in row] for row in rows]


@pytest.mark.parametrize("seed", range(20))
def test_forgetting_is_the_sum_of_its_parts(seed: int) -> None:
    rows, within = drawn_matrices(seed)
    metrics = session_metrics(rows, [1] * len(rows), within)
    parts = metrics["forgetting_within"] + metrics["forgetting_confusion"]
    assert metrics["forgetting"] == pytest.approx(parts, abs=1e-12)
    really = []
    for k in range(len(rows) - 1):
        earlier = [rows[s][k] for s in range(k, len(rows) - 1)]
        really.append(within[k + earlier.index(max(earlier))][k] - within[-1][k])
    assert metrics["forgetting_within"] == pytest.approx(np.mean(really), abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_forgetting_that_is_never_negative_is_that_of_mammoth_and_pilot(seed: int) -> None:
    """Both take the best over all sessions, the last among them; mammoth fills with zeros what was not there yet."""
    rows, _ = drawn_matrices(seed)
    table = np.array([[*row, *[0.0] * (len(rows) - len(row))] for row in rows])
    last = len(rows) - 1
    mammoth = np.mean([table.max(axis=0)[k] - rows[-1][k] for k in range(last)])
    pilot = np.mean((np.max(table.T, axis=1) - table.T[:, last])[:last])
    metrics = session_metrics(rows, [1] * len(rows))
    assert metrics["forgetting_nonneg"] == pytest.approx(mammoth, abs=1e-12)
    assert metrics["forgetting_nonneg"] == pytest.approx(pilot, abs=1e-12)
    assert metrics["forgetting_nonneg"] >= max(metrics["forgetting"], 0)


def test_a_stream_that_forgets_nothing() -> None:
    metrics = session_metrics([[1.0], [1.0, 1.0], [1.0, 1.0, 1.0]], COUNTS)
    assert (metrics["forgetting"], metrics["backward_transfer"], metrics["accuracy"]) == (0, 0, 1)


@pytest.mark.parametrize(
    ("rows", "counts"), [([], []), ([[0.5], [0.5]], [1, 1]), ([[0.5, 0.5]], [1, 1]), ([[0.5], [0.5, 0.5]], [1])]
)
def test_rows_and_counts_of_the_wrong_length_are_refused(rows: list[list[float]], counts: list[int]) -> None:
    with pytest.raises(ValueError, match=r"need rows of length 1\.\.t and t counts"):
        session_metrics(rows, counts)
