"""Suite `digest`: what it costs to know 60 000 PNG files by what they hold, at the first start and at a later one."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from safe.data.folders.contents import INDEX, Contents
from safe.data.folders.dataset import load_folder

IMAGES, CLASSES, SIDE = 60_000, 100, 32
SETTLE_S = 2.5  # what was written just now is not kept


def run(console: Console) -> list[dict[str, Any]]:
    """Time loading the folder; every way must give one digest."""
    with tempfile.TemporaryDirectory(prefix="bench-digest-") as folder:
        root, kept = Path(folder) / "pictures", Path(folder) / "kept"
        files = _draw(root)
        mib = sum(file.stat().st_size for file in files) / 2**20
        time.sleep(SETTLE_S)
        _forget(files)
        times = {"first start, files on disk": _timed(root, kept), "later start": _timed(root, kept)}
        (kept / INDEX).unlink()
        times["first start, files in memory"] = _timed(root, kept)
        content = bytearray(files[0].read_bytes())
        content[-20] ^= 1
        files[0].write_bytes(content)
        times["later start, one file changed"] = _timed(root, kept)
        digests = [digest for _, digest in times.values()]
        assert digests[0] == digests[1] == digests[2] != digests[3]
        index = (kept / INDEX).stat().st_size / 2**20
    table = Table(title=f"digest ({IMAGES} files, {mib:.0f} MiB)", title_justify="left", title_style="", box=None)
    table.add_column("item")
    table.add_column("seconds", justify="right")
    rows = [
        {"name": f"{name} ({IMAGES} PNG)", "seconds": seconds, "files MiB": mib, "index MiB": index}
        for name, (seconds, _) in times.items()
    ]
    for row in rows:
        table.add_row(str(row["name"]), f"{row['seconds']:.2f}")
    console.print(table)
    return rows


def _draw(root: Path) -> list[Path]:
    draw, files = np.random.default_rng(0), []
    for number in range(IMAGES):
        files.append(root / ("train", "test")[number % 6 == 0] / f"{number // 6 % CLASSES:03}" / f"{number:05}.png")
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(files[-1])
    return files


def _forget(files: list[Path]) -> None:
    """Ask the system to read the files from the disk again."""
    os.sync()
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def _timed(root: Path, kept: Path) -> tuple[float, str]:
    started = time.perf_counter()
    digest = load_folder("pictures", root, SIDE, Contents(kept)).digest
    return time.perf_counter() - started, digest
