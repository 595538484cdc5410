"""What the machine was busy with: CPU, memory and GPUs, read from the operating system, as fractions in [0, 1].

MLflow's own sampler needs a process that opens the store. A worker of a sweep does not: it reads a meter once a
session and hands the numbers up with its other metrics. The names begin with "system/", where MLflow's UI shows them.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_TIMEOUT_S = 5


class SystemMeter:
    """Reads the whole machine; what cannot be read here (no Linux, no NVIDIA driver) is absent.

    Args:
        proc: where the kernel shows its counters.
        nvidia_smi: command that reads the GPUs.
    """

    def __init__(self, proc: Path = Path("/proc"), nvidia_smi: str = "nvidia-smi") -> None:
        self._proc = proc
        self._nvidia_smi = nvidia_smi
        self._ticks = self._cpu_ticks()

    def read(self) -> dict[str, float]:
        """Return the newest numbers.

        - `system/cpu_utilization`: share of all cores' time since the last reading, or since the meter was made;
        - `system/memory_utilization`: share of the memory that is not available to new programs, now;
        - `system/gpu_utilization`, `system/gpu_memory_utilization`: now, mean over the GPUs that CUDA_VISIBLE_DEVICES
          leaves to this process.
        """
        return self._cpu() | self._memory() | self._gpu()

    def _cpu(self) -> dict[str, float]:
        before, self._ticks = self._ticks, self._cpu_ticks()
        if before is None or self._ticks is None or self._ticks[1] <= before[1]:
            return {}
        busy, total = (now - then for now, then in zip(self._ticks, before, strict=True))
        return {"system/cpu_utilization": busy / total}

    def _cpu_ticks(self) -> tuple[int, int] | None:
        """Return the ticks that all cores were busy, and all ticks, since the machine started."""
        try:
            ticks = [int(word) for word in (self._proc / "stat").read_text().splitlines()[0].split()[1:9]]
            idle = ticks[3] + ticks[4]  # idle, and waiting for the disk
        except (OSError, ValueError, IndexError):
            return None
        return sum(ticks) - idle, sum(ticks)

    def _memory(self) -> dict[str, float]:
        try:
            lines = (line.split() for line in (self._proc / "meminfo").read_text().splitlines())
            kilobytes = {words[0]: int(words[1]) for words in lines}
            return {"system/memory_utilization": 1 - kilobytes["MemAvailable:"] / kilobytes["MemTotal:"]}
        except (OSError, ValueError, LookupError):
            return {}

    def _gpu(self) -> dict[str, float]:
        fields = "--query-gpu=utilization.gpu,memory.used,memory.total"
        command = [self._nvidia_smi, fields, "--format=csv,noheader,nounits"]
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible == "":
            return {}
        if visible:
            command.append(f"--id={visible}")
        try:
            text = subprocess.run(command, capture_output=True, check=True, text=True, timeout=_TIMEOUT_S).stdout
            rows = [[float(cell) for cell in line.split(",")] for line in text.splitlines()]
            shares = [(busy / 100, used / total) for busy, used, total in rows]
            busy, memory = (sum(column) / len(column) for column in zip(*shares, strict=True))
        except (OSError, ValueError, subprocess.SubprocessError, ZeroDivisionError):
            return {}
        return {"system/gpu_utilization": busy, "system/gpu_memory_utilization": memory}
