"""Suite `trial`: one digits training end to end, against the same training written the straightforward way."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.plain import PlainSafe
from safe.backbone import load_backbone
from safe.config import load_config
from safe.data.registry import load_dataset
from safe.trainer import SafeTrainer


def items() -> list[dict[str, Any]]:
    """Prove that both trainings give the same accuracies (dropout 0); return them to be timed as people run them."""
    equal = load_config("digits", overrides=["pet.dropout=0", "slow.epochs=2", "fast.epochs=2"])
    dataset = load_dataset(equal.dataset, equal.data.root, 32)
    vit = load_backbone(equal.backbone.name)
    plain = PlainSafe(equal, dataset, vit, test_every_epoch=False).run()
    trainer = SafeTrainer(equal, dataset, vit)
    ours = [trainer.run_session().metrics["accuracy"] for _ in range(trainer.sessions)]
    images = len(dataset.test)
    if any(abs(a - b) > 1.5 / images for a, b in zip(plain, ours, strict=True)):
        raise AssertionError(f"the two trainings differ: {plain} and {ours}")

    config = load_config("digits")

    def run_ours() -> None:
        trainer = SafeTrainer(config, dataset, vit)
        while not trainer.done:
            trainer.run_session()

    def run_plain(*, test_every_epoch: bool) -> None:
        PlainSafe(config, dataset, vit, test_every_epoch=test_every_epoch).run()

    return [
        {
            "name": "digits, as released (test accuracy after every epoch)",
            "plain": partial(run_plain, test_every_epoch=True),
            "ours": run_ours,
        },
        {
            "name": "digits, without that test accuracy",
            "plain": partial(run_plain, test_every_epoch=False),
            "ours": run_ours,
        },
    ]
