"""The kinds of heads that come with the package; each brings torch only once it is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from safe.heads.registry import register_head

if TYPE_CHECKING:
    import torch

    from safe.heads.class_means import ClassMeansHead
    from safe.heads.ridge import RidgeHead


@register_head("ridge")
def ridge(
    width: int,
    device: torch.device | str,
    *,
    projection_dim: int,
    projection_seed: int,
    ridge_grid: Sequence[float],
    ridge_split: float,
    ridge_choice: Literal["split", "pooled"],
) -> RidgeHead:
    """Ridge regression on randomly projected features."""
    from safe.heads.projection import Projection
    from safe.heads.ridge import RidgeHead

    projection = Projection(width, projection_dim, projection_seed, device)
    return RidgeHead(projection, ridge_grid, ridge_split, ridge_choice)


@register_head("class_means")
def class_means(width: int, device: torch.device | str) -> ClassMeansHead:
    """Cosine to each class's mean feature."""
    from safe.heads.class_means import ClassMeansHead

    return ClassMeansHead(width, device)


@register_head("cosine", closed_form=False)
def cosine(width: int, device: torch.device | str) -> None:
    """Cosine to the rows that gradient steps trained."""
