"""Scoring cached logits."""

from __future__ import annotations

import pytest
import torch

from safe.evaluation.aggregation import aggregate
from safe.evaluation.image_metrics import judge_images
from safe.evaluation.logits import (
    Prediction,
    SessionLogits,
    accuracy_row,
    extract,
    group_shares,
    predicted_within,
    probability_metrics,
    score_grid,
)
from safe.seeding import generator


def session_logits(scales: tuple[float, float] = (2.0, 3.0)) -> SessionLogits:
    draw = generator(0, "logits")
    return SessionLogits(
        slow=torch.randn(30, 4, generator=draw),
        fast=torch.randn(30, 4, generator=draw),
        slow_scale=scales[0],
        fast_scale=scales[1],
        labels=torch.randint(4, (30,), generator=draw),
        counts=[10, 15, 5],
        owned=[range(2), range(2, 3), range(3, 4)],
    )


def test_accuracy_row_by_hand() -> None:
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.2, 0.3], [0.0, 5.0]])
    labels = torch.tensor([0, 0, 0, 1, 1])
    assert accuracy_row(logits, labels, [3, 2]) == [2 / 3, 1.0]
    assert accuracy_row(logits, labels, [5]) == [4 / 5]
    assert accuracy_row(logits, 1 - labels, [1, 4]) == [0.0, 1 / 4]


def test_scores_are_scaled_before_they_are_aggregated() -> None:
    logits = session_logits()
    for kind in ("entropy", "mean", "max"):
        expected = aggregate(2 * logits.slow, 3 * logits.fast, kind, 0.5)
        assert torch.equal(logits.combined(Prediction(kind, 0.5)), expected), kind
        fixed = aggregate(5 * logits.slow, 5 * logits.fast, kind, 0.5)
        assert torch.equal(logits.combined(Prediction(kind, 0.5, 5.0)), fixed), kind


def test_score_grid_has_one_entry_per_setting_in_order() -> None:
    logits, settings = session_logits(), [Prediction("entropy", t) for t in (100.0, 0.01, 1.0, 100.0)]
    settings += [Prediction("max", 1.0), Prediction("entropy", 0.01, 0.1)]
    grid = score_grid(logits, settings)
    assert grid.rows == [accuracy_row(logits.combined(s), logits.labels, logits.counts) for s in settings]
    assert grid.rows[0] == grid.rows[3] != grid.rows[1]
    assert grid.metrics[0] == grid.metrics[3] != grid.metrics[1]
    assert score_grid(logits, []) == ([], [], [])


@pytest.mark.parametrize("elements", [1, 50, 333, 2**20])
def test_the_grid_in_one_pass_has_the_bits_of_one_setting_at_a_time(
    elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safe.evaluation.logits._CHUNK_ELEMENTS", elements)
    draw = generator(1, "large logits")
    logits = SessionLogits(
        slow=torch.randn(211, 13, generator=draw),
        fast=torch.randn(211, 13, generator=draw),
        slow_scale=4.0,
        fast_scale=9.0,
        labels=torch.randint(13, (211,), generator=draw),
        counts=[100, 111],
        owned=[range(6), range(6, 13)],
    )
    settings = [
        Prediction(kind, tau, scale)
        for scale in ("learned", 0.5)
        for kind in ("entropy", "mean")
        for tau in (1e-3, 0.1, 1.0, 30.0)
    ]
    grid = score_grid(logits, settings)
    for setting, row, within, metrics in zip(settings, *grid, strict=True):
        combined = logits.combined(setting)
        assert row == accuracy_row(combined, logits.labels, logits.counts), setting
        own = predicted_within(combined, logits.counts, logits.owned)
        assert within == group_shares(own == logits.labels, logits.counts), setting
        alone = probability_metrics(judge_images(combined, logits.labels), logits.labels)
        assert alone.items() <= metrics.items(), setting


def test_within_a_session_only_its_own_classes_compete() -> None:
    """Classes 0 and 1 are the first session's, class 2 the second's."""
    scores = torch.tensor([[1.0, 2.0, 9.0], [3.0, 2.0, 1.0], [9.0, 8.0, 0.0], [1.0, 2.0, 2.0]])
    assert predicted_within(scores, [2, 2], [range(2), range(2, 3)]).tolist() == [1, 0, 2, 2]
    assert predicted_within(scores, [2, 2], [range(3)] * 2).tolist() == scores.argmax(dim=1).tolist() == [2, 0, 0, 1]


def test_score_grid_of_one_learner_ignores_scale_and_temperature() -> None:
    rows = score_grid(session_logits(), [Prediction("slow", 0.1), Prediction("slow", 10.0, 3.0)]).rows
    assert rows[0] == rows[1] == score_grid(session_logits((7.0, 1.0)), [Prediction("slow", 1.0)]).rows[0]


@pytest.mark.parametrize("parts", [[6], [4, 2], [1] * 6])
def test_extract_joins_batches_in_order_in_evaluation_mode_without_gradient(parts: list[int]) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Dropout(0.9)).train()
    x = torch.randn(6, 3, generator=generator(1))
    features = extract(network, iter(x.split(parts)))
    expected = x @ network[0].weight.T + network[0].bias
    assert torch.allclose(features, expected, atol=1e-6)
    assert not features.requires_grad
    assert not network.training
