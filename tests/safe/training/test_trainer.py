"""The training run: exact resumption, independence of the surroundings, and by-hand results of its simplest cases."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from safe.backbones.loading import weights_digest
from safe.backbones.precision import resolve_precision
from safe.config import Config
from safe.data.sources import ArrayImages, Dataset
from safe.errors import NonFiniteLossError, UserError
from safe.evaluation.logits import Prediction, score_grid
from safe.evaluation.metrics import session_metrics
from safe.heads.projection import Projection
from safe.states.checkpoint import load_state, save_state
from safe.training import features
from safe.training.build import build_learner, projection_seed, resolve_device
from safe.training.trainer import STATE_VERSION, SafeTrainer
from safe.types import EpochDone, SessionResult

MakeTrainer = Callable[..., SafeTrainer]
NO_TRAINING = {"pet.kind": "none", "slow.epochs": 0, "fast.epochs": 0}


@pytest.fixture
def make(
    make_config: Callable[..., Config], tiny_dataset: Dataset, tiny_vit: VisionTransformer
) -> Callable[..., SafeTrainer]:
    """Return a function from overrides to a fresh trainer on the tiny data set."""

    def trainer(overrides: dict[str, Any] | None = None, dataset: Dataset = tiny_dataset) -> SafeTrainer:
        return SafeTrainer(make_config(overrides), dataset, tiny_vit)

    return trainer


@pytest.fixture(scope="session")
def plain(finished: Any) -> SafeTrainer:
    """Return the finished trainer of the tiny configuration as it is."""
    trainer: SafeTrainer = finished.trainer
    return trainer


def finish(trainer: SafeTrainer) -> list[SessionResult]:
    results = []
    while not trainer.done:
        results.append(trainer.run_session())
    return results


def facts(results: Iterable[SessionResult]) -> list[Any]:
    """Everything of the results but the wall time."""
    return [replace(result, seconds={}) for result in results]


def assert_same(a: Any, b: Any, where: str = "") -> None:
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert list(a) == list(b), where
        for key in a:
            if key != "train_seconds":
                assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    elif isinstance(a, Tensor):
        assert a.dtype == b.dtype, where
        assert torch.equal(a, b), where
    else:
        assert a == b, where


def cosines(vectors: np.ndarray, means: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True) * np.linalg.norm(means, axis=1)
    return vectors @ means.T / lengths


# ---------------------------------------------------------------- the seam


def test_advances_are_epochs_and_closing_steps(make: MakeTrainer) -> None:
    trainer = make()
    events = []
    while not trainer.done:
        events.append(trainer.advance())
    assert trainer.sessions == 3
    kinds = [(e.session, e.phase, e.epoch) if isinstance(e, EpochDone) else e.session for e in events]
    assert kinds == [
        (1, "slow", 1), (1, "slow", 2), 1,
        (2, "fast", 1), (2, "fast", 2), 2,
        (3, "fast", 1), (3, "fast", 2), 3,
    ]  # fmt: skip
    epochs = [e for e in events if isinstance(e, EpochDone)]
    assert [e.total_epochs for e in epochs] == [1, 2, 3, 4, 5, 6]
    assert {(e.sessions, e.epochs) for e in epochs} == {(3, 2)}
    for e in epochs:
        terms = ("ce", "diag", "offdiag") if e.phase == "slow" else ("ce", "feature", "cross")
        assert set(e.losses) == {f"train/{e.phase}/{term}" for term in terms}
    with pytest.raises(RuntimeError, match="all 3 sessions are finished"):
        trainer.advance()


def test_results_hold_what_the_epochs_told_and_metrics_of_the_rows(make: MakeTrainer) -> None:
    trainer = make()
    told: list[EpochDone] = []
    results = [trainer.run_session(told.append) for _ in range(3)]
    assert [step for r in results for step, _ in r.losses] == [1, 2, 3, 4, 5, 6]
    assert [losses for r in results for _, losses in r.losses] == [e.losses for e in told]
    assert [r.classes_seen for r in results] == [2, 4, 6]
    assert {r.split for r in results} == {"test"}
    rows, within = trainer.state_dict()["rows"], trainer.state_dict()["within"]
    for t, result in enumerate(results, start=1):
        expected = {}
        for name, prefix in (("aggregated", ""), ("slow", "slow/"), ("fast", "fast/")):
            own = session_metrics(rows[name][:t], [8, 8, 8], within[name][:t])
            expected |= {f"{prefix}{m}": v for m, v in own.items()}
        assert result.metrics.items() >= expected.items()
        for prefix in ("", "slow/", "fast/") if t > 1 else ():
            parts = result.metrics[f"{prefix}forgetting_within"] + result.metrics[f"{prefix}forgetting_confusion"]
            assert result.metrics[f"{prefix}forgetting"] == pytest.approx(parts, abs=1e-12)
        assert all(inner >= whole for inner, whole in zip(result.within, result.row, strict=True))
        right_session = [row[s] / 8 for s, row in enumerate(result.confusion)]
        assert [sum(row) for row in result.confusion] == [8] * t
        assert all(share >= whole for share, whole in zip(right_session, result.row, strict=True))
        assert list(result.row) == pytest.approx(rows["aggregated"][t - 1], abs=0)
        assert set(result.ridge) == {"slow", "fast"}
        assert set(result.ridge.values()) <= {1.0, 10.0, 100.0}
        flat = result.as_metrics()
        assert flat["test/accuracy"] == result.metrics["accuracy"]
        assert flat["ridge/slow"] == result.ridge["slow"]
        assert all(math.isfinite(v) for v in flat.values())
        assert {name for name in flat if name.startswith(("time/", "memory/"))} == {
            *(f"time/{phase}_seconds" for phase in ("train", "features", "head", "evaluate")),
            "time/images_per_second",
            "memory/peak_mib",
        }
        assert flat["time/images_per_second"] == pytest.approx(2 * 16 / flat["time/train_seconds"])  # 2 epochs
        assert ("test/forgetting" in flat) == (t > 1)


def test_training_learns_something(make: MakeTrainer) -> None:
    results = finish(make({"slow.epochs": 6}))
    losses = [losses["train/slow/ce"] for _, losses in results[0].losses]
    assert losses[-1] < 0.8 * losses[0]
    assert results[-1].metrics["accuracy"] > 0.5  # six classes


# ---------------------------------------------------------------- resumption


RESUMED = {
    "adapter with dropout": {"pet.dropout": 0.3, "fast.new_rows": "uniform"},
    "class means": {"head.kind": "class_means", "pet.dropout": 0.3},
    **{kind: {"pet.kind": kind} for kind in ("ssf", "vpt_deep", "vpt_shallow", "lora", "full")},
    "trained head": {"head.kind": "cosine", "pet.kind": "full"},
    "trained head alone": {"head.kind": "cosine", "pet.kind": "none", "fast.slow_rows": "zeros"},
}


@pytest.mark.parametrize("overrides", RESUMED.values(), ids=RESUMED)
def test_a_run_resumed_after_any_advance_equals_the_uninterrupted_one(
    make: MakeTrainer, tmp_path: Path, overrides: dict[str, Any]
) -> None:
    whole = make(overrides)
    results: list[SessionResult] = []
    count = 0
    while not whole.done:
        save_state(whole.state_dict(), tmp_path / f"{count}.state")
        event = whole.advance()
        if isinstance(event, SessionResult):
            results.append(event)
        count += 1
    assert count == 9
    for saved in range(count):
        resumed = make(overrides)
        resumed.load_state_dict(load_state(tmp_path / f"{saved}.state"))
        rest = finish(resumed)
        assert facts(rest) == facts(results[3 - len(rest) :]), saved
        assert len(rest) == 3 - saved // 3
        assert_same(resumed.state_dict(), whole.state_dict(), f"after {saved}")
        assert resumed.session_logits is not None
        assert whole.session_logits is not None
        assert_same(vars(resumed.session_logits), vars(whole.session_logits), f"after {saved}")
        assert_same(resumed.inference_state(), whole.inference_state(), f"after {saved}")


def test_a_used_trainer_can_go_back_to_a_state(make: MakeTrainer) -> None:
    trainer = make({"pet.dropout": 0.3})
    trainer.run_session()
    trainer.advance()
    state = trainer.state_dict()
    first = finish(trainer)
    end = trainer.state_dict()
    trainer.load_state_dict(state)
    assert facts(finish(trainer)) == facts(first)
    assert_same(trainer.state_dict(), end)


def test_a_state_does_not_change_while_training_goes_on(make: MakeTrainer, tmp_path: Path) -> None:
    trainer = make()
    for _ in range(4):
        trainer.advance()
    state = trainer.state_dict()
    save_state(state, tmp_path / "then.state")
    finish(trainer)
    assert_same(state, load_state(tmp_path / "then.state"))


def test_a_finished_state_is_done(make: MakeTrainer) -> None:
    trainer = make(NO_TRAINING)
    finish(trainer)
    again = make(NO_TRAINING)
    again.load_state_dict(trainer.state_dict())
    assert again.done


def test_states_of_other_configurations_and_newer_versions_are_refused(make: MakeTrainer) -> None:
    state = make().state_dict()
    with pytest.raises(UserError, match="another configuration"):
        make({"fast.lr": 0.02}).load_state_dict(state)
    with pytest.raises(UserError, match=f"version {STATE_VERSION + 1}; .* reads {STATE_VERSION} alone"):
        make().load_state_dict({**state, "version": STATE_VERSION + 1})
    for changes, words in (
        (
            {"data_digest": "0" * 64},
            f"other data (digest 000000000000, now {state['provenance']['data_digest'][:12]});",
        ),
        ({"data_digest": "0", "weights_digest": "1"}, "data (digest 0, now "),
        ({"weights_digest": "1"}, "other backbone weights (digest 1, now "),
        ({"class_order": "1,0"}, "another order of the classes"),
    ):
        with pytest.raises(UserError) as refused:
            make().load_state_dict({**state, "provenance": {**state["provenance"], **changes}})
        assert words in str(refused.value)
    make({"runtime.eval_batch_size": 7}).load_state_dict(state)  # where it runs may change


def test_a_refused_state_changes_nothing(make: MakeTrainer) -> None:
    trainer = make()
    trainer.run_session()
    before = trainer.state_dict()
    with pytest.raises(UserError):
        trainer.load_state_dict(make({"seed": 5}).state_dict())
    assert_same(trainer.state_dict(), before)


# ---------------------------------------------------------------- randomness


@pytest.fixture(scope="module")
def baseline(
    make_config: Callable[..., Config], tiny_dataset: Dataset, tiny_vit: VisionTransformer
) -> tuple[list[Any], dict[str, Any]]:
    trainer = SafeTrainer(make_config({"pet.dropout": 0.3}), tiny_dataset, tiny_vit)
    return facts(finish(trainer)), trainer.state_dict()


@pytest.mark.parametrize("surrounding", [1, 2])
def test_results_neither_depend_on_global_random_states_nor_change_them(
    make: MakeTrainer, baseline: tuple[list[Any], dict[str, Any]], surrounding: int
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(surrounding)
        np.random.seed(surrounding)
        random.seed(surrounding)
        before = (torch.get_rng_state(), np.random.get_state()[1].tolist(), np.random.get_state()[2], random.getstate())
        trainer = make({"pet.dropout": 0.3})
        results = facts(finish(trainer))
        after = (torch.get_rng_state(), np.random.get_state()[1].tolist(), np.random.get_state()[2], random.getstate())
    assert results == baseline[0]
    assert_same(trainer.state_dict(), baseline[1])
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_a_seed_changes_training_and_keeps_the_class_order(
    make: MakeTrainer, baseline: tuple[list[Any], dict[str, Any]]
) -> None:
    trainer = make({"pet.dropout": 0.3, "seed": 1})
    results = facts(finish(trainer))
    for mine, theirs in zip(results, baseline[0], strict=True):
        assert mine.losses != theirs.losses
    assert trainer.provenance()["class_order"] == make().provenance()["class_order"]


def test_the_class_order_seed_changes_the_order(make: MakeTrainer) -> None:
    orders = {make({"class_order_seed": seed}).provenance()["class_order"] for seed in (1993, 1, 2)}
    assert len(orders) == 3
    expected = np.random.RandomState(1993).permutation(6).tolist()
    assert make().provenance()["class_order"] == ",".join(map(str, expected))
    assert make({"data.class_order": "natural"}).provenance()["class_order"] == "0,1,2,3,4,5"
    assert finish(make({"class_order_seed": 1}))[0].losses != finish(make())[0].losses


def test_epochs_differ_in_order_and_views(make: MakeTrainer) -> None:
    """With a vanishing learning rate only the order, the crops and the dropout masks tell epochs apart."""
    overrides = {"slow.lr": 1e-30, "slow.schedule_epochs": 10, "pet.dropout": 0.0, "slow.epochs": 3}
    losses = [terms["train/slow/ce"] for _, terms in make(overrides).run_session().losses]
    assert len(set(losses)) == 3


def test_the_projection_seed_is_its_own(make: MakeTrainer) -> None:
    a, b, c = (make({"head.projection_seed": s}) for s in (3, 3, 4))
    results = [t.run_session() for t in (a, b, c)]
    assert results[0].losses == results[1].losses == results[2].losses  # no gradient step depends on it
    assert torch.equal(a.session_logits.slow, b.session_logits.slow)
    assert not torch.equal(a.session_logits.slow, c.session_logits.slow)
    assert a.inference_state()["projection_seed"] == 3
    assert projection_seed(make({"seed": 1}).config) != projection_seed(make().config)


# ---------------------------------------------------------------- weights of the losses


WHOLE_SESSION = {"slow.batch_size": 100, "fast.batch_size": 100}  # one step an epoch
TERMS = {
    "slow.diag_weight": ("slow", "diag"),
    "slow.offdiag_weight": ("slow", "offdiag"),
    "fast.feature_weight": ("fast", "feature"),
    "fast.cross_weight": ("fast", "cross"),
}


@pytest.mark.parametrize("setting", TERMS)
def test_terms_are_told_without_their_weight(make: MakeTrainer, setting: str) -> None:
    """The first step of the first epoch sees the same parameters whatever the weights."""
    phase, term = TERMS[setting]
    told = []
    for weight in (0.0, 1e-3, 1e3):
        # Without slow epochs every fast learner starts from the same slow one.
        slow = {"slow.epochs": 0} if phase == "fast" else {}
        run = make({**WHOLE_SESSION, **slow, "fast.epochs": 3, setting: weight})
        first = run.run_session()
        losses = (first if phase == "slow" else run.run_session()).losses
        told.append([terms.get(f"train/{phase}/{term}") for _, terms in losses])
    absent = phase == "fast"
    assert (told[0][0] is None) == absent
    assert told[1][0] == told[2][0]
    if not absent:
        assert told[0][0] == told[1][0]
    assert told[1][-1] != told[2][-1]  # and later on they do act


@pytest.mark.parametrize("setting", TERMS)
def test_a_weight_of_zero_equals_a_vanishing_one(make: MakeTrainer, setting: str) -> None:
    zero, vanishing = make({setting: 0.0}), make({setting: 1e-30})
    a, b = finish(zero), finish(vanishing)
    for x, y in zip(a, b, strict=True):
        assert x.metrics == pytest.approx(y.metrics, abs=0.05)
        for (_, left), (_, right) in zip(x.losses, y.losses, strict=True):
            common = left.keys() & right.keys()
            assert {n: left[n] for n in common} == pytest.approx({n: right[n] for n in common}, rel=1e-4, abs=1e-6)


def test_with_all_weights_zero_only_cross_entropy_is_left(make: MakeTrainer) -> None:
    results = finish(make(dict.fromkeys(TERMS, 0.0)))
    assert [{*terms} for r in results for _, terms in r.losses] == [{"train/slow/ce"}] * 2 + [{"train/fast/ce"}] * 4
    other = finish(make(dict.fromkeys(TERMS, 0.0) | {"slow.correlation": "batch"}))
    assert facts(other) == facts(results)


def test_a_strong_feature_weight_holds_the_fast_features(make: MakeTrainer) -> None:
    def last(weight: float) -> float:
        results = finish(make({"fast.feature_weight": weight}))
        return results[-1].losses[-1][1]["train/fast/feature"]

    assert last(30.0) < 0.9 * last(1e-6)


@pytest.mark.parametrize("correlation", ["sample", "batch"])
def test_a_last_batch_of_one_image_trains_on(make: MakeTrainer, correlation: str) -> None:
    results = finish(make({"slow.batch_size": 15, "fast.batch_size": 15, "slow.correlation": correlation}))  # 16 images
    for _, terms in (losses for r in results for losses in r.losses):
        assert all(math.isfinite(value) for value in terms.values())


# ---------------------------------------------------------------- what stays, and what is equal to what


def test_the_backbone_is_never_changed(make: MakeTrainer, tiny_vit: VisionTransformer) -> None:
    before = {name: value.clone() for name, value in tiny_vit.state_dict().items()}
    digest = weights_digest(tiny_vit)
    trainer = make()
    finish(trainer)
    assert_same(dict(tiny_vit.state_dict()), before)
    assert weights_digest(tiny_vit) == digest == trainer.provenance()["weights_digest"]
    assert all(p.grad is None and not p.requires_grad for p in tiny_vit.parameters())


@pytest.mark.parametrize("kind", ["adapter", "ssf", "vpt_deep", "vpt_shallow", "lora"])
def test_the_slow_learner_is_frozen_after_session_one_and_the_fast_one_moves(make: MakeTrainer, kind: str) -> None:
    trainer = make({"pet.kind": kind})
    start = trainer.slow.net.pet_state()
    trainer.run_session()
    slow, rows = trainer.slow.net.pet_state(), trainer.slow.head.rows.detach().clone()
    assert any(not torch.equal(start[name], slow[name]) for name in slow)
    assert_same(trainer.fast.net.pet_state(), slow)
    before = slow
    for _ in range(2):
        trainer.run_session()
        assert_same(trainer.slow.net.pet_state(), slow)
        assert torch.equal(trainer.slow.head.rows[:2].detach(), rows)
        fast = trainer.fast.net.pet_state()
        assert any(not torch.equal(before[name], fast[name]) for name in fast)
        before = fast


def test_in_session_one_both_learners_and_their_aggregate_agree(make: MakeTrainer) -> None:
    trainer = make()
    metrics = trainer.run_session().metrics
    for name in ("accuracy", "accuracy_session_mean", "average_accuracy", "plasticity"):
        assert metrics[name] == metrics[f"slow/{name}"] == metrics[f"fast/{name}"]
    logits = trainer.session_logits
    assert torch.equal(logits.slow, logits.fast)
    assert logits.slow_scale == logits.fast_scale


def test_without_fast_epochs_the_fast_learner_is_the_slow_one(make: MakeTrainer) -> None:
    trainer = make({"fast.epochs": 0})
    for result in finish(trainer):
        for name, value in result.metrics.items():
            if name.startswith("slow/"):
                assert result.metrics[name.replace("slow", "fast")] == value
                assert result.metrics[name.removeprefix("slow/")] == value
        assert result.ridge["slow"] == result.ridge["fast"]
        assert result.session == 1 or result.losses == ()
    assert torch.equal(trainer.session_logits.slow, trainer.session_logits.fast)


@pytest.mark.parametrize(("epochs", "extractions"), [(0, 6), (1, 13)])
def test_features_that_are_equal_are_extracted_once(
    make: MakeTrainer, monkeypatch: pytest.MonkeyPatch, epochs: int, extractions: int
) -> None:
    """Slow: train and evaluation images of three sessions. Fast if trained: 2 training sets, 2 + 3 groups judged."""
    extract, calls = features.extract, []
    monkeypatch.setattr(features, "extract", lambda net, views: calls.append(net) or extract(net, views))
    finish(make({"fast.epochs": epochs, "fast.new_rows": "zeros"}))
    assert len(calls) == extractions


def test_the_grid_at_the_configured_temperature_is_the_trainers_own_row(make: MakeTrainer) -> None:
    temperature = 0.05
    trainer = make({"aggregation.temperature": temperature, "fast.feature_weight": 0.0})
    for t in range(1, 4):
        result = trainer.run_session()
        logits = trainer.session_logits
        row = trainer.state_dict()["rows"]["aggregated"][-1]
        assert score_grid(logits, [Prediction("entropy", 1e3), Prediction("entropy", temperature)]).rows[1] == row
        assert len(row) == t
        assert result.metrics["plasticity"] == row[-1]
        assert logits.counts == [8] * t
        assert not torch.equal(logits.slow, logits.fast) or t == 1


@pytest.mark.parametrize("kind", ["entropy", "mean", "max", "slow", "fast"])
def test_settings_of_prediction_never_change_training(make: MakeTrainer, plain: SafeTrainer, kind: str) -> None:
    trainer = make({"aggregation.kind": kind, "aggregation.temperature": 0.01, "head.logit_scale": 3.0})
    results = finish(trainer)
    assert_same(trainer.state_dict()["learners"], plain.state_dict()["learners"])
    assert torch.equal(trainer.session_logits.fast, plain.session_logits.fast)
    scales = {learner["scale"] for learner in trainer.inference_state()["learners"].values()}
    assert scales == {3.0}
    if kind in ("slow", "fast"):
        assert results[-1].metrics["accuracy"] == results[-1].metrics[f"{kind}/accuracy"]


def test_learned_scales_are_those_of_the_heads(plain: SafeTrainer) -> None:
    logits = plain.session_logits
    assert logits.slow_scale == plain.slow.head.scale.item() != 10.0
    assert logits.fast_scale == plain.fast.head.scale.item() != logits.slow_scale


@pytest.mark.parametrize("new_rows", ["imprint", "uniform", "zeros"])
@pytest.mark.parametrize("slow_rows", ["imprint", "zeros"])
def test_heads_gain_rows_for_new_classes(make: MakeTrainer, new_rows: str, slow_rows: str) -> None:
    """With a vanishing learning rate the rows stay as they started."""
    trainer = make({"fast.new_rows": new_rows, "fast.slow_rows": slow_rows, "fast.lr": 1e-30})
    trainer.run_session()
    old = trainer.slow.head.rows.detach().clone()
    trainer.run_session()
    fast, slow = trainer.fast.head.rows.detach(), trainer.slow.head.rows.detach()
    assert fast.shape == slow.shape == (4, 16)
    assert torch.equal(slow[:2], old)
    assert torch.allclose(fast[:2], old)
    for rows, kind in ((fast, new_rows), (slow, slow_rows)):
        if kind == "zeros":
            assert rows[2:].abs().max() < 1e-10
        else:
            assert (rows[2:].norm(dim=1) > 0.05).all()
    if new_rows == slow_rows == "imprint":
        assert torch.allclose(fast, slow, atol=1e-5)


# ---------------------------------------------------------------- by hand


def features_by_hand(
    vit: VisionTransformer, dataset: Dataset, order: list[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return training and test features and their labels in order of arrival; images already have the right size."""
    arrival = np.argsort(order)
    features = []
    for images in (dataset.train, dataset.test):
        pixels = images.read(torch.arange(len(images))).float() / 255
        with torch.no_grad():
            features.append(vit(pixels).double().numpy())
    return features[0], arrival[dataset.train.labels.numpy()], features[1], arrival[dataset.test.labels.numpy()]


