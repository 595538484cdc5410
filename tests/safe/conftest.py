"""What the tests of training share: a tiny ViT, a tiny separable data set and a configuration that takes a second."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from safe.config import Config, validate
from safe.data.sources import ArrayImages, Dataset
from safe.seeding import generator
from safe.states.checkpoint import save_state
from safe.states.inference import save_session
from safe.training.trainer import SafeTrainer

TINY = {
    "data.init_classes": 2,
    "data.increment": 2,
    "data.crop_scale": [0.5, 1.0],
    "pet.bottleneck": 4,
    "pet.scale": 1.0,
    "slow.epochs": 2,
    "slow.batch_size": 10,
    "slow.lr": 0.05,
    "slow.diag_weight": 0.01,
    "slow.offdiag_weight": 10.0,
    "fast.epochs": 2,
    "fast.schedule_epochs": 3,
    "fast.batch_size": 10,
    "fast.lr": 0.05,
    "fast.feature_weight": 1.0,
    "head.projection_dim": 24,
    "head.ridge_grid": [1.0, 10.0, 100.0],
    "runtime.device": "cpu",
    "runtime.eval_batch_size": 12,
}


def random_vit(seed: int = 0, width: int = 16) -> VisionTransformer:
    """Return a ViT (B, 3, 32, 32) -> (B, width) with weights from a local generator, strong enough to tell images."""
    with torch.random.fork_rng(devices=[]):
        vit = VisionTransformer(
            img_size=32, patch_size=8, embed_dim=width, depth=2, num_heads=2, mlp_ratio=2, num_classes=0
        )
    draw = generator(seed, "tiny vit")
    with torch.no_grad():
        for name, parameter in vit.named_parameters():
            if "norm" in name:
                continue
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
            parameter.normal_(0, fan_in**-0.5, generator=draw)
    return vit.requires_grad_(False).eval()


def separable(classes: int = 6, train: int = 8, test: int = 4, seed: int = 0) -> Dataset:
    """Return a data set whose classes are coarse colour patterns in noise, images in shuffled order."""
    draw = generator(seed, "tiny data")
    patterns = torch.rand(classes, 3, 4, 4, generator=draw).repeat_interleave(8, 2).repeat_interleave(8, 3)

    def images(count: int) -> ArrayImages:
        labels = torch.arange(classes).repeat_interleave(count)
        labels = labels[torch.randperm(len(labels), generator=draw)]
        noise = 0.1 * torch.randn(len(labels), 3, 32, 32, generator=draw)
        pixels = ((patterns[labels] + noise).clamp(0, 1) * 255).to(torch.uint8)
        return ArrayImages(pixels, labels)

    first, second = images(train), images(test)
    return Dataset("tiny", tuple(f"class {c}" for c in range(classes)), first, second, first.digest() + second.digest())


@pytest.fixture(scope="session")
def tiny_vit() -> VisionTransformer:
    return random_vit()


@pytest.fixture(scope="session")
def tiny_dataset() -> Dataset:
    return separable()


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Dataset]:
    return separable


@pytest.fixture(scope="session")
def make_config() -> Callable[..., Config]:
    """Return a function from overrides (dotted names) to a configuration for the tiny data set."""

    def make(overrides: dict[str, Any] | None = None) -> Config:
        return validate({**TINY, **(overrides or {})})

    return make


class Finished(NamedTuple):
    """A finished run of the tiny configuration; nothing may change it.

    Attributes:
        metrics: of the last session.
        states: the inference state after every session.
        folder: holds them as sessions of one run share their parts.
        file: holds the last one whole.
    """

    trainer: SafeTrainer
    metrics: dict[str, float]
    states: list[dict[str, Any]]
    folder: Path
    file: Path


@pytest.fixture(scope="session")
def finished(
    make_config: Callable[..., Config],
    tiny_dataset: Dataset,
    tiny_vit: VisionTransformer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Finished:
    """Return one finished run that many tests look at."""
    trainer, states = SafeTrainer(make_config(), tiny_dataset, tiny_vit), []
    folder, file = tmp_path_factory.mktemp("sessions"), tmp_path_factory.mktemp("trained") / "run.state"
    while not trainer.done:
        result = trainer.run_session()
        states.append(trainer.inference_state())
        save_session(states[-1], folder)
    save_state(states[-1], file)
    return Finished(trainer, dict(result.metrics), states, folder, file)


@pytest.fixture(scope="session")
def run_python() -> Callable[[str], str]:
    """Return a function that runs code in a fresh interpreter and returns what it printed."""

    def run(code: str) -> str:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
