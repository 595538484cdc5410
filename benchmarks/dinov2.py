"""Suite `dinov2`: a Fashion-MNIST training on DINOv2 S/14, against the same training written the straightforward way.

The preset's settings, but for few pictures, few epochs and a head to fit: at the preset's own size, too, nearly all
of the time goes into passes of the network. Weights and pictures that are not on this machine are random ones: speed
does not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.step import prove
from benchmarks.trial import IMAGES, OTHER_FAST, Trainings, accuracies
from safe.backbones.loading import load_backbone
from safe.config import load_config
from safe.data.loading import load_dataset
from safe.data.sources import ArrayImages, Dataset, arrays_digest
from safe.errors import UserError
from safe.seeding import generator
from safe.types import SessionResult

PRESET = "fashion_mnist"
TRAIN, TEST = 12, 2  # pictures a class, with the published share of test pictures
# Slow and fast steps are as many to one another as in the preset's whole training.
SETTINGS = ("slow.epochs=4", "fast.epochs=3", "head.projection_dim=1000")


def items() -> list[dict[str, Any]]:
    """Prove that both ways give the same losses and accuracies; return them to be timed as people run them.

    Trainings that find features are held to the accuracies of those that compute them while they are timed.
    """
    dataset, vit, what = clothes(TRAIN, TEST)
    trainings = Trainings(PRESET, None, (dataset, vit), SETTINGS)
    prove(trainings.config("fast.epochs=1", "pet.dropout=0"), dataset, vit)
    stored, whole = (trainings.kept(OTHER_FAST, kinds) for kinds in (IMAGES, None))
    computed: list[list[float]] = []

    def ours() -> None:
        computed.append(accuracies(trainings.ours()))

    def timed(training: Callable[[], list[SessionResult]]) -> None:
        if accuracies(training()) != computed[-1]:
            raise AssertionError("kept features change accuracies")

    name = f"{what}, {trainings.part} of {2 * TRAIN} images, {' '.join(SETTINGS)}, as released"
    released = partial(trainings.plain, test_every_epoch=True)
    return [
        {"name": name, "plain": released, "ours": ours, "cpu": True},
        {
            "name": f"{name}; the slow network's views and features of un-augmented images kept from a trial with "
            "other fast weights, session 1 trained again",
            "plain": released,
            "ours": partial(timed, stored),
            "cpu": True,
        },
        {
            "name": f"{name}; as a sweep trains it after a trial with other fast weights, session 1 kept too",
            "plain": released,
            "ours": partial(timed, whole),
            "cpu": True,
        },
    ]


def clothes(train: int, test: int, image_size: int | None = None) -> tuple[Dataset, Any, str]:
    """Return a share of Fashion-MNIST, the preset's network, and both in words.

    Args:
        train, test: first pictures of each class.
        image_size: that the network sees, instead of the preset's.
    """
    config = load_config(PRESET)
    name, side, root = config.backbone.name, image_size or config.backbone.image_size, config.data.root
    try:
        vit, weights = load_backbone(name, image_size=side, folder=root), ""
    except UserError:
        vit, weights = load_backbone(name, "random", image_size=side), " (random weights)"
    try:
        whole, pictures = load_dataset(PRESET, root, int(vit.patch_embed.img_size[0])), PRESET
    except UserError:
        whole, pictures = _noise(train, test), "noise of 28x28 pixels"
    parts = [
        ArrayImages(images.read(first := _first(images.labels, each))[:, :1], images.labels[first])
        for images, each in ((whole.train, train), (whole.test, test))
    ]
    return (
        Dataset(PRESET, whole.classes, parts[0], parts[1], arrays_digest(*parts)),
        vit,
        f"{pictures} on DINOv2 S/14 at {side} px{weights}",
    )


def _first(labels: Tensor, each: int) -> Tensor:
    return torch.cat([(labels == label).nonzero().flatten()[:each] for label in labels.unique()])


def _noise(train: int, test: int) -> Dataset:
    parts = []
    for each, split in ((train, "train"), (test, "test")):
        pixels = torch.randint(256, (10 * each, 1, 28, 28), dtype=torch.uint8, generator=generator(0, split))
        parts.append(ArrayImages(pixels, torch.arange(10).repeat(each)))
    return Dataset(PRESET, tuple(map(str, range(10))), parts[0], parts[1], arrays_digest(*parts))
