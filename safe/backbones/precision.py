"""The floating-point format that networks run in, and whether torch may choose algorithms that differ between runs.

Only forward passes of networks are lowered. Features come out as float32, and so heads, losses and closed-form
statistics stay float32.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

Precision = Literal["float32", "bf16"]
FEW_PATCHES = 64
WIDE = 384  # channels of a network from which bf16 pays on a CPU: at 384 it does, at 128 it gains nothing
FAST_BF16 = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}  # by torch's name of the instructions


def resolve_precision(setting: str, device: torch.device) -> Precision:
    """Return what `runtime.precision` means on a device: `auto` is bf16 on a GPU that computes in it, else float32."""
    if setting == "auto":
        native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if native else "float32"
    return "bf16" if setting == "bf16" else "float32"


def bf16_hint(setting: str, device: torch.device, width: int) -> str:
    """Return in words that bf16 would pay where `runtime.precision` means float32, or nothing where it would not.

    It does on a CPU with instructions for bf16, and with a network of at least `WIDE` channels.
    """
    if device.type != "cpu" or width < WIDE or resolve_precision(setting, device) == "bf16":
        return ""
    present: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # of newer versions of torch
    fast = next((name for flag, name in FAST_BF16.items() if present.get(flag)), None)
    if fast is None:
        return ""
    return f"runtime.precision=bf16 is likely to be faster on this processor, which has {fast}"


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context in which a network's forward pass runs; float32 also shuts out a surrounding autocast."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


@dataclass(frozen=True)
class LoweredNet:
    """A `PetViT` as the losses call it, with its forward pass and that of its `base` under bf16 autocast."""

    net: Any

    def __call__(self, images: Tensor) -> Tensor:
        """Return float32 features (B, D) of images (B, 3, S, S)."""
        with autocast(images.device, "bf16"), _attention(getattr(self.net, "vit", self.net), images.device):
            features: Tensor = self.net(images)
        return features.float()

    @property
    def base(self) -> Callable[[Tensor], Tensor]:
        """Return the frozen pre-trained network in the same precision."""
        return replace(self, net=self.net.base)


def _attention(vit: Any, device: torch.device) -> AbstractContextManager[None]:
    """Return the context in which attention runs where gradients may be wanted.

    Backward in bf16 on a CPU, torch's fused attention takes several times as long as plain products do, whose memory
    grows with the square of the tokens.
    """
    if device.type == "cpu" and int(vit.patch_embed.num_patches) <= FEW_PATCHES:
        return sdpa_kernel(SDPBackend.MATH)
    return nullcontext()


@contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """Let torch use deterministic algorithms only, and refuse operations that have none; restored afterwards.

    Nothing happens unless `wanted`. On a GPU cuBLAS needs a fixed workspace for it (`CUBLAS_WORKSPACE_CONFIG`), which
    is set for the process unless it is set already.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
