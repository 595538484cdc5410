"""Heads that read the features of two networks: by hand in numpy, in what they predict, hold and cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from safe.backbones.loading import skeleton
from safe.config import Config, load_config
from safe.config.reading import beside, shares_statistics
from safe.data.sources import Dataset
from safe.data.stream import Session
from safe.heads.projection import Projection
from safe.predictor import load_predictor
from safe.states.checkpoint import save_state
from safe.training.build import build_learner, head_width, projection_seed
from safe.training.cost import session_costs
from safe.training.memory import needs, sizes_of
from safe.training.trainer import SafeTrainer

ONE_LAMBDA = {"head.ridge_grid": [5.0]}
Make = Callable[..., SafeTrainer]


@pytest.fixture
def make(make_config: Callable[..., Config], tiny_dataset: Dataset, tiny_vit: VisionTransformer) -> Make:
    return lambda overrides: SafeTrainer(make_config({**ONE_LAMBDA, **overrides}), tiny_dataset, tiny_vit)


def frozen(trainer: SafeTrainer, images: Any, vit: VisionTransformer) -> Tensor:
    """Return the features of the pre-trained network, built anew and without any PET."""
    plain = build_learner(Config(pet={"kind": "none"}), vit, 1, torch.device("cpu"))
    return trainer._features(plain, images)


@pytest.mark.parametrize("features", ["with_frozen", "with_slow"])
def test_a_head_on_two_networks_is_a_ridge_on_their_features_side_by_side(
    make: Make, tiny_vit: VisionTransformer, features: str
) -> None:
    trainer = make({"head.features": features})

    def read(name: str, session: Session) -> np.ndarray:
        learner = {"slow": trainer.slow, "fast": trainer.fast}[name]
        assert learner is not None
        parts = [trainer._features(learner, session.train)]
        if features == "with_frozen":
            parts.insert(0, frozen(trainer, session.train, tiny_vit))
        elif name == "fast":
            parts.insert(0, trainer._features(trainer.slow, session.train))
        return torch.cat(parts, dim=1)

    gram, cross = {}, {}
    for session in trainer.stream.sessions:
        trainer.run_session()
        for name, learner in (("slow", trainer.slow), ("fast", trainer.fast)):
            whole = read(name, session)
            width = whole.shape[1]
            assert (
                width
                == head_width(trainer.config, 16, name)
                == (16 if (features, name) == ("with_slow", "slow") else 32)
            )
            hidden = Projection(width, 24, projection_seed(trainer.config))(whole).double().numpy()
            gram[name] = gram.get(name, 0) + hidden.T @ hidden
            cross[name] = cross.get(name, 0) + hidden.T @ np.eye(6)[session.train.labels.numpy()]
            expected = np.linalg.solve(gram[name] + 5 * np.eye(24), cross[name][:, : session.seen])
            weight = learner.closed.readout()["weight"].double().numpy()
            assert np.abs(weight - expected).max() <= 1e-4 * np.abs(expected).max(), (name, session.index)


@pytest.mark.parametrize("settings", [
    {"head.features": "with_frozen"},
    {"head.features": "with_slow"},
    {"head.features": "with_slow", "aggregation.kind": "fast", "head.kind": "class_means"},
    {"head.features": "with_frozen", "fast.epochs": 0, "head.kind": "class_means"},
])  # fmt: skip
def test_a_saved_state_predicts_as_the_trainer_judged(
    make: Make, tiny_dataset: Dataset, tiny_vit: VisionTransformer, tmp_path: Path, settings: dict[str, Any]
) -> None:
    trainer = make(settings)
    while not trainer.done:
        trainer.run_session()
        save_state(trainer.inference_state(), tmp_path / "state.pt")
        predictor = load_predictor(tmp_path / "state.pt", backbone=tiny_vit, device="cpu")
        judged, had = predictor.judge(tiny_dataset), trainer.session_logits
        assert had is not None
        assert torch.allclose(judged.slow, had.slow, atol=1e-5)
        assert torch.allclose(judged.fast, had.fast, atol=1e-5)


def test_the_slow_learner_is_what_it_is_without_the_head_on_both(make: Make) -> None:
    own, both = make({}), make({"head.features": "with_slow"})
    while not own.done:
        results = own.run_session(), both.run_session()
        assert torch.equal(own.session_logits.slow, both.session_logits.slow)
        assert results[0].metrics["slow/accuracy"] == results[1].metrics["slow/accuracy"]
    assert not torch.equal(own.session_logits.fast, both.session_logits.fast)


@pytest.mark.parametrize("idle", [
    {"head.features": "with_slow", "fast.epochs": 0},
    {"head.features": "with_frozen", "head.kind": "cosine"},
    {"head.features": "with_slow", "head.kind": "cosine"},
])  # fmt: skip
def test_where_nothing_stands_beside_nothing_changes(make: Make, idle: dict[str, Any]) -> None:
    plain, other = make({**idle, "head.features": "own"}), make(idle)
    assert [beside(other.config, name) for name in ("slow", "fast")] == [None, None]
    while not plain.done:
        assert plain.run_session().row == other.run_session().row
        assert torch.equal(plain.session_logits.fast, other.session_logits.fast)


def test_a_head_that_reads_both_shares_no_statistics(make: Make) -> None:
    own, shared = ({"head.features": "with_slow", "head.statistics": kind} for kind in ("own", "shared"))
    one, other = make(own), make(shared)
    assert not shares_statistics(other.config)
    while not one.done:
        assert one.run_session().row == other.run_session().row
    assert torch.equal(one.session_logits.fast, other.session_logits.fast)


def test_what_stands_beside_is_counted() -> None:
    def at(features: str) -> Config:
        return load_config("omnibenchmark", overrides=["data.root=/nowhere", f"head.features={features}"])

    own, with_frozen, with_slow = (session_costs(at(kind)) for kind in ("own", "with_frozen", "with_slow"))
    for plain, frozen, slow in zip(own, with_frozen, with_slow, strict=True):
        assert frozen.read == plain.read + plain.slow_read == plain.read + frozen.beside_read
        assert slow.read == plain.read
        wider = frozen.slow_head_flops - plain.slow_head_flops  # in the random projection alone
        assert wider > 0
        both = 2 if plain.fast_head_flops else 1
        assert frozen.flops - plain.flops == pytest.approx(frozen.beside_read * plain.beside_flops + both * wider)
    assert own[0].fast_head_flops == 0 < with_slow[0].fast_head_flops, "solved in session 1 too"
    sizes = sizes_of(skeleton(at("own").backbone.name), classes=300, images=9000, judged=6000)
    need = {kind: needs(at(kind), sizes, torch.device("cpu")).host for kind in ("own", "with_frozen", "with_slow")}
    projection, kept, copies = 4 * 768 * 10_000, 4 * 768 * 15_000, 4 * 2 * 768 * 9000
    assert need["with_frozen"] - need["own"] == pytest.approx(projection + kept + copies, rel=0.5)
    assert need["with_slow"] - need["own"] == pytest.approx(2 * projection, abs=copies)
