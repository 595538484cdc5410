"""How much memory runs take at most, beside what is reckoned for them, measured in this process.

    python measuring.py FOLDER      prints name -> [reckoned, measured] in bytes as JSON

To be run on its own: a process that has held more memory before gives some of it to the work, unseen.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer

from safe.backbones.loading import load_backbone
from safe.config import load_config
from safe.data.loading import load_dataset
from safe.heads.projection import Projection
from safe.heads.ridge import RidgeHead
from safe.seeding import generator
from safe.states.checkpoint import save_state
from safe.training.build import build_stream
from safe.training.memory import needs, sizes_of, stream_sizes
from safe.training.trainer import SafeTrainer

CPU = torch.device("cpu")
RIDGE = "choice of the ridge"
STEP = {"slow.epochs": 1, "slow.batch_size": 288}  # all images of a session
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    # More images than M in a session, so that H^T H is solved, and fewer, so that H H^T is.
    "primal": ("digits", {"head.projection_dim": 800, "data.init_classes": 10}),
    "dual": ("digits", {"head.projection_dim": 3000}),
    "anacp": ("digits", {"head.kind": "anacp", "head.projection_dim": 1500, "data.init_classes": 10}),
    "with frozen": ("digits", {"head.features": "with_frozen", "head.projection_dim": 3000, "data.init_classes": 10}),
    "adapter": ("digits", {**STEP, "pet.bottleneck": 256}),
    "ssf": ("digits", {**STEP, "pet.kind": "ssf"}),
    "prompts": ("digits", {**STEP, "pet.kind": "vpt_deep", "pet.prompts": 20}),
    "bottleneck": ("digits", {"slow.epochs": 1, "pet.bottleneck": 3000}),
    "reading": ("glyphs", {"runtime.eval_batch_size": 1000, "data.init_classes": 20}),
}


def kib(entry: str) -> int:
    """Return a line of this process's memory in KiB: `VmRSS:` now, `VmHWM:` at most so far."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(entry)).split()[1])


def measured(work: Callable[[], object]) -> int:
    """Return by how many bytes this process grew at most while it did something."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else the work may take what was freed before, which counts as held
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = kib("VmRSS:")
    kept = work()
    peak = kib("VmHWM:") - before
    del kept
    return 1024 * peak


def run(name: str, folder: Path) -> tuple[float, int]:
    """Return what is reckoned and what is measured of a run's first session and its state."""
    changes = {"runtime.device": "cpu", "head.projection_dim": 200, "slow.epochs": 0, "fast.epochs": 0} | RUNS[name][1]
    config = load_config(RUNS[name][0], overrides={"data.root": str(folder), **changes})
    dataset, backbone = load_dataset(config.dataset, folder, 32), load_backbone("safe_small_vit")

    def work() -> SafeTrainer:
        trainer = SafeTrainer(config, dataset=dataset, backbone=backbone)
        trainer.run_session()
        save_state(trainer.state_dict(), folder / "state")
        return trainer

    reckoned = needs(config, stream_sizes(backbone, build_stream(config, dataset), len(dataset.classes)), CPU).host
    peak = measured(work)
    if peak > reckoned:  # what an allocator holds back only adds, and is not the same every time
        peak = min(peak, measured(work))
    return reckoned, peak


def ridge() -> tuple[float, int]:
    """Return both of the choice of lambda from many values."""
    images, classes, grid = 4000, 50, [10.0 ** (3 + power / 10) for power in range(40)]
    changes = {"head.projection_dim": 500, "head.ridge_grid": grid, "runtime.eval_batch_size": 1, "pet.kind": "none"}
    config = load_config("digits", overrides=changes)
    vit = VisionTransformer(img_size=8, patch_size=8, embed_dim=64, depth=0, num_heads=1, num_classes=0)
    sizes = sizes_of(vit, classes, images, 0)
    features, labels = torch.randn(images, 64, generator=generator(0)), torch.arange(images) % classes

    def work() -> RidgeHead:
        head = RidgeHead(Projection(64, 500, 0), grid, config.head.ridge_split)
        head.update(features, labels, classes, generator(1))
        return head

    peak = measured(work)
    return needs(config, sizes, CPU).host, peak


if __name__ == "__main__":
    print(json.dumps({**{name: run(name, Path(sys.argv[1])) for name in RUNS}, RIDGE: ridge()}))
