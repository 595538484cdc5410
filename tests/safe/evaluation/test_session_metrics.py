"""The judgement of a session, from logits whose outcome a person can check."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from safe.evaluation.aggregation import entropy_weights
from safe.evaluation.logits import Prediction, SessionLogits, score_grid
from safe.evaluation.metrics import depends_on_prediction
from safe.evaluation.session_metrics import Judge
from safe.seeding import generator

# Two sessions of one and two images; class 0 arrives first.
HAND = SessionLogits(
    slow=torch.tensor([[2.0, 0.0], [3.0, 0.0], [0.0, 1.0]]),
    fast=torch.tensor([[0.0, 1.0], [0.0, 4.0], [0.0, 2.0]]),
    slow_scale=1.0,
    fast_scale=2.0,
    labels=torch.tensor([0, 1, 1]),
    counts=[1, 2],
)
LEARNER_METRICS = {"accuracy", "accuracy_session_mean", "average_accuracy", "plasticity", "nll", "ece"}


def drawn() -> SessionLogits:
    draw = generator(0, "judge")
    return SessionLogits(
        slow=torch.randn(40, 4, generator=draw),
        fast=torch.randn(40, 4, generator=draw),
        slow_scale=3.0,
        fast_scale=2.0,
        labels=torch.randint(4, (40,), generator=draw),
        counts=[10, 30],
    )


def test_both_sessions_by_hand() -> None:
    judge = Judge(Prediction("slow", 1.0), domain_incremental=False)
    first = replace(HAND, slow=HAND.slow[:, :1], fast=HAND.fast[:, :1])
    judge(first, 1)
    metrics = judge(HAND, 2)
    assert judge.rows == {"aggregated": [[1.0], [1.0, 0.5]], "slow": [[1.0], [1.0, 0.5]], "fast": [[1.0], [0.0, 1.0]]}
    assert (metrics["accuracy"], metrics["slow/accuracy"], metrics["fast/accuracy"]) == (2 / 3, 2 / 3, 2 / 3)
    assert (metrics["forgetting"], metrics["slow/forgetting"], metrics["fast/forgetting"]) == (0, 0, 1)
    assert (metrics["fast/backward_transfer"], metrics["fast/plasticity"]) == (-1, 1)
    assert (metrics["agreement"], metrics["complementarity"], metrics["oracle_accuracy"]) == (1 / 3, 2 / 3, 1)
    assert "aggregation/weight_fast" not in metrics
    p_slow = torch.tensor([2.0, -3.0, 1.0]).double().sigmoid()
    p_fast = torch.tensor([-2.0, 8.0, 4.0]).double().sigmoid()  # the fast learner's scores count twice
    assert metrics["slow/nll"] == metrics["nll"] == pytest.approx(-p_slow.log().mean().item())
    assert metrics["fast/nll"] == pytest.approx(-p_fast.log().mean().item())


def test_the_first_session_has_every_metric_but_those_of_old_classes() -> None:
    metrics = Judge(Prediction("entropy", 1.0), domain_incremental=False)(drawn(), 1)
    per_learner = {f"{prefix}{name}" for prefix in ("", "slow/", "fast/") for name in LEARNER_METRICS}
    assert set(metrics) == per_learner | {"agreement", "complementarity", "oracle_accuracy", "aggregation/weight_fast"}


def test_the_mean_weight_is_that_of_the_entropy_weights_of_the_scaled_scores() -> None:
    logits = drawn()
    judge = Judge(Prediction("entropy", 0.3), domain_incremental=False)
    judge(logits, 1)
    weight = judge(logits, 2)["aggregation/weight_fast"]
    _, expected = entropy_weights(3 * logits.slow, 2 * logits.fast, 0.3)
    assert weight == expected.double().mean().item()
    fixed = Judge(Prediction("entropy", 0.3, 5.0), domain_incremental=False)
    fixed(logits, 1)
    assert fixed(logits, 2)["aggregation/weight_fast"] != weight


def test_what_depends_on_prediction_and_nothing_else_differs_between_settings() -> None:
    settings = [
        Prediction("entropy", 0.1),
        Prediction("entropy", 5.0, 0.2),
        Prediction("mean", 1.0),
        Prediction("max", 1.0),
    ]
    judged = []
    for prediction in settings:
        judge = Judge(prediction, domain_incremental=True)
        judge(drawn(), 1)
        judged.append(judge(drawn(), 2))
    fixed = {name for name in judged[0] if not depends_on_prediction(name)}
    differ = {name for name in judged[0] if any(other.get(name) != judged[0][name] for other in judged)}
    assert not fixed & differ
    assert {"slow/accuracy", "fast/forgetting", "fast/plasticity", "agreement", "oracle_accuracy"} < fixed
    assert {
        "accuracy",
        "nll",
        "ece",
        "slow/nll",
        "fast/ece",
        "aggregation/weight_fast",
        "all_domains/accuracy",
    } < differ


@pytest.mark.parametrize("kind", ["entropy", "mean", "max", "slow", "fast"])
@pytest.mark.parametrize("scale", ["learned", 7.0])
def test_the_grid_gives_what_judging_at_that_setting_gives(kind: str, scale: float | str) -> None:
    logits, prediction = drawn(), Prediction(kind, 0.7, scale)
    judge = Judge(prediction, domain_incremental=False)
    judge(logits, 1)
    metrics = judge(logits, 2)
    grid = score_grid(logits, [Prediction("entropy", 9.0), prediction, Prediction("entropy", 0.01, scale)])
    assert grid.rows[1] == judge.rows["aggregated"][-1]
    expected = {n: v for n, v in metrics.items() if n.endswith(("nll", "ece", "weight_fast"))}
    assert grid.metrics[1] == expected
    assert ("aggregation/weight_fast" in expected) == (kind == "entropy")
