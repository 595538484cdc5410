"""What the tests of bad and hostile input share: folders of small pictures and a state trained on one of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from safe.config import Config, load_config
from safe.seeding import generator
from safe.states.checkpoint import save_state
from safe.training.trainer import SafeTrainer

# Nothing that costs a second: a ViT that nobody has trained, an epoch of each learner, a narrow projection.
TINY = {
    "backbone.weights": "random",
    "data.init_classes": 2,
    "data.increment": 2,
    "slow.epochs": 1,
    "fast.epochs": 1,
    "head.projection_dim": 32,
    "runtime.device": "cpu",
    "runtime.threads": 1,
}
Build = Callable[..., Path]


@pytest.fixture(autouse=True)
def _delivered_here(deliver_here: None) -> None:
    """Almost all tests do without a process that delivers."""


def picture(label: int, number: int = 0) -> Image.Image:
    """Return a 32 x 32 picture: a colour of its class, and noise of its own."""
    draw = generator(100 * label + number, "picture")
    colour = torch.rand(3, 1, 1, generator=generator(label, "colour"))
    pixels = (colour + 0.1 * torch.randn(3, 32, 32, generator=draw)).clamp(0, 1)
    return Image.fromarray((255 * pixels).byte().permute(1, 2, 0).numpy())


def fill(folder: Path, classes: Iterable[str], train: int = 3, test: int = 2, file: str = "{}.png") -> Path:
    """Write class folders of pictures in train and test; names may hold any byte but `/`, as surrogates."""
    for label, name in enumerate(classes):
        for split, count in (("train", train), ("test", test)):
            place = os.fsencode(folder / split / name)
            os.makedirs(place)
            for number in range(count):
                with open(os.path.join(place, os.fsencode(file.format(number))), "wb") as stream:
                    picture(label, number + 50 * (split == "test")).save(stream, "PNG")
    return folder


def tiny(folder: Path, **changes: Any) -> Config:
    """Return the settings of a run on an image folder; `__` stands for the dot of a dotted name."""
    own = {name.replace("__", "."): value for name, value in changes.items()}
    return load_config(overrides={**TINY, "dataset": str(folder), **own})


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an image folder of four classes."""
    return fill(tmp_path_factory.mktemp("pictures"), "abcd")


@pytest.fixture(scope="session")
def trained(pictures: Path) -> SafeTrainer:
    """Return a trainer that has been through both sessions of `pictures`."""
    trainer = SafeTrainer(tiny(pictures))
    while not trainer.done:
        trainer.run_session()
    return trainer


@pytest.fixture(scope="session")
def state(trained: SafeTrainer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of its inference state."""
    path = tmp_path_factory.mktemp("trained") / "run.state"
    save_state(trained.inference_state(), path)
    return path
