"""The kinds of values that settings take: numbers in a range, and how pixels are normalised."""

from __future__ import annotations

import math
from collections import Counter
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from safe.errors import choices, nearest, shortened

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
ORDERS = ("seeded", "natural")


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


def _class_order(value: Any) -> Any:
    if isinstance(value, str):
        if value not in ORDERS:
            raise ValueError(
                f"there is no file {value!r} with one class name a line; orders without one are {', '.join(ORDERS)}."
                f"{nearest(value, ORDERS)}"
            )
        return value
    if not isinstance(value, list | tuple) or not value or not all(isinstance(name, str) and name for name in value):
        raise ValueError(
            f"must be {', '.join(ORDERS)}, a file with one class name a line, or the names as a list of texts (numbers "
            f"in quotes); got {shortened(repr(value))}"
        )
    often, count = Counter(value).most_common(1)[0]
    if count > 1:
        raise ValueError(f"every class stands once in the order, but {often!r} stands {count} times")
    return tuple(value)


ClassOrder = Annotated[str | tuple[str, ...], BeforeValidator(_class_order)]
