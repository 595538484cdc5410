"""What a GPU makes of training, reading features, heads, memory, image files and several runs at a time.

A ViT-B/16 at 224 px with random weights, since speed does not depend on them: nothing is downloaded. Every part stands
alone: one that fails is told in its row, and the others go on. `benchmarks/gpu.sh` runs it within ten minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.made_pictures import make
from benchmarks.plain import PlainSafe
from safe.backbones.loading import load_backbone
from safe.config import Config, load_config
from safe.data.loading import load_dataset
from safe.data.sources import ArrayImages, Dataset
from safe.datasets.facts import dataset_info
from safe.seeding import generator
from safe.training.build import closed_form_head, resolve_device
from safe.training.cost import counted_flops
from safe.training.memory import needs, stream_sizes
from safe.training.trainer import SafeTrainer
from sweeps.spec.devices import DEVICES

BACKBONE = "vit_base_patch16_224.augreg_in21k"
CLASSES = 20
SAMPLE_SECONDS = 0.2


@dataclass(frozen=True)
class Setting:
    """Where and how large."""

    device: torch.device
    backbone: str
    images: int  # of a session
    dim: int  # of the head
    rows: int  # of a session, for the head alone
    share: float  # of OmniBenchmark's pictures, for files
    trials: Sequence[int]  # of the sweeps that share a device

    def config(self, classes: int = 10) -> Config:
        """Return a short run's configuration: two epochs a session."""
        words = [
            f"backbone.name={self.backbone}", "backbone.weights=random", "pet.kind=adapter",
            f"data.init_classes={classes}", f"data.increment={classes}", "slow.epochs=2", "fast.epochs=2",
            f"head.projection_dim={self.dim}", f"runtime.device={self.device}", "pet.dropout=0",
        ]  # fmt: skip
        return load_config("digits", overrides=words)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; 0, or 1 where a part failed."""
    parser = argparse.ArgumentParser(prog="benchmarks/gpu.sh", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (default: %(default)s)")
    parser.add_argument("--small", action="store_true", help="the small ViT and few images: tries the script itself")
    arguments = parser.parse_args(argv)
    device = resolve_device(arguments.device)
    setting = (
        Setting(device, "safe_small_vit", 96, 200, 300, 0.0, (2,))
        if arguments.small
        else Setting(device, BACKBONE, 960, 10_000, 9_000, 0.02, (2, 4))
    )
    parts: tuple[Callable[[Setting], Iterator[dict[str, Any]]], ...] = (_steps, _head, _files, _together)
    rows, console = [], Console()
    for part in parts:
        console.print(f"{part.__name__.strip('_')} ...")
        try:
            rows += list(part(setting))
        except Exception as error:  # the other parts still tell something
            rows.append({"what": part.__name__.strip("_"), "failed": f"{type(error).__name__}: {error}"[:200]})
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    table = Table(title=f"{name}, {setting.backbone}", title_justify="left", box=None)
    for column in ("what", "figure", "value"):
        table.add_column(column)
    for row in rows:
        for figure, value in row.items():
            if figure != "what":
                table.add_row(row["what"], figure, f"{value:.4g}" if isinstance(value, float) else str(value))
    console.print(table)
    folder = Path(os.environ.get("RESULTS") or "results") / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    told = {"device": name, "torch": torch.__version__, "cores": os.cpu_count(), "items": rows}
    (folder / "gpu.json").write_text(json.dumps(told, indent=2))
    return int(any("failed" in row for row in rows))


def _steps(setting: Setting) -> Iterator[dict[str, Any]]:
    """Yield both phases' training and the reading of features, beside the straightforward way; peaks of memory."""
    config = setting.config()
    vit = load_backbone(setting.backbone, "random")
    dataset = _made(setting, int(vit.patch_embed.img_size[0]))
    trainer = SafeTrainer(config, dataset=dataset, backbone=vit)
    plain = PlainSafe(config, dataset, vit, test_every_epoch=False, device=str(setting.device))
    one, peak = counted_flops(config), _bf16_peak(setting.device)
    for index, phase in enumerate(("slow", "fast")):
        images = len(trainer.stream.sessions[index].train)
        trainer.advance()  # warms up
        with _busy(setting.device) as busy:
            seconds = _timed(setting.device, trainer.advance)
        began = time.perf_counter()
        if index:
            plain.grow_heads(index)
        plain.train_session(index)
        _wait(setting.device)
        plainly = (time.perf_counter() - began) / trainer.session_epochs
        flops = images * (one.trained + (one.tuned if index else one.frozen))
        yield {
            "what": f"{phase} training",
            "images a second": images / seconds,
            "times the straightforward way": plainly / seconds,
            **({"share of the bf16 peak": flops / seconds / peak} if peak else {}),
            **busy,
        }
        result = trainer.run_session()
        read = len(trainer.stream.sessions[index].train)
        yield {"what": f"features after the {phase} phase", "images a second": read / result.seconds["features"]}
        if index == 0:
            plain.fast, plain.fast_head = _copies(plain)
    if setting.device.type == "cuda":
        expected = needs(config, stream_sizes(vit, trainer.stream, CLASSES), setting.device).gpu
        measured = torch.cuda.max_memory_allocated(setting.device)
        yield {"what": "memory", "peak, GiB": measured / 2**30, "reckoned, GiB": expected / 2**30}


