"""Named random generators: every random choice has its own stream, derived from a seed and a name.

Nothing here (nor anywhere in `safe`) touches the global random state of torch, numpy or Python, so a run is
independent of what the surrounding process did, and one choice can change without shifting the others.
"""

from __future__ import annotations

import hashlib

import torch


def derive_seed(seed: int, *name: str | int) -> int:
    """Return a 63-bit seed that depends on `seed` and every part of `name` (SHA-256, stable across machines)."""
    text = "\x1f".join([str(seed), *(f"{type(part).__name__}:{part}" for part in name)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *name: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a torch generator on `device` for the random choice called `name`."""
    return torch.Generator(device=device).manual_seed(derive_seed(seed, *name))
