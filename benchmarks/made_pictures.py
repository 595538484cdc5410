"""JPEG files in the shape of a published data set: its classes and counts, natural sizes, drawn from a seed."""

from __future__ import annotations

import colorsys
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from safe.datasets.facts import DatasetInfo
from safe.seeding import derive_seed

SCENES = 10
WIDTH, HEIGHT = 500, 375
QUALITY = 85
LEAST = 4  # pictures of a class and split: some are held out


def make(folder: Path, like: DatasetInfo, share: float, seed: int, processes: int) -> int:
    """Write `<folder>/{train,test}/<class>/<number>.jpg` where missing; return how many files there are.

    Args:
        like: gives classes and counts, which must be published.
        share: of each split's pictures that is made; at least `LEAST` a class.
        seed: of all of them.
        processes: that draw at the same time.
    """
    jobs = []
    for split, whole in (("train", like.train_images), ("test", like.test_images)):
        assert whole is not None
        count = max(LEAST * like.classes, round(share * whole))
        jobs += [
            (folder / split / f"class_{label:03d}", label, _part(count, label, like.classes), derive_seed(seed, split))
            for label in range(like.classes)
        ]
    with ProcessPoolExecutor(processes) as pool:
        return sum(track(pool.map(_class, jobs, chunksize=4), "drawing pictures", total=len(jobs)))


def _part(count: int, label: int, classes: int) -> int:
    """Return how many of `count` pictures a class has: as equal as they come."""
    return count // classes + (label < count % classes)


def _class(job: tuple[Path, int, int, int]) -> int:
    """Draw the pictures of one class and split: its scene in its colours, moved about."""
    folder, label, count, seed = job
    folder.mkdir(parents=True, exist_ok=True)
    drawn = np.random.default_rng([seed, label])
    scene, hue = _scene(label % SCENES), label / 300
    colours = np.array([colorsys.hsv_to_rgb((hue + turn) % 1, 0.8, 0.9) for turn in (0.0, 0.35, 0.6)])
    coloured = np.clip(scene @ colours, 0, 1)
    for number in range(count):
        shift, light = drawn.integers(0, (HEIGHT, WIDTH)), drawn.uniform(0.7, 1.1)
        file = folder / f"{number:05d}.jpg"
        if not file.exists():
            moved = np.roll(coloured, tuple(shift), axis=(0, 1)) * (255 * light)
            Image.fromarray(np.clip(moved, 0, 255).astype(np.uint8)).save(file, quality=QUALITY)
    return count


@cache
def _scene(number: int) -> NDArray[np.float64]:
    """Return one of the scenes, (H, W, 3): soft blobs, stripes and grain, which its colours are mixed by."""
    drawn = np.random.default_rng([number, 77])
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    layers = []
    for _ in range(3):
        layer = drawn.normal(0, 0.05, (HEIGHT, WIDTH))
        for _ in range(8):
            row, column, size = drawn.uniform(0, HEIGHT), drawn.uniform(0, WIDTH), drawn.uniform(20, 90)
            layer += drawn.uniform(0.2, 0.9) * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * size**2))
        layer += 0.2 * np.sin((rows * drawn.normal() + columns * drawn.normal()) / drawn.uniform(4, 30))
        layers.append(np.clip(layer, 0, 1))
    return np.stack(layers, axis=-1) / 1.5