def _copies(plain: PlainSafe) -> tuple[Any, Any]:
    """Return the fast learner as session 1 leaves it, without its closed-form head."""
    import copy

    return copy.deepcopy(plain.slow), copy.deepcopy(plain.slow_head)


def _head(setting: Setting) -> Iterator[dict[str, Any]]:
    """Yield a session's end of one head, beside the time that products of as many operations take."""
    width, classes = 768, 30
    head = closed_form_head(setting.config(), width, setting.device)
    assert head is not None
    features = torch.randn(setting.rows, width, generator=generator(0, "features")).to(setting.device)
    labels = (torch.arange(setting.rows) % classes).to(setting.device)
    seconds = _timed(setting.device, lambda: head.update(features, labels, classes, generator(0, "split")))
    square = torch.randn(setting.dim, setting.dim, device=setting.device)
    square @ square
    product = _timed(setting.device, lambda: square @ square)
    flops = head.flops(setting.rows, 0, classes)
    yield {
        "what": f"head of {setting.dim} columns, {setting.rows} rows",
        "seconds": seconds,
        "times the products' time": seconds / (flops * product / (2 * setting.dim**3)),
    }


def _files(setting: Setting) -> Iterator[dict[str, Any]]:
    """Yield how fast a training epoch reads image files, decoded for the first time and kept."""
    info = dataset_info("omnibenchmark")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder / info.name, info, setting.share, 0, os.cpu_count() or 1)
        config = setting.config(info.classes)
        dataset = load_dataset(str(folder / info.name), folder, 224)
        vit = load_backbone(setting.backbone, "random")
        trainer = SafeTrainer(config, dataset=dataset, backbone=vit)
        images = len(trainer.stream.sessions[0].train)
        for epoch in ("decoded", "kept"):
            with _busy(setting.device) as busy:
                seconds = _timed(setting.device, trainer.advance)
            yield {"what": f"training from files, {epoch}", "images a second": images / seconds, **busy}


def _together(setting: Setting) -> Iterator[dict[str, Any]]:
    """Yield what sweeps of several trials on one device take, alone and with as many at a time as fit."""
    for trials in setting.trials:
        seconds = {}
        for share in ("1", "auto"):
            with tempfile.TemporaryDirectory() as results, _busy(setting.device) as busy:
                words = ["--dataset", "digits", "--trials", str(trials), "--seeds", "1", "--finalists", "0"]
                words += ["--no-control", "--no-audit", "--results", results, "--search", "random"]
                words += ["--gpus-per-trial", share] if setting.device.type == "cuda" else []
                config = setting.config().flat()
                chosen = (
                    "backbone.name",
                    "backbone.weights",
                    "pet.kind",
                    "slow.epochs",
                    "fast.epochs",
                    "runtime.device",
                )
                words += [f"{setting_name}={config[setting_name]}" for setting_name in chosen]
                command = [sys.executable, "-m", "sweeps", "run", *words]
                began = time.perf_counter()
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                seconds[share] = time.perf_counter() - began
        ratio = seconds["1"] / seconds["auto"]
        yield {"what": f"{trials} trials on one device", "alone, s": seconds["1"], "times faster": ratio, **busy}


def _made(setting: Setting, side: int) -> Dataset:
    """Return images of noise, as many a session as the setting says."""
    drawn = generator(0, "pixels")
    each = setting.images // 10

    def images(count: int) -> ArrayImages:
        pixels = torch.randint(0, 256, (count * CLASSES, 3, side, side), dtype=torch.uint8, generator=drawn)
        return ArrayImages(pixels, torch.arange(CLASSES).repeat(count))

    return Dataset("noise", tuple(map(str, range(CLASSES))), images(each), images(max(1, each // 10)), "noise")


def _timed(device: torch.device, work: Callable[[], object]) -> float:
    """Return the seconds that some work takes on a device."""
    _wait(device)
    began = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _bf16_peak(device: torch.device) -> float:
    """Return the published bf16 peak of a GPU in FLOP/s, 0 where it is not known."""
    if device.type != "cuda":
        return 0.0
    name = torch.cuda.get_device_name(device).lower()
    return next((1e12 * known.bf16 for known in DEVICES.values() if known.name in name), 0.0)


@contextmanager
def _busy(device: torch.device) -> Iterator[Mapping[str, float]]:
    """Give the mean share of time in which the GPU was busy during the block; nothing of it on a CPU."""
    told: dict[str, float] = {}
    if device.type != "cuda":
        yield told
        return
    samples: list[int] = []
    over = threading.Event()

    def sample() -> None:
        while not over.wait(SAMPLE_SECONDS):
            samples.append(torch.cuda.utilization(device))

    watcher = threading.Thread(target=sample)
    watcher.start()
    try:
        yield told
    finally:
        over.set()
        watcher.join()
        if samples:
            told["GPU busy"] = sum(samples) / len(samples) / 100


if __name__ == "__main__":
    sys.exit(main())
