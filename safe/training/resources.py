"""What a session takes of the machine: peak memory and training speed."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

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


def measured(device: torch.device, images: int, seconds: float) -> dict[str, float]:
    """Return as metrics the peak of memory since `reset_peak` and the speed of training, without what is not known."""
    values = {
        "time/images_per_second": images_per_second(images, seconds),
        "memory/peak_mib": peak_mib(device),
        "memory/total_mib": total_mib(device),
    }
    return {name: value for name, value in values.items() if value is not None}


def available_bytes(root: Path = Path("/")) -> int | None:
    """Return the memory that this process can still get: what Linux calls available, at most what its control groups
    leave, as a container's limit; `None` on other systems.

    Args:
        root: of the file system that /proc and /sys/fs/cgroup are read from.
    """
    try:
        lines = (line.split() for line in (root / "proc/meminfo").read_text().splitlines())
        free = {words[0]: int(words[1]) * 1024 for words in lines if len(words) > 1}["MemAvailable:"]
    except (OSError, KeyError):
        return None
    return max(0, min([free, *_left_by_groups(root)]))


def _left_by_groups(root: Path) -> Iterator[int]:
    """Yield what the limit of each control group of this process leaves; files that are only cached count as free."""
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0":
                mount, limit, usage, cached = "", "memory.max", "memory.current", "inactive_file"
            elif "memory" in controllers.split(","):
                mount, limit, usage = "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
                cached = "total_inactive_file"
            else:
                continue
            # A container may see its own group as the root, or under the path that the host gives it.
            inside = Path(path.lstrip("/"))
            for group in (root / "sys/fs/cgroup" / mount / part for part in (inside, *inside.parents)):
                with suppress(OSError, ValueError):  # no such group here, or "max": no limit
                    most = int((group / limit).read_text())
                    used = int((group / usage).read_text())
                    stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
                    yield most - used + int(stat.get(cached, 0))
