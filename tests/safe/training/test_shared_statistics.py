"""Both learners' features in one head: by hand in numpy, and through a store, a resume and pending statistics."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from safe.config import Config
from safe.data.sources import Dataset
from safe.heads.projection import Projection
from safe.training.build import projection_seed
from safe.training.trainer import SafeTrainer

SHARED = {"head.statistics": "shared", "head.ridge_grid": [5.0]}
Make = Callable[..., SafeTrainer]


@pytest.fixture
def make(make_config: Callable[..., Config], tiny_dataset: Dataset, tiny_vit: VisionTransformer) -> Make:
    return lambda overrides: SafeTrainer(make_config(overrides), tiny_dataset, tiny_vit)


def test_from_session_2_on_both_learners_have_one_ridge_over_both_features(make: Make) -> None:
    trainer = make(SHARED)
    projection = Projection(16, 24, projection_seed(trainer.config))
    gram, cross = np.zeros((24, 24)), np.zeros((24, 6))
    for session in trainer.stream.sessions:
        trainer.run_session()
        assert trainer.fast is not None
        for learner in (trainer.slow, trainer.fast) if session.index > 1 else (trainer.slow,):
            hidden = projection(trainer._features(learner, session.train)).double().numpy()
            gram += hidden.T @ hidden
            cross += hidden.T @ np.eye(6)[session.train.labels.numpy()]
        expected = np.linalg.solve(gram + 5 * np.eye(24), cross[:, : session.seen])
        for learner in (trainer.slow, trainer.fast):
            weight = learner.closed.readout()["weight"].double().numpy()
            assert np.abs(weight - expected).max() <= 1e-4 * np.abs(expected).max()


def test_without_epochs_of_the_fast_learner_there_is_nothing_to_share(make: Make) -> None:
    logits = []
    for statistics in ("own", "shared"):
        trainer = make({**SHARED, "fast.epochs": 0, "head.statistics": statistics})
        while not trainer.done:
            trainer.run_session()
        logits.append(trainer.session_logits.slow)
    assert torch.equal(*logits)
