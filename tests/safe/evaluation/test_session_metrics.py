"""The judgement of a session, from logits whose outcome a person can check."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from safe.evaluation.aggregation import entropy_weights
from safe.evaluation.logits import Prediction, SessionLogits, score_grid
from safe.evaluation.metrics import LEARNERS, METRICS, depends_on_prediction, metric
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
    owned=[range(1), range(1, 2)],
)
LEARNER_METRICS = {
    "accuracy", "accuracy_within_session", "accuracy_session_mean", "average_accuracy", "plasticity", "nll", "ece",
}  # fmt: skip


def drawn() -> SessionLogits:
    """Return logits of two sessions of two classes each."""
    draw = generator(0, "judge")
    return SessionLogits(
        slow=torch.randn(40, 4, generator=draw),
        fast=torch.randn(40, 4, generator=draw),
        slow_scale=3.0,
        fast_scale=2.0,
        labels=torch.randint(2, (40,), generator=draw) + 2 * (torch.arange(40) >= 10),
        counts=[10, 30],
        owned=[range(2), range(2, 4)],
    )


def after_session_1(logits: SessionLogits) -> SessionLogits:
    seen = logits.first(1)
    return replace(seen, slow=seen.slow[:, :2], fast=seen.fast[:, :2])


def test_both_sessions_by_hand() -> None:
    judge = Judge(Prediction("slow", 1.0), domain_incremental=False)
    first = replace(HAND, slow=HAND.slow[:, :1], fast=HAND.fast[:, :1])
    judge(first, 1)
    metrics = judge(HAND, 2)
    assert judge.rows == {"aggregated": [[1.0], [1.0, 0.5]], "slow": [[1.0], [1.0, 0.5]], "fast": [[1.0], [0.0, 1.0]]}
    assert (metrics["accuracy"], metrics["slow/accuracy"], metrics["fast/accuracy"]) == (2 / 3, 2 / 3, 2 / 3)
    assert (metrics["forgetting"], metrics["slow/forgetting"], metrics["fast/forgetting"]) == (0, 0, 1)
    assert judge.within == {name: [[1.0], [1.0, 1.0]] for name in judge.rows}, "one class a session"
    assert (metrics["fast/forgetting_within"], metrics["fast/forgetting_confusion"]) == (0, 1)
    assert judge.confusion == ((1, 0), (1, 1))
    assert (metrics["fast/backward_transfer"], metrics["fast/plasticity"]) == (-1, 1)
    assert (metrics["agreement"], metrics["complementarity"], metrics["oracle_accuracy"]) == (1 / 3, 2 / 3, 1)
    assert "aggregation/weight_fast" not in metrics
    p_slow = torch.tensor([2.0, -3.0, 1.0]).double().sigmoid()
    p_fast = torch.tensor([-2.0, 8.0, 4.0]).double().sigmoid()  # the fast learner's scores count twice
    assert metrics["slow/nll"] == metrics["nll"] == pytest.approx(-p_slow.log().mean().item())
    assert metrics["fast/nll"] == pytest.approx(-p_fast.log().mean().item())


def test_the_first_session_has_every_metric_but_those_of_old_classes() -> None:
    metrics = Judge(Prediction("entropy", 1.0), domain_incremental=False)(after_session_1(drawn()), 1)
    per_learner = {f"{prefix}{name}" for prefix in ("", "slow/", "fast/") for name in LEARNER_METRICS}
    assert set(metrics) == per_learner | {"agreement", "complementarity", "oracle_accuracy", "aggregation/weight_fast"}


def test_every_metric_says_what_it_is_and_whoever_says_so_is_given() -> None:
    judge = Judge(Prediction("entropy", 1.0), domain_incremental=False)
    judge(after_session_1(drawn()), 1)
    of_learners = [name for name, known in METRICS.items() if known.of in ("images", "probabilities")]
    assert set(judge(drawn(), 2)) == {*METRICS, *(f"{side}/{name}" for side in LEARNERS for name in of_learners)}
    known = metric("slow/forgetting")
    assert known is METRICS["forgetting"]
    assert known.small
    assert metric("aggregation/weight_fast") is METRICS["aggregation/weight_fast"]
    assert metric("time/train_seconds") is None


def test_the_mean_weight_is_that_of_the_entropy_weights_of_the_scaled_scores() -> None:
    logits = drawn()
    judge = Judge(Prediction("entropy", 0.3), domain_incremental=False)
    judge(after_session_1(logits), 1)
    weight = judge(logits, 2)["aggregation/weight_fast"]
    _, expected = entropy_weights(3 * logits.slow, 2 * logits.fast, 0.3)
    assert weight == expected.double().mean().item()
    fixed = Judge(Prediction("entropy", 0.3, 5.0), domain_incremental=False)
    fixed(after_session_1(logits), 1)
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
    judge(after_session_1(logits), 1)
    metrics = judge(logits, 2)
    grid = score_grid(logits, [Prediction("entropy", 9.0), prediction, Prediction("entropy", 0.01, scale)])
    assert grid.rows[1] == judge.rows["aggregated"][-1]
    assert grid.within[1] == judge.within["aggregated"][-1]
    expected = {n: v for n, v in metrics.items() if n.endswith(("nll", "ece", "weight_fast"))}
    assert grid.metrics[1] == expected
    assert ("aggregation/weight_fast" in expected) == (kind == "entropy")


def test_a_judge_goes_on_from_its_state_and_from_one_that_knew_nothing_of_single_sessions() -> None:
    logits = drawn()
    first, later, older = (Judge(Prediction("mean", 1.0), domain_incremental=False) for _ in range(3))
    first(after_session_1(logits), 1)
    state = first.state_dict()
    later.load_state_dict(state)
    older.load_state_dict({"rows": state["rows"]})
    expected = first(logits, 2)
    assert later(logits, 2) == expected
    assert "forgetting_within" in expected
    assert older(logits, 2) == {
        name: value
        for name, value in expected.items()
        if not name.endswith(("within", "within_session", "forgetting_confusion"))
    }
    assert state["rows"]["slow"] == first.rows["slow"][:1], "a copy"


def test_where_sessions_are_domains_nothing_is_taken_for_another_session() -> None:
    judge = Judge(Prediction("mean", 1.0), domain_incremental=True)
    logits = replace(drawn(), owned=[range(4)] * 2)
    judge(logits, 1)
    metrics = judge(logits, 2)
    assert judge.within == judge.rows
    assert judge.confusion == ()
    assert (metrics["forgetting_within"], metrics["forgetting_confusion"]) == (metrics["forgetting"], 0)
