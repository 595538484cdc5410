"""How many runs at a time this machine takes, and how many threads each has."""

from __future__ import annotations

import os
from typing import Literal

from safe.config import Config
from safe.errors import UserError

MOST_ON_A_GPU = 4  # runs on one GPU under `auto`: more slow each other down without using it better


def resources(config: Config, concurrency: int | None, gpus_per_trial: float | str | None = None) -> tuple[int, int]:
    """Return (threads of a run, runs at a time), so that nothing is oversubscribed.

    One run a core; with GPUs one run a GPU, or as many as `gpus_per_trial` says, but not more than cores.
    """
    gpus = gpu_count() if config.runtime.device != "cpu" else 0
    cores = core_count()
    if concurrency is None and gpus:
        concurrency = min(gpus * _runs_a_gpu(gpus_per_trial), max(gpus, cores))
    concurrency = concurrency or max(1, cores // (config.runtime.threads or 1))
    return config.runtime.threads or max(1, cores // concurrency), concurrency


def _runs_a_gpu(gpus_per_trial: float | str | None) -> int:
    if gpus_per_trial == "auto":
        return MOST_ON_A_GPU
    return max(1, int(1 / float(gpus_per_trial))) if gpus_per_trial else 1


def core_count() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu_count() -> int:
    """Return how many GPUs torch can use here."""
    import torch

    return torch.cuda.device_count()


GpusPerTrial = float | Literal["auto"] | None


def check_share(asked: GpusPerTrial, gpus: float) -> None:
    """Refuse a share of more GPUs than runs may take."""
    if not isinstance(asked, (int, float)):
        return
    if not gpus:
        raise UserError(f"--gpus-per-trial {asked:g}: there is no GPU that runs may take; leave it out")
    if asked > gpus:
        raise UserError(f"--gpus-per-trial {asked:g}: there are {gpus:g} GPUs; ask for at most that")


def ray_address() -> str | None:
    """Return the address of the Ray to join, None when sweeps start their own."""
    address = os.environ.get("RAY_ADDRESS", "").strip()
    return None if address in ("", "local") else address
