"""Runs whose gradient-trained head predicts: what is trained, what is left out, and the cosines by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from safe.config import Config
from safe.data.sources import Dataset
from safe.data.transforms import plain_view
from safe.errors import NonFiniteLossError
from safe.training.trainer import SafeTrainer

TRAINED = {"head.kind": "cosine"}
PROBE = {**TRAINED, "pet.kind": "none", "data.init_classes": 6, "fast.epochs": 0}


@pytest.fixture
def make(
    make_config: Callable[..., Config], tiny_dataset: Dataset, tiny_vit: VisionTransformer
) -> Callable[..., SafeTrainer]:
    return lambda overrides: SafeTrainer(make_config(overrides), tiny_dataset, tiny_vit)


def images(trainer: SafeTrainer, sessions: int, split: str = "evaluation") -> tuple[Tensor, Tensor]:
    """Return the plain views of the images of the first sessions, and their labels."""
    subsets = [getattr(session, split) for session in trainer.stream.sessions[:sessions]]
    pixels = torch.cat([subset.read(torch.arange(len(subset))) for subset in subsets])
    return plain_view(pixels, 32), torch.cat([subset.labels for subset in subsets])


def cosines(features: Tensor, rows: Tensor) -> np.ndarray:
    f, w = features.detach().double().numpy(), rows.detach().double().numpy()
    return f @ w.T / np.linalg.norm(f, axis=1, keepdims=True) / np.linalg.norm(w, axis=1)


@pytest.mark.parametrize("kind", ["none", "adapter", "full"])
def test_the_scores_are_cosines_to_the_trained_rows(make: Callable[..., SafeTrainer], kind: str) -> None:
    trainer = make({**TRAINED, "pet.kind": kind})
    for session in (1, 2, 3):
        result = trainer.run_session()
        pixels, labels = images(trainer, session)
        judged = trainer.session_logits
        assert judged is not None
        assert torch.equal(judged.labels, labels)
        assert result.ridge == {}
        for name, learner in (("slow", trainer.slow), ("fast", trainer.fast)):
            assert learner is not None
            assert learner.closed is None
            with torch.no_grad():
                expected = cosines(learner.net(pixels), learner.head.rows)
            scores = getattr(judged, name)
            assert scores.shape == (len(labels), 2 * session)
            assert np.abs(scores.numpy() - expected).max() <= 1e-5
            right = (torch.from_numpy(expected).argmax(dim=1) == labels).double().mean().item()
            assert result.metrics[f"{name}/accuracy"] == right
        assert judged.fast_scale == trainer.fast.head.scale.item() != 10.0


def test_a_linear_probe_trains_the_head_alone(make: Callable[..., SafeTrainer], tiny_vit: VisionTransformer) -> None:
    before = {name: value.clone() for name, value in tiny_vit.state_dict().items()}
    trainer = make({**PROBE, "slow.epochs": 12})
    start = trainer.slow.head.rows.detach().clone()
    result = trainer.run_session()
    assert trainer.done
    ce = [losses["train/slow/ce"] for _, losses in result.losses]
    assert ce[-1] < 0.7 * ce[0]
    assert trainer.slow.net.pet_state() == {}
    assert all(torch.equal(value, before[name]) for name, value in tiny_vit.state_dict().items())
    assert not torch.equal(trainer.slow.head.rows, start)
    assert result.metrics["accuracy"] > 0.4  # six classes
    assert result.metrics["slow/accuracy"] == result.metrics["fast/accuracy"] == result.metrics["accuracy"]


def test_full_fine_tuning_moves_every_weight_of_its_own_copy(
    make: Callable[..., SafeTrainer], tiny_vit: VisionTransformer
) -> None:
    before = {name: value.clone() for name, value in tiny_vit.state_dict().items()}
    trainer = make({**TRAINED, "pet.kind": "full", "slow.epochs": 1})
    trainer.run_session()
    trainer.run_session()
    assert all(torch.equal(value, before[name]) for name, value in tiny_vit.state_dict().items())
    assert trainer.fast is not None
    slow, fast = trainer.slow.net.pet_state(), trainer.fast.net.pet_state()
    assert set(slow) == set(fast) == set(before)
    assert all(not torch.equal(slow[name], before[name]) for name in before)
    assert all(not torch.equal(slow[name], fast[name]) for name in before)


def test_without_epochs_new_classes_are_imprinted(
    make: Callable[..., SafeTrainer],
) -> None:
    trainer = make({**TRAINED, "fast.epochs": 0})
    for _ in range(3):
        trainer.run_session()
    pixels, labels = images(trainer, 3, "train")
    with torch.no_grad():
        features = trainer.slow.net(pixels)
    means = torch.stack([features[labels == c].mean(dim=0) for c in range(2, 6)])
    rows = trainer.slow.head.rows[2:]
    assert np.abs(np.diag(cosines(means, rows)) - 1).max() <= 1e-6
    assert trainer.fast is not None
    assert torch.equal(trainer.fast.head.rows, trainer.slow.head.rows)


def test_sequential_fine_tuning_asks_the_slow_learner_for_nothing(
    make: Callable[..., SafeTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"fast.feature_weight": 0.0, "fast.cross_weight": 0.0, "fast.new_rows": "uniform"}
    trainer = make({**TRAINED, **settings, "aggregation.kind": "fast", "fast.slow_rows": "zeros"})
    trainer.run_session()
    monkeypatch.setattr(trainer.slow.net, "forward", lambda x: pytest.fail("the slow network saw a training batch"))
    event = trainer.advance()
    assert set(event.losses) == {"train/fast/ce"}  # type: ignore[union-attr]


def test_last_steps_that_diverge_are_an_error_here_too(make: Callable[..., SafeTrainer]) -> None:
    trainer = make(TRAINED)
    trainer.advance()
    trainer.advance()
    with torch.no_grad():
        for parameter in trainer.slow.net.pet_parameters().values():
            parameter.fill_(float("inf"))
    with pytest.raises(NonFiniteLossError, match="slow learner's features are not finite after session 1"):
        trainer.advance()
