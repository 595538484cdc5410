"""Suite `digest`: 60 000 and 90 000 JPEG files, known by what they hold and decoded, against Pillow alone.

Pillow alone opens and decodes every file, on as many threads as there are cores. Ours lists the folder, reads and
hashes every file, keeps the index and decodes every file as a training run does, on as many cores. Before each the
system is asked to forget the files, and each is a process of its own; so is a later start, which lists and looks at
every file.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from safe.data.folders.contents import INDEX, Contents
from safe.data.folders.dataset import load_folder
from safe.data.parallel import in_threads

SIZES, CLASSES, DRAWN, WIDTH, HEIGHT, QUALITY = (60_000, 90_000), 300, 300, 160, 120, 85
PAIRS = 1
SIDE = 224  # that the network sees
BATCH = 256
SETTLE_S = 2.5  # what was written just now is not kept


def run(console: Console) -> list[dict[str, Any]]:
    """Measure every size; every start must give one digest, but for a changed file, and both ways the same pixels."""
    rows: list[dict[str, Any]] = []
    for images in SIZES:
        with tempfile.TemporaryDirectory(prefix="bench-digest-") as folder:
            rows += _measured(Path(folder), images)
    for columns in (
        ("name", "plain_seconds", "ours_seconds", "ratio", "cpu_ratio", "ours_MiB"),
        ("name", "seconds", "index_MiB"),
    ):
        table = Table(title="digest", title_justify="left", title_style="", box=None)
        for column in columns:
            table.add_column(column.replace("_", " "), justify="left" if column == "name" else "right")
        for row in rows:
            if ("ratio" in row) is ("ratio" in columns):
                values = [row.get(column, "") for column in columns]
                table.add_row(*(f"{value:.2f}" if isinstance(value, float) else str(value) for value in values))
        console.print(table)
    return rows


def _measured(folder: Path, images: int) -> list[dict[str, Any]]:
    root, kept = folder / "pictures", folder / "kept"
    files = _draw(root, images)
    size = sum(file.stat().st_size for file in files) / 2**20
    time.sleep(SETTLE_S)
    plain: list[dict[str, Any]] = []
    ours: list[dict[str, Any]] = []
    ways = (("plain", plain), ("ours", ours))
    for _ in range(PAIRS):
        shutil.rmtree(kept, ignore_errors=True)
        for way, told in ways:
            _forget(files)
            told.append(_fresh(way, root, kept))
    if len({one["pixels"] for one in (*plain, *ours)}) != 1:
        raise AssertionError("the two ways give other pixels")
    later = _fresh("start", root, kept)
    content = bytearray(files[0].read_bytes())
    content[-1] ^= 1
    files[0].write_bytes(content)
    changed = _fresh("start", root, kept)
    if not {one["digest"] for one in ours} == {later["digest"]} != {changed["digest"]}:
        raise AssertionError("the digests differ")
    name = f"{images} JPEG of {WIDTH}x{HEIGHT}, {size:.0f} MiB"
    ratios = [a["seconds"] / b["seconds"] for a, b in zip(plain, ours, strict=True)]
    both = {
        "name": f"index, digest and decode ({name})",
        "plain_seconds": statistics.median(one["seconds"] for one in plain),
        "ours_seconds": statistics.median(one["seconds"] for one in ours),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        **{f"{way}_cpu_seconds": statistics.median(one["cpu"] for one in told) for way, told in ways},
        "cpu_ratio": statistics.median(a["cpu"] / b["cpu"] for a, b in zip(plain, ours, strict=True)),
        "plain_MiB": max(one["mib"] for one in plain),
        "ours_MiB": max(one["mib"] for one in ours),
        "pairs": PAIRS,
    }
    starts = {"first start, before decoding": ours[0]["start"], "later start": later["start"]}
    starts["later start, one file changed"] = changed["start"]
    index = (kept / INDEX).stat().st_size / 2**20
    return [both, *({"name": f"{what} ({name})", "seconds": took, "index_MiB": index} for what, took in starts.items())]


def _draw(root: Path, images: int) -> list[Path]:
    """Write the files: some hundred pictures again and again, each with other bytes after its end."""
    draw, contents = np.random.default_rng(0), []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(DRAWN):
            coarse = Image.fromarray(draw.integers(256, size=(24, 32, 3), dtype=np.uint8))
            smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.int16)
            noisy = smooth + draw.integers(-9, 10, smooth.shape, dtype=np.int16)
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file := Path(folder, "one.jpg"), quality=QUALITY)
            contents.append(file.read_bytes())
    files = []
    for number in range(images):
        split, label = ("train", "test")[number % 15 == 0], number // 15 % CLASSES
        files.append(root / split / f"{label:03}" / f"{number:05}.jpg")
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        files[-1].write_bytes(contents[number % DRAWN] + number.to_bytes(4, "little"))
    return files


def _forget(files: list[Path]) -> None:
    """Ask the system to read the files from the disk again."""
    os.sync()
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def _fresh(way: str, root: Path, kept: Path) -> dict[str, Any]:
    """Measure one way in a process of its own."""
    command = [sys.executable, "-m", __name__, way, str(root), str(kept)]
    return dict(json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))


def _plain(root: Path, _: Path) -> dict[str, Any]:
    files = sorted(Path(folder, name) for folder, _, names in os.walk(root) for name in names)

    def decoded(file: Path) -> int:
        with Image.open(file) as image:
            return int(np.asarray(image.convert("RGB"))[0, 0].sum(dtype=np.int64))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return {"pixels": sum(pool.map(decoded, files))}


def _start(root: Path, kept: Path) -> dict[str, Any]:
    began = time.perf_counter()
    digest = load_folder("pictures", root, SIDE, Contents(kept)).digest
    return {"digest": digest, "start": time.perf_counter() - began}


def _ours(root: Path, kept: Path) -> dict[str, Any]:
    began = time.perf_counter()
    dataset = load_folder("pictures", root, SIDE, Contents(kept))
    start, pixels = time.perf_counter() - began, 0
    torch.set_num_threads(os.cpu_count() or 1)
    for split in (dataset.train, dataset.test):
        for batch in torch.arange(len(split)).split(BATCH):
            whole = split.whole(batch)
            assert not isinstance(whole, torch.Tensor)
            pixels += sum(in_threads(_decoded, whole))
    return {"pixels": pixels, "digest": dataset.digest, "start": start}


def _decoded(picture: Callable[[], torch.Tensor]) -> int:
    return int(picture()[:, 0, 0].sum())


WAYS: dict[str, Callable[[Path, Path], dict[str, Any]]] = {"plain": _plain, "ours": _ours, "start": _start}

if __name__ == "__main__":
    way, root, kept = sys.argv[1:]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, worked = time.perf_counter(), time.process_time()
    told = WAYS[way](Path(root), Path(kept))
    told |= {"seconds": time.perf_counter() - began, "cpu": time.process_time() - worked}
    told |= {"mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}
    print(json.dumps(told))
