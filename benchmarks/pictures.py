"""Draw docs/images/glyphs.png: what the small ViT is pre-trained on, and what the embedded streams show it.

python -m benchmarks.pictures
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from safe.data.benchmarks.digits import load_digits
from safe.data.benchmarks.distort import PRETRAINING
from safe.data.benchmarks.glyphs import CLASSES, draw_split
from safe.seeding import generator
from safe.training.pretrain import pretraining_source

COLUMNS = 20
GAP = 2


def tiles(pictures: Tensor) -> Tensor:
    """Return pictures (N, H, W) in [0, 1] as one white-ruled sheet of `COLUMNS` columns."""
    rows = len(pictures) // COLUMNS
    padded = torch.nn.functional.pad(pictures, (GAP, GAP, GAP, GAP), value=1.0)
    side = padded.shape[-1]
    return padded.reshape(rows, COLUMNS, side, side).permute(0, 2, 1, 3).reshape(rows * side, COLUMNS * side)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictures", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images/glyphs.png"), metavar="FILE")
    options = parser.parse_args(arguments)
    random = generator(0, "pictures")
    source = pretraining_source()
    labels = torch.randperm(source.class_count, generator=random)[: 4 * COLUMNS]
    seen = source.draw(labels, PRETRAINING, random)[:, 0]
    chosen = torch.randperm(2 * len(CLASSES), generator=random)[: 4 * COLUMNS]
    stream = draw_split("train", 2).read(chosen)[:, 0] / 255.0
    train = load_digits().train
    digits = train.read(torch.randperm(len(train), generator=random)[: 2 * COLUMNS])[:, 0] / 255.0
    sheets = [
        (f"pre-training: {source.class_count} character classes, drawn afresh", tiles(seen)),
        (f"glyphs: {len(CLASSES)} Armenian and Georgian classes, printed over by one hatched sheet", tiles(stream)),
        ("digits: handwritten, from scikit-learn", tiles(digits)),
    ]
    heights = [len(sheet) for _, sheet in sheets]
    figure, axes = plt.subplots(3, 1, figsize=(10, 6.6), height_ratios=heights, layout="constrained")
    for axis, (title, sheet) in zip(axes, sheets, strict=True):
        axis.imshow(sheet.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(title, loc="left", fontsize=11)
        axis.axis("off")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out, dpi=110)


if __name__ == "__main__":
    main()
