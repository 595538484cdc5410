"""Suites of pairs: what is told of their times, and that ways which are timed against each other compute the same."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from safe.backbones.loading import load_backbone
from safe.pet import class_token_alone


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))  # the package is not installed


def test_ratios_are_of_pairs_and_processor_time_is_told_where_it_is_wanted() -> None:
    from benchmarks.pairs import measure, paired

    told = paired({"plain": [4.0, 9.0, 8.0], "ours": [1.0, 3.0, 4.0]})
    assert told == {"plain_seconds": 8, "ours_seconds": 3, "ratio": 3, "ratio_min": 2, "ratio_max": 4}
    item: dict[str, Any] = {"name": "sleeping", "plain": lambda: time.sleep(0.05), "ours": lambda: None}
    assert set(measure(item, 1)) == {"name", *told, "pairs"}
    row = measure(item | {"cpu": True}, 2)
    assert row["plain_seconds"] >= 0.05 > row["plain_cpu_seconds"]
    assert row["pairs"] == 2


@pytest.mark.parametrize("kind", ["adapter", "lora", "ssf"])
def test_trials_at_once_take_the_steps_of_separate_trials(kind: str) -> None:
    from benchmarks import fused

    fused.prove(class_token_alone(load_backbone("safe_small_vit")), kind, 2)


def test_trials_at_once_that_differ_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import fused

    monkeypatch.setattr(fused.Together, "parameters", fused.Separate.parameters)  # those that no step has changed
    with pytest.raises(AssertionError, match="differs"):
        fused.prove(class_token_alone(load_backbone("safe_small_vit")), "ssf", 2)


def test_a_share_of_a_data_set_is_the_first_pictures_of_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import dinov2
    from safe.data.sources import ArrayImages, Dataset

    labels = torch.tensor([1, 0, 1, 0, 0, 1])
    images = ArrayImages(torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1).expand(-1, -1, 2, 2), labels)
    monkeypatch.setattr(dinov2, "load_dataset", lambda *_: Dataset("two", ("a", "b"), images, images, "digest"))
    monkeypatch.setattr(dinov2, "load_backbone", lambda *_, **__: load_backbone("safe_small_vit"))
    dataset, _, words = dinov2.clothes(2, 1)
    assert dataset.train.read(torch.arange(4))[:, 0, 0, 0].tolist() == [1, 3, 0, 2]
    assert dataset.train.labels.tolist() == [0, 0, 1, 1]
    assert dataset.test.read(torch.arange(2))[:, 0, 0, 0].tolist() == [1, 0]
    assert words == "fashion_mnist on DINOv2 S/14 at 56 px"


def test_the_plain_training_pools_the_choice_of_lambda_and_normalises_as_ours(tmp_path: Path) -> None:
    from benchmarks.dinov2 import clothes
    from benchmarks.plain import PlainSafe
    from safe.config import load_config
    from safe.training.trainer import SafeTrainer

    words = [
        "backbone.name=safe_small_vit",
        "backbone.image_size=32",
        "backbone.input_norm=[[0.4,0.4,0.4],[0.3,0.3,0.3]]",
    ]
    words += ["slow.epochs=1", "fast.epochs=1", "head.projection_dim=64", "pet.dropout=0", f"data.root={tmp_path}"]
    config = load_config("fashion_mnist", overrides=words)
    assert config.head.ridge_choice == "pooled"
    dataset, vit = clothes(6, 4)[0], load_backbone("safe_small_vit")
    plain, trainer = PlainSafe(config, dataset, vit, test_every_epoch=False), SafeTrainer(config, dataset, vit)
    for session in range(3):
        result = trainer.run_session()
        assert plain.run_session(session) == pytest.approx(result.metrics["accuracy"], abs=1e-6)
        epoch = result.losses[-1][1]
        weights = {"ce": 1.0, "feature": config.fast.feature_weight, "cross": config.fast.cross_weight}
        total = sum(weights[name.rpartition("/")[2]] * value for name, value in epoch.items())
        assert plain.losses[-1] == pytest.approx(total, rel=1e-4)
