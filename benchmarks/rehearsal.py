"""`python -m benchmarks.rehearsal --like omnibenchmark`: a benchmark's preset on pictures made up at its true size.

Pictures are drawn, then the preset's own sessions run as a sweep with MLflow: 1 epoch, two trials, one final run. What
every phase takes of time, memory and disk is printed and written to `<out>/rehearsal.json`, and with `--page` into
docs/cost.md. Run again, nothing is drawn anew, and a second sweep shows how soon a later start begins.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.made_pictures import make
from safe.datasets.facts import dataset_info
from safe.errors import EXIT_USER_ERROR, UserError
from sweeps.spec.machine import core_count

LOOK_SECONDS = 2.0  # reading what a process of gigabytes holds takes the machine some of its time
SETTINGS = ("slow.epochs=1", "fast.epochs=1", "fast.schedule_epochs=1", "slow.schedule_epochs=1")


@dataclass(frozen=True)
class Phase:
    """What one sweep took: seconds to its first gradient step and in all, peaks of memory in MB, disk in MB by what."""

    name: str
    first_step_seconds: float
    seconds: float
    driver_mb: float
    workers_mb: float
    disk_mb: dict[str, float]


def main(argv: Sequence[str] | None = None) -> int:
    """Draw, run twice, write; 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rehearsal", description=__doc__)
    parser.add_argument("--like", default="omnibenchmark", help="data set whose counts and preset are taken")
    parser.add_argument("--share", type=float, default=1.0, help="of its pictures, in (0, 1]; default: all")
    parser.add_argument("--out", type=Path, default=Path("results/rehearsal"), help="folder (default: %(default)s)")
    parser.add_argument("--backbone", default="safe_small_vit", help="network (default: %(default)s)")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="further settings of every run")
    arguments = parser.parse_args(argv)
    try:
        info = dataset_info(arguments.like)
        if info.kind != "folder" or info.train_images is None:
            raise UserError(f"--like {arguments.like}: its folders' counts are not published; take omnibenchmark")
        if not 0 < arguments.share <= 1:
            raise UserError(f"--share must be above 0 and at most 1, got {arguments.share:g}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    out = arguments.out.absolute()
    pictures = make(out / "data" / info.name, info, arguments.share, 0, core_count())
    settings = [f"data.root={out / 'data'}", f"backbone.name={arguments.backbone}", *SETTINGS, *arguments.settings]
    phases = [_sweep(name, info.name, out, settings) for name in ("first", "second")]
    report = {
        "like": info.name,
        "pictures": pictures,
        "backbone": arguments.backbone,
        "settings": arguments.settings,
        "cores": core_count(),
        "phases": [asdict(phase) for phase in phases],
    }
    (out / "rehearsal.json").write_text(json.dumps(report, indent=2))
    print(json.dumps(report, indent=2))
    return 0


def _sweep(name: str, dataset: str, out: Path, settings: Sequence[str]) -> Phase:
    """Run a sweep in a process of its own and watch it."""
    results = out / "results"
    asked = ["--dataset", dataset, "--name", f"rehearsal-{name}", "--trials", "2", "--seeds", "1", "--finalists", "0"]
    command = [sys.executable, "-m", "sweeps", "run", *asked, "--no-control", "--results", str(results), *settings]
    started, first, driver, workers = time.perf_counter(), 0.0, 0.0, 0.0
    heartbeats = results / "sweeps" / f"rehearsal-{name}" / "heartbeats"
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        while process.poll() is None:
            own, others = _memory(process.pid)
            driver, workers = max(driver, own), max(workers, others)
            if not first and heartbeats.is_dir() and any(heartbeats.iterdir()):
                first = time.perf_counter() - started
            time.sleep(LOOK_SECONDS)
    if process.returncode:
        raise RuntimeError(f"the sweep ended with exit code {process.returncode}")
    places = {
        "pictures": out / "data" / dataset,
        "decoded": out / "data" / "decoded",
        "stages": results / "stages",
        "sweep": results / "sweeps" / f"rehearsal-{name}",
        "mlflow": results / "mlartifacts",
    }
    disk = {what: sum(_sizes(folder)) / 1e6 for what, folder in places.items()}
    return Phase(name, first, time.perf_counter() - started, driver, workers, disk)


def _memory(driver: int) -> tuple[float, float]:
    """Return the MB that a process holds, and those of all that it has started, shared pages counted once."""
    parents = {int(path.name): _parent(path) for path in Path("/proc").iterdir() if path.name.isdigit()}
    family = {driver}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return _proportional(driver), sum(_proportional(pid) for pid in family - {driver})


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _proportional(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
    except OSError:
        return 0.0


def _sizes(folder: Path) -> Iterator[float]:
    """Yield the bytes that each file takes on disk; holes of a sparse one take none."""
    for parent, _, files in os.walk(folder):
        for file in files:
            try:
                yield 512 * os.lstat(os.path.join(parent, file)).st_blocks
            except FileNotFoundError:
                continue


if __name__ == "__main__":
    sys.exit(main())