def random_projection(trainer: SafeTrainer) -> np.ndarray:
    dim = trainer.config.head.projection_dim
    projection = Projection(16, dim, projection_seed(trainer.config))
    eye = torch.eye(16)
    return (projection(eye) - projection(-eye)).double().numpy()


@pytest.mark.parametrize("dim", [0, 24])
def test_the_closed_form_alone_equals_numpy(
    make: MakeTrainer, tiny_vit: VisionTransformer, tiny_dataset: Dataset, dim: int
) -> None:
    trainer = make({**NO_TRAINING, "head.projection_dim": dim, "head.ridge_grid": [5.0]})
    order = np.random.RandomState(1993).permutation(6).tolist()
    f, y, probe, truth = features_by_hand(tiny_vit, tiny_dataset, order)
    w_rand = random_projection(trainer) if dim else None
    h, judged = (x if w_rand is None else np.maximum(x @ w_rand, 0) for x in (f, probe))
    for t in range(1, 4):
        result = trainer.run_session()
        seen, here = y < 2 * t, truth < 2 * t
        targets = np.eye(2 * t)[y[seen]]
        weight = np.linalg.solve(h[seen].T @ h[seen] + 5.0 * np.eye(h.shape[1]), h[seen].T @ targets)
        scores = judged[here] @ weight
        groups = np.argsort(truth[here] // 2, kind="stable")
        got = trainer.session_logits
        assert got.labels.tolist() == truth[here][groups].tolist()
        assert np.abs(got.slow.numpy() - scores[groups]).max() <= 1e-4 * np.abs(scores).max()
        assert result.metrics["accuracy"] == pytest.approx((scores.argmax(1) == truth[here]).mean(), abs=1e-12)
        for k in range(t):
            group = truth[here] // 2 == k
            expected = (scores[group].argmax(1) == truth[here][group]).mean()
            assert trainer.state_dict()["rows"]["slow"][-1][k] == pytest.approx(expected, abs=1e-12)
        assert result.ridge == {"slow": 5.0, "fast": 5.0}


def test_class_means_equal_the_nearest_mean_by_hand(
    make: MakeTrainer, tiny_vit: VisionTransformer, tiny_dataset: Dataset
) -> None:
    trainer = make({**NO_TRAINING, "head.kind": "class_means"})
    order = np.random.RandomState(1993).permutation(6).tolist()
    f, y, probe, truth = features_by_hand(tiny_vit, tiny_dataset, order)
    for t in range(1, 4):
        result = trainer.run_session()
        means = np.stack([f[y == c].mean(axis=0) for c in range(2 * t)])
        here = truth < 2 * t
        scores = cosines(probe[here], means)
        groups = np.argsort(truth[here] // 2, kind="stable")
        assert np.abs(trainer.session_logits.slow.numpy() - scores[groups]).max() <= 1e-5
        assert result.metrics["accuracy"] == pytest.approx((scores.argmax(1) == truth[here]).mean(), abs=1e-12)
        assert result.ridge == {}


def test_a_frozen_extractor_forgets_nothing(make: MakeTrainer) -> None:
    """Sums over sessions are those over all images at once: three sessions end where one joint session does."""
    parts, joint = (
        make({**NO_TRAINING, "head.ridge_grid": [5.0]}),
        make({**NO_TRAINING, "head.ridge_grid": [5.0], "data.init_classes": 6}),
    )
    finish(parts)
    results = finish(joint)
    assert (len(results), joint.sessions, results[0].classes_seen) == (1, 1, 6)
    assert set(results[0].metrics) >= {"accuracy"}
    assert "forgetting" not in results[0].metrics
    order = joint.session_logits.labels // 2
    grouped = joint.session_logits.slow[torch.argsort(order, stable=True)]
    assert torch.allclose(parts.session_logits.slow, grouped, rtol=1e-3, atol=1e-4)


# ---------------------------------------------------------------- data


def test_under_holdout_test_data_changes_nothing(make: MakeTrainer, tiny_dataset: Dataset) -> None:
    overrides = {"data.evaluate_on": "holdout", "data.holdout_share": 0.25}
    expected = finish(make(overrides))
    assert {r.split for r in expected} == {"val"}
    assert set(expected[0].as_metrics()) >= {"val/accuracy", "val/slow/accuracy", "val/fast/accuracy"}
    permuted = ArrayImages(tiny_dataset.test.pixels, tiny_dataset.test.labels.flip(0))
    gone = ArrayImages(tiny_dataset.test.pixels[:0], tiny_dataset.test.labels[:0])
    for test in (permuted, gone):
        assert facts(finish(make(overrides, replace(tiny_dataset, test=test)))) == facts(expected)


def test_inference_state_holds_what_prediction_needs(
    make: MakeTrainer, tiny_vit: VisionTransformer, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    trainer = make()
    trainer.run_session()
    trainer.run_session()
    save_state(trainer.inference_state(), tmp_path / "inference.state")
    state = load_state(tmp_path / "inference.state")
    order = [int(c) for c in trainer.provenance()["class_order"].split(",")]
    assert state["classes"] == [tiny_dataset.classes[c] for c in order[:4]]
    assert (state["session"], state["data_digest"]) == (2, tiny_dataset.digest)
    images = torch.cat([s.evaluation.read(torch.arange(8)) for s in trainer.stream.sessions[:2]]).float() / 255
    for name, logits in (("slow", trainer.session_logits.slow), ("fast", trainer.session_logits.fast)):
        learner = build_learner(Config.model_validate_json(state["config"]), tiny_vit, 1, torch.device("cpu"))
        learner.net.load_pet_state(state["learners"][name]["pet"])
        projection = Projection(16, 24, state["projection_seed"])
        with torch.no_grad():
            scores = projection(learner.net(images)) @ state["learners"][name]["readout"]["weight"]
        assert torch.allclose(scores, logits, rtol=1e-4, atol=1e-5), name
        assert state["learners"][name]["scale"] == getattr(trainer.session_logits, f"{name}_scale")


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("overrides", [{}, {"slow.diag_weight": 0.0, "slow.offdiag_weight": 0.0}])
def test_a_diverging_slow_learner_names_session_epoch_step_and_term(
    make: MakeTrainer, overrides: dict[str, float]
) -> None:
    with pytest.raises(NonFiniteLossError, match=r"the loss term '\w+' became \w+ in session 1, epoch 1, step 2: "):
        finish(make({"slow.lr": 1e30, **overrides}))


def test_a_diverging_fast_learner_names_its_session(make: MakeTrainer) -> None:
    with pytest.raises(NonFiniteLossError, match=r"the loss term '\w+' became \w+ in session 2, epoch 1, step 2: "):
        finish(make({"fast.lr": 1e30}))


def test_a_learner_that_diverged_in_the_very_last_step_is_told_too(make: MakeTrainer) -> None:
    with pytest.raises(NonFiniteLossError, match="session 1"):
        finish(make({"slow.lr": 1e30, "slow.batch_size": 100, "slow.epochs": 1}))


def test_the_slow_learner_does_not_see_the_fast_ones_settings(make: MakeTrainer) -> None:
    def slow_metrics(overrides: dict[str, Any]) -> list[dict[str, float]]:
        results = finish(make(overrides))
        return [
            {n: v for n, v in r.metrics.items() if n.startswith("slow/")} | {"ridge": r.ridge["slow"]} for r in results
        ]

    alone = slow_metrics({"fast.epochs": 0})
    for changed in (
        {"fast.epochs": 1},
        {"fast.epochs": 2},
        {"fast.epochs": 2, "fast.lr": 0.3, "fast.cross_weight": 0.0},
    ):
        assert slow_metrics(changed) == alone


def test_more_first_classes_than_the_data_has_are_refused(make: MakeTrainer) -> None:
    with pytest.raises(UserError, match="at most the 6 classes"):
        make({"data.init_classes": 10})


def test_devices() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("gpu", "meta", "", "mps"):
        with pytest.raises(UserError, match="must be auto, cpu, cuda or cuda:N"):
            resolve_device(name)
    with pytest.raises(UserError, match="is not there"):
        resolve_device("cuda:99")


# ---------------------------------------------------------------- how it is computed


def linear(network: torch.nn.Module) -> torch.nn.Module:
    """Return the first linear map in the blocks of a network, whatever PET wraps around it."""
    return next(module for module in network.get_submodule("blocks").modules() if isinstance(module, torch.nn.Linear))


@pytest.mark.parametrize("kind", ["none", "adapter", "ssf", "vpt_deep", "vpt_shallow", "lora"])
def test_bf16_lowers_the_networks_and_nothing_else(make: MakeTrainer, kind: str) -> None:
    overrides = {"pet.kind": kind, "slow.epochs": 1, "fast.epochs": 1}
    trainer = make({**overrides, "runtime.precision": "bf16"})
    seen: set[torch.dtype] = set()
    linear(trainer.slow.net.vit).register_forward_hook(lambda module, args, result: seen.add(result.dtype))
    results = finish(trainer)
    assert seen == {torch.bfloat16}
    assert {p.dtype for p in trainer.fast.trained()} == {torch.float32}
    assert trainer.session_logits.fast.dtype == trainer.fast.closed.gram.dtype == torch.float32
    features = trainer._features(trainer.slow, trainer.stream.sessions[0].evaluation)
    assert features.dtype == torch.float32

    exact = make({**overrides, "runtime.precision": "float32"})
    expected = finish(exact)
    for a, b in zip(results, expected, strict=True):
        for (_, low), (_, high) in zip(a.losses, b.losses, strict=True):
            assert low != high
            assert low == pytest.approx(high, rel=0.1, abs=0.05)


def test_bf16_reaches_the_pre_trained_reference_too(
    make_config: Callable[..., Config], tiny_dataset: Dataset, tiny_vit: VisionTransformer
) -> None:
    trainer = SafeTrainer(make_config({"runtime.precision": "bf16"}), tiny_dataset, copy.deepcopy(tiny_vit))
    seen: list[torch.dtype] = []
    linear(trainer.slow.net.base).register_forward_hook(lambda module, args, result: seen.append(result.dtype))
    trainer.advance()
    assert seen == [torch.bfloat16] * 2  # two batches


def test_auto_is_float32_on_a_cpu_even_within_autocast(make: MakeTrainer) -> None:
    assert resolve_precision("auto", torch.device("cpu")) == make().precision == "float32"
    trainer = make({"runtime.precision": "float32"})
    with torch.autocast("cpu", torch.bfloat16):
        features = trainer._features(trainer.slow, trainer.stream.sessions[0].evaluation)
    again = make()
    expected = again._features(again.slow, again.stream.sessions[0].evaluation)
    assert torch.equal(features, expected)


def test_a_bf16_run_continues_bit_for_bit(make: MakeTrainer) -> None:
    overrides = {"runtime.precision": "bf16", "pet.dropout": 0.3}
    trainer = make(overrides)
    for _ in range(4):
        trainer.advance()
    resumed = make(overrides)
    resumed.load_state_dict(trainer.state_dict())
    assert facts(finish(resumed)) == facts(finish(trainer))
    assert_same(resumed.state_dict(), trainer.state_dict())


def test_precision_and_micro_batch_belong_to_a_state_and_the_rest_of_runtime_does_not(make: MakeTrainer) -> None:
    state = make().state_dict()
    make({"runtime.precision": "float32"}).load_state_dict(state)  # what auto is on a CPU
    make({"runtime.deterministic": True, "runtime.eval_batch_size": 5}).load_state_dict(state)
    with pytest.raises(UserError, match=r"trained with runtime\.precision=float32, runtime\.micro_batch=null"):
        make({"runtime.precision": "bf16"}).load_state_dict(state)
    with pytest.raises(UserError, match="which results depend on"):
        make({"runtime.micro_batch": 4}).load_state_dict(state)
    with pytest.raises(UserError, match=r"runtime\.precision=bf16, runtime\.micro_batch=4"):
        make().load_state_dict(make({"runtime.precision": "bf16", "runtime.micro_batch": 4}).state_dict())


@pytest.mark.parametrize("wanted", [False, True])
def test_deterministic_algorithms_are_asked_for_within_an_advance_only(
    make: MakeTrainer, plain: SafeTrainer, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    seen: list[bool] = []
    for name in ("_train_one_epoch", "_close_session"):
        original = getattr(SafeTrainer, name)

        def watched(trainer: SafeTrainer, original: Callable[[SafeTrainer], Any] = original) -> Any:
            seen.append(torch.are_deterministic_algorithms_enabled())
            return original(trainer)

        monkeypatch.setattr(SafeTrainer, name, watched)
    trainer = make({"runtime.deterministic": wanted})
    assert not torch.are_deterministic_algorithms_enabled()
    finish(trainer)
    assert seen == [wanted] * 9
    assert not torch.are_deterministic_algorithms_enabled()
    assert_same(trainer.state_dict(), plain.state_dict())


def test_deterministic_algorithms_end_as_they_were_also_after_an_error(make: MakeTrainer) -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with pytest.raises(NonFiniteLossError):
            make({"slow.lr": 1e30, "runtime.deterministic": True}).advance()
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


BATCH_LEVEL_OFF = {"slow.diag_weight": 0.0, "slow.offdiag_weight": 0.0, "fast.cross_weight": 0.0, "pet.dropout": 0.0}


@pytest.mark.parametrize("micro_batch", [1, 3, 4])
def test_micro_batches_add_up_to_the_whole_step(make: MakeTrainer, micro_batch: int) -> None:
    """Cross-entropy and L_cos are means over images: weighted by their shares they are the batch's (10, then 6)."""
    whole, parts = make(BATCH_LEVEL_OFF), make({**BATCH_LEVEL_OFF, "runtime.micro_batch": micro_batch})
    for a, b in zip(finish(whole), finish(parts), strict=True):
        for (_, expected), (_, actual) in zip(a.losses, b.losses, strict=True):
            assert actual == pytest.approx(expected, abs=1e-5)
    for name in ("slow", "fast"):
        for p, q in zip(getattr(whole, name).trained(), getattr(parts, name).trained(), strict=True):
            assert (p - q).abs().max() <= 1e-5, name
    one, split = make(BATCH_LEVEL_OFF), make({**BATCH_LEVEL_OFF, "runtime.micro_batch": micro_batch})
    one.advance()
    split.advance()
    for p, q in zip(one.slow.trained(), split.slow.trained(), strict=True):
        assert (p - q).abs().max() <= 1e-6


@pytest.mark.parametrize("micro_batch", [10, 1000])
def test_a_micro_batch_of_the_whole_batch_changes_no_bit(
    make: MakeTrainer, plain: SafeTrainer, micro_batch: int
) -> None:
    trainer = make({"runtime.micro_batch": micro_batch})
    finish(trainer)
    assert_same(trainer.state_dict()["learners"], plain.state_dict()["learners"])


def test_terms_over_a_batch_are_averaged_over_micro_batches(make: MakeTrainer) -> None:
    """One step on 16 images in parts of 6, 6 and 4: each term is that of the parts, weighted by their shares."""
    settings = {**WHOLE_SESSION, "pet.dropout": 0.0, "runtime.micro_batch": 6, "slow.epochs": 1, "fast.epochs": 1}
    trainer, probe = make(settings), make(settings)
    session, learners = probe.stream.sessions[0], {"slow": probe.slow}
    ((images, targets),) = probe._steps.batches(session, 0, 100)
    expected: dict[str, float] = {}
    for x, y in zip(images.split(6), targets.split(6), strict=True):
        for name, (_, value) in probe._steps.terms(learners, session, x, y).items():
            expected[f"train/slow/{name}"] = expected.get(f"train/slow/{name}", 0.0) + len(y) / 16 * value.item()
    event = trainer.advance()
    assert event.losses == pytest.approx(expected, rel=1e-5)
    whole = make({**settings, "runtime.micro_batch": None}).advance()
    assert whole.losses["train/slow/ce"] == pytest.approx(event.losses["train/slow/ce"], rel=1e-5)
    assert whole.losses["train/slow/offdiag"] != pytest.approx(event.losses["train/slow/offdiag"], rel=1e-3)


def test_a_micro_batch_that_diverges_names_its_step(make: MakeTrainer) -> None:
    with pytest.raises(NonFiniteLossError, match=r"in session 1, epoch 1, step 2: "):
        finish(make({"slow.lr": 1e30, "runtime.micro_batch": 3}))
