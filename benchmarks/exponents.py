"""How cost grows with images, hidden width, classes and sessions: exponents of power laws beside their theory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.head import GRID, SPLIT
from safe.backbones.loading import load_backbone
from safe.backbones.network_input import NetworkInput
from safe.config import load_config
from safe.data.loading import load_dataset
from safe.evaluation.logits import Prediction, SessionLogits, score_grid
from safe.heads.projection import Projection
from safe.heads.ridge import RidgeHead, readout
from safe.heads.symmetric import Symmetric
from safe.seeding import generator
from safe.training.build import build_learner, build_stream
from safe.training.features import FeatureExtractor
from safe.training.trainer import SafeTrainer

REPEATS = 3  # of each size; the shortest counts
WIDTH = 64

# What is made ready outside the clock, and the call that is timed.
Prepared = Callable[[int], Callable[[], Any]]


def fitted_exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Return p of the power law seconds = c * size^p that is nearest by least squares of the logarithms."""
    x, y = ([math.log(value) for value in values] for values in (sizes, seconds))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - mean_x) ** 2 for a in x)


def measured_exponents() -> list[dict[str, Any]]:
    """Time every law at its sizes; return name, sizes, seconds, the fitted exponent and that of the theory."""
    laws: list[tuple[str, str, Sequence[int], float, Prepared]] = [
        ("head: images n, M = 500", "n M^2 + M^3", (2000, 4000, 8000, 16000), 1.0, _head_by_images),
        ("head: statistics by M, n = 500", "n M^2", (1000, 2000, 4000), 2.0, _statistics_by_width),
        ("head: readout by M", "M^3", (1000, 2000, 4000), 3.0, _readout_by_width),
        ("head: readout by classes C, M = 1000", "M^3 + M^2 C", (10, 40, 160), 1.0, _readout_by_classes),
        ("features by images", "n", (200, 400, 800), 1.0, _features_by_images),
        ("evaluation by seen images, 8 temperatures", "n", (10_000, 20_000, 40_000), 1.0, _grid_by_images),
        ("evaluation by classes C", "C", (25, 50, 100, 200), 1.0, _grid_by_classes),
        ("run by sessions T, images fixed", "T", (2, 5, 10), 1.0, _run_by_sessions),
    ]
    rows = []
    for name, theory, sizes, exponent, prepared in laws:
        seconds = [_shortest(prepared, size) for size in sizes]
        fitted = fitted_exponent(sizes, seconds)
        row = {"name": name, "theory": theory, "sizes": list(sizes), "seconds": seconds}
        rows.append({**row, "exponent": fitted, "at_most": exponent})
    return rows


def _shortest(prepared: Prepared, size: int) -> float:
    seconds = []
    for _ in range(REPEATS):
        call = prepared(size)
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def _normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(0, *shape))


def _head_by_images(images: int) -> Callable[[], Any]:
    head, features, labels = RidgeHead(Projection(WIDTH, 500, 0), GRID, SPLIT), _normal(images, WIDTH), _labels(images)
    return lambda: head.update(features, labels, 10, generator(0))


def _labels(images: int) -> torch.Tensor:
    return torch.arange(images) % 10


def _statistics_by_width(dim: int) -> Callable[[], Any]:
    gram, rows = Symmetric.zeros(dim), _normal(500, dim)
    return lambda: gram.add_gram(rows)


def _readout_by_width(dim: int) -> Callable[[], Any]:
    gram, cross = Symmetric.gram(_normal(500, dim)), _normal(dim, 10)
    return lambda: readout(gram, cross, 1e3)


def _readout_by_classes(classes: int) -> Callable[[], Any]:
    gram, cross = Symmetric.gram(_normal(500, 1000)), _normal(1000, classes)
    return lambda: readout(gram, cross, 1e3)


def _features_by_images(images: int) -> Callable[[], Any]:
    config = load_config("digits", overrides=["data.init_classes=10"])
    dataset, vit = load_dataset(config.dataset, config.data.root, 32), load_backbone(config.backbone.name)
    subset = build_stream(config, dataset).sessions[0].train
    chosen = subset.where(torch.arange(len(subset)) < images)
    learner = build_learner(config, vit, 10, torch.device("cpu"))
    extract = FeatureExtractor(torch.device("cpu"), NetworkInput(32), 100, "float32")
    return lambda: extract(learner, chosen)


def _logits(images: int, classes: int) -> SessionLogits:
    slow, fast = _normal(images, classes), _normal(images, classes).flip(0)
    labels = torch.arange(images) % classes
    counts = [images // 2, images - images // 2]
    return SessionLogits(slow, fast, 10.0, 10.0, labels, counts, [range(classes)] * 2)


def _grid_by_images(images: int) -> Callable[[], Any]:
    logits = _logits(images, 50)
    return lambda: score_grid(logits, [Prediction("entropy", 10.0**k) for k in range(-4, 4)])


def _grid_by_classes(classes: int) -> Callable[[], Any]:
    logits = _logits(10_000, classes)
    return lambda: score_grid(logits, [Prediction("entropy", 10.0**k) for k in range(-4, 4)])


def _run_by_sessions(sessions: int) -> Callable[[], Any]:
    size = 10 // sessions
    sizes = [f"data.init_classes={size}", f"data.increment={size}", "slow.epochs=1", "fast.epochs=1"]
    config = load_config("digits", overrides=[*sizes, "head.projection_dim=200"])
    dataset, vit = load_dataset(config.dataset, config.data.root, 32), load_backbone(config.backbone.name)
    trainer = SafeTrainer(config, dataset, vit)

    def train() -> None:
        while not trainer.done:
            trainer.run_session()

    return train
