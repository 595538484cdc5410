"""The kinds of values that settings take: numbers in a range, and how pixels are normalised."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from safe.errors import choices, shortened

# Strict, so that `true` is no number and "0.5" is a text; whole numbers pass as fractions.
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Count = Annotated[int, Field(ge=1, lt=2**31, strict=True)]
WholeNumber = Annotated[int, Field(ge=0, lt=2**31, strict=True)]
Seed = WholeNumber
Share = Annotated[float, Field(ge=0, lt=1, strict=True)]
CropShare = Annotated[float, Field(ge=0.1, le=1, strict=True)]
Side = Annotated[int, Field(ge=1, le=4096, strict=True)]  # beyond it no ViT can be built, let alone trained
NORMS = ("none", "pretrained")


def _input_norm(value: Any) -> Any:
    if isinstance(value, str) and value not in NORMS:
        raise ValueError(choices(value, NORMS, "normalisation"))
    if isinstance(value, str):
        return value
    try:
        mean, std = (tuple(float(number) for number in part) for part in value)
        right = len(mean) == len(std) == 3 and all(map(math.isfinite, (*mean, *std))) and min(std) > 0
    except (TypeError, ValueError):
        right = False
    if not right:
        raise ValueError(
            "must be none, pretrained or mean and standard deviation of red, green and blue in [0, 1], for example "
            f"[[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]; got {shortened(repr(value))}"
        )
    return mean, std


InputNorm = Annotated[str | tuple[tuple[float, ...], tuple[float, ...]], BeforeValidator(_input_norm)]
