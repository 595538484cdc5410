"""GPUs by name, for reckoning before any is there: peaks as their makers publish them, dense, without sparsity."""

from __future__ import annotations

import re
from dataclasses import dataclass

from safe.errors import UserError, choices

SHARE = 0.4
"""Share of the peak that training and reading are taken to reach; a stated guess, not a measurement."""


@dataclass(frozen=True)
class Device:
    """Peaks of one GPU in TFLOP/s: matrix products in bf16 with float32 sums, and float32."""

    name: str
    bf16: float
    float32: float

    def seconds(self, network: float, head: float) -> float:
        """Return the seconds that floating point operations take: of networks in bf16, of heads in float32."""
        return (network / self.bf16 + head / self.float32) / (SHARE * 1e12)


DEVICES = {
    device.name: device
    for device in (
        Device("h100", 989, 67),
        Device("h200", 989, 67),
        Device("a100", 312, 19.5),
        Device("l40s", 362, 91.6),
        Device("4090", 165, 82.6),
    )
}


def parse_devices(words: str) -> tuple[Device, int]:
    """Return the device and how many of `h100x8`; without a number it is one.

    Raises:
        UserError: an unknown device, or a number below 1.
    """
    name, number = words.strip().lower(), 1
    if match := re.fullmatch(r"(.+)x(\d+)", name):
        name, number = match[1], int(match[2])
    if name not in DEVICES:
        raise UserError(f"--on {words}: {choices(name, DEVICES, 'device')} Ask for several as {next(iter(DEVICES))}x8.")
    if number < 1:
        raise UserError(f"--on {words}: at least one device is needed, as in {name}x1")
    return DEVICES[name], number
