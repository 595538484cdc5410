"""Measure how hard the `glyphs` stream is for the small ViT, by criteria that know nothing of continual learning.

    python -m benchmarks.calibrate_glyphs

(a) frozen: a closed-form head on the frozen features; (b) joint PET: adapters trained on all 100 classes at once, then
the same closed-form head; (c) joint fine-tuning of every weight, the better of its linear and the closed-form head.
The generator's shift is fixed such that (a) lies between 60 and 80 %, (b) at least 8 points and (c) at least 10 points
above (a). `--hatch 0` leaves the hatched sheet away: then the letters are new, but nothing else is.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from safe.backbones.small_vit import small_vit
from safe.data.benchmarks.glyphs import CLASSES, HATCH, TEST_PER_CLASS, TRAIN_PER_CLASS, draw_split
from safe.data.sources import ArrayImages
from safe.data.transforms import plain_view
from safe.heads.cosine import CosineHead, uniform_rows
from safe.heads.projection import Projection
from safe.heads.ridge import choose_ridge, one_hot, readout
from safe.heads.symmetric import Symmetric
from safe.pet import attach
from safe.seeding import generator

PROJECTION_DIM = 1000
GRID = tuple(10.0**exponent for exponent in range(9))
BATCH = 48


def embed(network: nn.Module, images: ArrayImages) -> Tensor:
    """Return the features of all images, (N, D), without augmentation and in evaluation mode."""
    network.eval()
    with torch.no_grad():
        return torch.cat([network(plain_view(images.read(i), 32)) for i in torch.arange(len(images)).split(500)])


def closed_form(network: nn.Module, train: ArrayImages, test: ArrayImages, seed: int) -> tuple[float, float]:
    """Return the test accuracy of the random-projection ridge head on the network's features, and its lambda."""
    features, probe = embed(network, train), embed(network, test)
    projection = Projection(features.shape[1], PROJECTION_DIM, seed)
    hidden, targets = projection(features), one_hot(train.labels, len(CLASSES))
    order = torch.randperm(len(hidden), generator=generator(seed, "calibrate", "ridge"))
    fit, judge = order.split([cut := int(0.8 * len(order)), len(order) - cut])
    ridge = choose_ridge(hidden[fit], targets[fit], hidden[judge], targets[judge], GRID)
    weight = readout(Symmetric.gram(hidden), hidden.T @ targets, ridge)
    predicted = (projection(probe) @ weight).argmax(1)
    return float((predicted == test.labels).float().mean()), ridge


def optimise(
    network: nn.Module,
    head: nn.Module,
    optimiser: torch.optim.Optimizer,
    train: ArrayImages,
    epochs: int,
    seed: int,
    set_mode: Callable[[], object],
) -> None:
    """Train by cross-entropy on batches of 48, without augmentation, under a cosine schedule."""
    random = generator(seed, "calibrate", "batches")
    steps = math.ceil(len(train) / BATCH) * epochs
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    set_mode()
    for _ in range(epochs):
        for index in torch.randperm(len(train), generator=random).split(BATCH):
            loss = functional.cross_entropy(head(network(plain_view(train.read(index), 32))), train.labels[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()


def joint_pet(train: ArrayImages, epochs: int, rate: float, seed: int) -> nn.Module:
    """Return the small ViT with adapters (bottleneck 64) trained on all classes: SGD, momentum 0.9, decay 5e-4."""
    network = attach(small_vit(), "adapter", generator=generator(seed, "calibrate", "adapter"), bottleneck=64)
    network.set_dropout_generator(generator(seed, "calibrate", "dropout"))
    head = CosineHead(uniform_rows(len(CLASSES), network.embed_dim, generator(seed, "calibrate", "head")))
    parameters = [*network.pet_parameters().values(), *head.parameters()]
    optimiser = torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=5e-4)
    optimise(network, head, optimiser, train, epochs, seed, network.train)
    return network


def joint_full(train: ArrayImages, epochs: int, rate: float, seed: int) -> tuple[nn.Module, nn.Module]:
    """Return the small ViT with every weight trained on all classes, and its linear head: AdamW, decay 0.05."""
    network = copy.deepcopy(small_vit())
    head = nn.utils.skip_init(nn.Linear, network.num_features, len(CLASSES))
    nn.init.trunc_normal_(head.weight, std=0.02, generator=generator(seed, "calibrate", "linear"))
    nn.init.zeros_(head.bias)
    optimiser = torch.optim.AdamW([*network.parameters(), *head.parameters()], lr=rate, weight_decay=0.05)
    optimise(network, head, optimiser, train, epochs, seed, network.train)
    return network, head


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibrate_glyphs", description=__doc__)
    parser.add_argument("--hatch", type=float, default=HATCH, help="share of the hatched sheet (default: as fixed)")
    parser.add_argument("--only", choices=("frozen", "pet", "full"), help="measure one row and the frozen features")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--pet-rate", type=float, default=0.1)
    parser.add_argument("--full-rate", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    train = draw_split("train", TRAIN_PER_CLASS, options.hatch)
    test = draw_split("test", TEST_PER_CLASS, options.hatch)
    frozen, ridge = closed_form(small_vit(), train, test, options.seed)
    row = "{:26}{:>9.1%}{:>+8.1f}{:>9.0e}{:>9.0f}"
    print(f"{'':26}{'accuracy':>9}{'gain':>8}{'lambda':>9}{'seconds':>9}")
    print(row.format("(a) frozen features", frozen, 0.0, ridge, 0.0), flush=True)
    if options.only in (None, "pet"):
        started = time.monotonic()
        tuned, ridge = closed_form(
            joint_pet(train, options.epochs, options.pet_rate, options.seed), train, test, options.seed
        )
        seconds = time.monotonic() - started
        print(row.format("(b) joint PET", tuned, 100 * (tuned - frozen), ridge, seconds), flush=True)
    if options.only in (None, "full"):
        started = time.monotonic()
        network, head = joint_full(train, options.epochs, options.full_rate, options.seed)
        best, ridge = closed_form(network, train, test, options.seed)
        with torch.no_grad():
            linear = float((head(embed(network, test)).argmax(1) == test.labels).float().mean())
        best = max(best, linear)
        seconds = time.monotonic() - started
        print(row.format("(c) joint fine-tuning", best, 100 * (best - frozen), ridge, seconds), flush=True)


if __name__ == "__main__":
    main()
