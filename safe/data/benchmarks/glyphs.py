"""The `glyphs` data set: 100 classes of Armenian and Georgian letters in pictures that the small ViT has not seen.

Two things separate it from the pre-training, both by named amounts: no class looks like one of its classes
(`safe.data.benchmarks.characters`), and every picture is printed over by one hatched sheet.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from safe.data.benchmarks.characters import FACES, render_all
from safe.data.benchmarks.distort import IMAGE_SIZE, PLAIN, PRETRAINING, distort
from safe.data.sources import ArrayImages, Dataset, arrays_digest
from safe.io.writable import whole
from safe.seeding import generator

VERSION = 1
SEED = 0
TRAIN_PER_CLASS = 60
TEST_PER_CLASS = 25
QUICKSTART_CLASSES = 30
# The outcome of `characters.sides().glyphs`, written down so that loading needs no search; look-alikes share a word.
_WORDS = (
    "Բ Գ ԴՂ Ե Զ Է Ը Թ Ի Ծ Կ Հ Ձ Ճ Մ Ն Շ Չ Պ Ջ Վ Ւ Ք Ֆ ե է թ խ ծ ձ մ ն չ ջ վ փ ֆ Ⴀ Ⴁ Ⴂ Ⴃ Ⴄ Ⴅ Ⴆ Ⴇ Ⴈ Ⴉ Ⴊ Ⴋ Ⴌ "
    "Ⴎ ႯႷ Ⴐ Ⴑ Ⴒ Ⴔ Ⴕ Ⴘ Ⴚ Ⴛ Ⴜ Ⴞ Ⴟ Ⴠ Ⴡ Ⴢ Ⴣ Ⴤ Ⴥ ა ბ გჷ დ ე ზ თ კ ლჺ ო პ ჟ რ სხ ტ უ ფ ქ ღ ყ ჩ წ ჭ ჯ ჰ ჱ ჲ ჴ ჵ "
    "ჶ ჹ"
)
CLASSES = tuple(_WORDS.split())
# The shift, fixed by criteria that know nothing of continual learning. Each letter is drawn in a milder family than the
# pre-training's full strength (NUISANCE), then printed over by one hatched sheet, which no pre-training picture has:
# the sheet's share of every pixel is HATCH, its lines are HATCH_PERIOD pixels apart.
# Measured with `python -m benchmarks.calibrate_glyphs --threads 1`, all classes at once, test accuracy: frozen features
# with a closed-form head 66.1 % (77.7 % at HATCH 0.4); adapters trained by SGD at 0.1, then the same head 82.0 %; all
# weights trained 93.6 %.
NUISANCE = 0.6
HATCH = 0.5
HATCH_PERIOD = 6
GLYPHS = PLAIN.towards(PRETRAINING, NUISANCE)


def hatched_sheet() -> Tensor:
    """Return the sheet that all pictures share, two crossing families of diagonal lines, (32, 32) of 0 and 1."""
    y, x = torch.meshgrid(torch.arange(IMAGE_SIZE), torch.arange(IMAGE_SIZE), indexing="ij")
    rising, falling = (along % HATCH_PERIOD < HATCH_PERIOD // 3 for along in (x + y, x - y))
    return (rising | falling).float()


def draw_split(split: str, per_class: int, hatch: float = HATCH, seed: int = SEED) -> ArrayImages:
    """Return `per_class` pictures of every class, uint8 (100 * per_class, 1, 32, 32), ordered by class.

    Every class draws from its own generator, so its pictures depend on nothing else.
    """
    masks = render_all("".join(CLASSES))
    owner = torch.tensor([label for label, members in enumerate(CLASSES) for _ in members])[masks.character]
    sheet = hatched_sheet()
    pictures = []
    for label in range(len(CLASSES)):
        random = generator(seed, "glyphs", split, label)
        own, foreign = (owner == label).nonzero()[:, 0], (owner != label).nonzero()[:, 0]
        chosen = own[torch.randint(len(own), (per_class,), generator=random)]
        others = foreign[torch.randint(len(foreign), (per_class,), generator=random)]
        drawn = distort(masks.pixels[chosen], masks.pixels[others], GLYPHS, random)
        drawn = (1 - hatch) * drawn + hatch * sheet
        pictures.append((drawn * 255.0).round().to(torch.uint8))
    labels = torch.arange(len(CLASSES)).repeat_interleave(per_class)
    return ArrayImages(torch.cat(pictures), labels)


def _recipe() -> str:
    """Return what the pictures are made from, as text: a cache made from anything else is not used."""
    facts = {"version": VERSION, "seed": SEED, "per_class": [TRAIN_PER_CLASS, TEST_PER_CLASS], "look": asdict(GLYPHS)}
    facts |= {"hatch": HATCH, "hatch_period": HATCH_PERIOD}
    return json.dumps({**facts, "classes": CLASSES, "faces": FACES, "size": IMAGE_SIZE}, sort_keys=True)


def _read(path: Path) -> tuple[ArrayImages, ArrayImages] | None:
    """Return the cached splits; None if there is no cache, or it is damaged, or made from another recipe."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        train, test = (ArrayImages(tensors[f"{s}.pixels"], tensors[f"{s}.labels"]) for s in ("train", "test"))
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
    if facts.get("recipe") != _recipe() or facts.get("digest") != arrays_digest(train, test):
        return None
    return train, test


def _write(path: Path, train: ArrayImages, test: ArrayImages) -> None:
    """Write both splits to `path` in one step, so that a reader never meets half a file."""
    tensors = {"train.pixels": train.pixels, "train.labels": train.labels}
    tensors |= {"test.pixels": test.pixels, "test.labels": test.labels}
    with whole(path) as draft:
        draft.write_bytes(save(tensors, metadata={"recipe": _recipe(), "digest": arrays_digest(train, test)}))


def load_glyphs(cache_dir: Path) -> Dataset:
    """Return the stream's 6 000 training and 2 500 test pictures, 100 classes, 32x32 grey.

    They are drawn once (seconds) and then read from `cache_dir`; a damaged or outdated cache is made again. Where it
    cannot be written, a warning says so.
    """
    path = cache_dir / f"glyphs-v{VERSION}.safetensors"
    splits = _read(path)
    if splits is None:
        splits = draw_split("train", TRAIN_PER_CLASS), draw_split("test", TEST_PER_CLASS)
        try:
            _write(path, *splits)
        except OSError as error:
            told = f"{cache_dir} cannot be written ({error.strerror}): the pictures of glyphs are drawn again each time"
            warnings.warn(told, stacklevel=2)
    train, test = splits
    return Dataset("glyphs", CLASSES, train, test, arrays_digest(train, test))


def load_quickstart(cache_dir: Path) -> Dataset:
    """Return the first 30 classes of glyphs, 1 800 training and 750 test pictures: enough to show a sweep.

    Args:
        cache_dir: of glyphs; see `load_glyphs`.
    """
    whole_set = load_glyphs(cache_dir)
    classes = CLASSES[:QUICKSTART_CLASSES]
    parts = [
        ArrayImages(images.pixels[kept], images.labels[kept])
        for images in (whole_set.train, whole_set.test)
        if isinstance(images, ArrayImages)
        for kept in (images.labels < len(classes),)
    ]
    train, test = parts
    return Dataset("quickstart", classes, train, test, arrays_digest(train, test))
