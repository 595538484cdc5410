"""A domain-incremental stream: the classes stay, the domains come one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from safe.config import Config
from safe.data.sources import Dataset, Domains
from safe.errors import UserError
from safe.heads.projection import Projection
from safe.states.checkpoint import load_state, save_state
from safe.training import steps as module
from safe.training.build import build_stream
from safe.training.trainer import SafeTrainer
from safe.types import SessionResult

CLASSES, WIDTH = 6, 16
NAMES = ("photo", "sketch", "print")
MakeTrainer = Callable[..., SafeTrainer]


@pytest.fixture(scope="module")
def dataset(make_dataset: Callable[..., Dataset]) -> Dataset:
    """Return the tiny data set with its images dealt out to three domains, every class in each."""
    plain = make_dataset(train=9, test=4)

    def dealt(labels: torch.Tensor) -> torch.Tensor:
        domain = torch.empty_like(labels)
        for label in range(CLASSES):
            members = (labels == label).nonzero().squeeze(1)
            domain[members] = torch.arange(len(members)) % len(NAMES)
        return domain

    return replace(plain, domains=Domains(NAMES, dealt(plain.train.labels), dealt(plain.test.labels)))


@pytest.fixture
def make(make_config: Callable[..., Config], dataset: Dataset, tiny_vit: VisionTransformer) -> MakeTrainer:
    def trainer(overrides: dict[str, Any] | None = None) -> SafeTrainer:
        return SafeTrainer(make_config(overrides), dataset, tiny_vit)

    return trainer


def finish(trainer: SafeTrainer) -> list[SessionResult]:
    results = []
    while not trainer.done:
        results.append(trainer.run_session())
    return results


def hidden_features(trainer: SafeTrainer, pixels: torch.Tensor) -> np.ndarray:
    """Return relu(f W_rand) of the slow learner in float64; the images already have the network's size."""
    config = trainer.config.head
    seed = trainer.inference_state()["projection_seed"]
    trainer.slow.net.eval()
    with torch.no_grad():
        features = trainer.slow.net(pixels.float() / 255)
    return Projection(WIDTH, config.projection_dim, seed)(features).double().numpy()


def test_every_session_is_a_domain_and_no_class_is_new_after_the_first(make: MakeTrainer) -> None:
    trainer = make()
    for result in [trainer.run_session() for _ in NAMES]:
        assert (result.sessions, result.classes_seen) == (3, CLASSES)
        assert trainer.fast is not None
        for learner in (trainer.slow, trainer.fast):
            assert learner.head.rows.shape == (CLASSES, WIDTH)
            assert learner.closed.logits(torch.zeros(1, WIDTH)).shape == (1, CLASSES)
    assert trainer.done


def test_the_slow_rows_stay_and_the_fast_ones_train_on(make: MakeTrainer) -> None:
    trainer = make()
    trainer.run_session()
    before = trainer.slow.head.rows.detach().clone()
    finish(trainer)
    assert trainer.fast is not None
    assert torch.equal(trainer.slow.head.rows.detach(), before)
    assert not torch.equal(trainer.fast.head.rows.detach(), before)


def test_virtual_samples_stand_for_all_classes(make: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    terms = module.fast_terms

    def recorded(*arguments: Any, old_classes: int, **settings: Any) -> Any:
        given.append(old_classes)
        return terms(*arguments, old_classes=old_classes, **settings)

    monkeypatch.setattr(module, "fast_terms", recorded)
    finish(make())
    assert set(given) == {CLASSES}
    assert len(given) == 2 * 2 * 2  # sessions, epochs, batches of 10 of the 18 images


def test_statistics_add_up_over_domains_and_all_of_them_are_judged(make: MakeTrainer, dataset: Dataset) -> None:
    """Without fast epochs both learners are the slow one, so one ridge solution says every prediction."""
    trainer = make({"fast.epochs": 0, "head.ridge_grid": [5.0]})
    domains = dataset.domains
    assert domains is not None
    arrival = np.argsort(np.random.RandomState(1993).permutation(CLASSES))
    y, truth = arrival[dataset.train.labels.numpy()], arrival[dataset.test.labels.numpy()]
    for session in range(1, len(NAMES) + 1):
        result = trainer.run_session()
        h, probe = (hidden_features(trainer, s.read(torch.arange(len(s)))) for s in (dataset.train, dataset.test))
        seen = domains.train.numpy() < session
        gram, cross = h[seen].T @ h[seen], h[seen].T @ np.eye(CLASSES)[y[seen]]
        closed = trainer.slow.closed
        for actual, expected in ((closed.gram.dense(), gram), (closed.cross, cross)):
            assert np.abs(actual.numpy() - expected).max() <= 1e-5 * np.abs(expected).max()
        right = (probe @ np.linalg.solve(gram + 5.0 * np.eye(len(gram)), cross)).argmax(1) == truth
        by_domain = [right[domains.test.numpy() == number].mean() for number in range(len(NAMES))]
        assert result.metrics["all_domains/accuracy"] == pytest.approx(right.mean(), abs=1e-12)
        assert result.metrics["all_domains/accuracy_session_mean"] == pytest.approx(np.mean(by_domain), abs=1e-12)
        assert result.metrics["accuracy"] == pytest.approx(right[domains.test.numpy() < session].mean(), abs=1e-12)
        assert trainer.state_dict()["rows"]["slow"][-1] == pytest.approx(by_domain[:session], abs=1e-12)


def test_a_resumed_run_equals_the_uninterrupted_one(make: MakeTrainer, tmp_path: Path) -> None:
    overrides = {"pet.dropout": 0.3}
    whole = make(overrides)
    results = finish(whole)
    parts = make(overrides)
    for count in range(9):
        save_state(parts.state_dict(), tmp_path / "run.state")
        parts = make(overrides)
        parts.load_state_dict(load_state(tmp_path / "run.state"))
        event = parts.advance()
        if isinstance(event, SessionResult):
            assert replace(event, seconds={}) == replace(results[event.session - 1], seconds={}), count
    assert parts.done
    for name, learner in whole.state_dict()["learners"].items():
        other = parts.state_dict()["learners"][name]
        for part in ("pet", "head", "closed"):
            for key, value in learner[part].items():
                pairs = zip(*(x if isinstance(x, list) else [x] for x in (value, other[part][key])), strict=True)
                same = all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in pairs)
                assert same, f"{name}.{part}.{key}"


def test_sizes_of_sessions_are_refused_where_domains_are_the_sessions(
    make_config: Callable[..., Config], dataset: Dataset
) -> None:
    sizes = {"data.sessions": [2, 4]}
    with pytest.raises(UserError, match=r"are its domains, which data.sessions cannot cut; set data.scenario=class"):
        build_stream(make_config(sizes), dataset)
    assert len(build_stream(make_config({**sizes, "data.scenario": "class"}), dataset)) == 2
