"""What a session takes of the machine: peak memory and training speed."""

from __future__ import annotations

import resource
import sys

import torch

_MIB = 2**20


def reset_peak(device: torch.device) -> None:
    """Begin a new measurement of peak memory on a GPU; a process's own peak cannot be reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_mib(device: torch.device) -> float:
    """Return peak memory in MiB: of the tensors on a GPU since `reset_peak`, else of the process since its start."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / _MIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / _MIB if sys.platform == "darwin" else peak / 1024  # there it is counted in bytes


def total_mib(device: torch.device) -> float | None:
    """Return the memory of a GPU in MiB; `None` on a CPU, which other processes use too."""
    return torch.cuda.get_device_properties(device).total_memory / _MIB if device.type == "cuda" else None


def images_per_second(images: int, seconds: float) -> float | None:
    """Return the speed of training, each image counted once an epoch; `None` where nothing was trained."""
    return images / seconds if images and seconds > 0 else None
