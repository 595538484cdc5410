"""Suite `step`: the gradient steps of each learner, against one more forward pass a step and a test every epoch.

And the passes alone: of a network that computes its last block for all tokens, and for the class token.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.plain import PlainSafe
from safe.backbones.loading import load_backbone
from safe.config import Config, load_config
from safe.data.loading import load_dataset
from safe.data.sources import Dataset
from safe.pet import PetViT, attach, class_token_alone
from safe.seeding import generator
from safe.training.trainer import SafeTrainer

TOLERANCE = 1e-4  # of an epoch's mean loss: both sum float32 in another order
PASSES = 20  # in one timing


def items() -> list[dict[str, Any]]:
    """Prove that both ways give the same losses (dropout 0); return both phases and the passes alone to be timed."""
    config = load_config("digits", overrides=["slow.epochs=4", "fast.epochs=4"])
    dataset = load_dataset(config.dataset, config.data.root, 32)
    vit = load_backbone(config.backbone.name)
    prove(load_config("digits", overrides=["slow.epochs=1", "fast.epochs=1", "pet.dropout=0"]), dataset, vit)
    rows: list[dict[str, Any]] = []
    for session, phase in ((0, "slow"), (1, "fast")):
        ours = _ours(SafeTrainer(config, dataset, vit), session)
        for test_every_epoch in (True, False):
            plain = _plain(PlainSafe(config, dataset, vit, test_every_epoch=test_every_epoch), session)
            tested = "with" if test_every_epoch else "without"
            rows.append({"name": f"{phase} phase, {tested} the test accuracy", "plain": plain, "ours": ours})
    return [*rows, *_passes(vit, config.fast.batch_size)]


def _passes(vit: Any, batch_size: int) -> list[dict[str, Any]]:
    images = torch.rand(batch_size, 3, 32, 32, generator=generator(0, "images"))
    whole, trimmed = (
        attach(backbone, "adapter", generator=generator(0, "pet"), dropout=0.0)
        for backbone in (vit, class_token_alone(vit))
    )
    torch.testing.assert_close(trimmed(images), whole(images), rtol=1e-4, atol=1e-4)

    def forward(net: PetViT) -> None:
        with torch.no_grad():
            for _ in range(PASSES):
                net(images)

    def both(net: PetViT) -> None:
        for _ in range(PASSES):
            net(images).square().sum().backward()

    return [
        {
            "name": f"{PASSES} times {name}, batch of {batch_size}, last block of all tokens against one",
            "plain": partial(passes, whole),
            "ours": partial(passes, trimmed),
        }
        for name, passes in (("forward", forward), ("forward and backward", both))
    ]


def _ours(trainer: SafeTrainer, session: int) -> Callable[[], None]:
    for _ in range(session):
        trainer.run_session()
    state = trainer.state_dict()

    def phase() -> None:
        trainer.load_state_dict(state)
        for _ in range(trainer.session_epochs):
            trainer.advance()

    return phase


def _plain(training: PlainSafe, session: int) -> Callable[[], None]:
    for done in range(session):
        training.run_session(done)
    heads = training.slow_head, training.fast_head

    def phase() -> None:
        training.slow_head, training.fast_head = heads
        if session > 0:
            training.grow_heads(session)
        training.train_session(session)

    return phase


def prove(config: Config, dataset: Dataset, vit: Any) -> None:
    """Raise `AssertionError` unless two sessions of both ways give the same losses and accuracies (dropout 0)."""
    trainer, plain = SafeTrainer(config, dataset, vit), PlainSafe(config, dataset, vit, test_every_epoch=False)
    for session in range(2):
        result = trainer.run_session()
        ours, accuracy = result.losses[-1][1], plain.run_session(session)
        weights = {
            "train/slow/ce": 1.0,
            "train/slow/diag": config.slow.diag_weight,
            "train/slow/offdiag": config.slow.offdiag_weight,
            "train/fast/ce": 1.0,
            "train/fast/feature": config.fast.feature_weight,
            "train/fast/cross": config.fast.cross_weight,
        }
        total = sum(weights[name] * value for name, value in ours.items())
        if abs(total - plain.losses[-1]) > TOLERANCE * max(1.0, abs(total)):
            raise AssertionError(f"the two phases differ in session {session + 1}: {total} and {plain.losses[-1]}")
        if abs(accuracy - result.metrics["accuracy"]) > 1.5 / len(dataset.test):
            raise AssertionError(
                f"accuracies differ in session {session + 1}: {result.metrics['accuracy']}, {accuracy}"
            )
