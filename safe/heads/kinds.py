"""The kinds of heads that come with the package; each brings torch only once it is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from safe.heads.registry import register_head

if TYPE_CHECKING:
    import torch

    from safe.heads.anacp import AnaCPHead
    from safe.heads.class_gaussian import ClassGaussianHead
    from safe.heads.class_means import ClassMeansHead
    from safe.heads.gaussian import GaussianHead
    from safe.heads.ridge import RidgeChoice, RidgeHead


@register_head("ridge")
def ridge(
    width: int,
    device: torch.device | str,
    *,
    projection_dim: int,
    projection_seed: int,
    ridge_grid: Sequence[float],
    ridge_split: float,
    ridge_choice: RidgeChoice,
    projection_density: float,
    activation: str,
    activation_share: float,
    fourier_gamma: float,
) -> RidgeHead:
    """Ridge regression on randomly projected features."""
    from safe.heads.projection import Projection
    from safe.heads.ridge import RidgeHead

    shape = (width, projection_dim, projection_seed, device)
    projection = Projection(*shape, activation, activation_share, projection_density, fourier_gamma)
    return RidgeHead(projection, ridge_grid, ridge_split, ridge_choice)


@register_head("gaussian")
def gaussian(
    width: int,
    device: torch.device | str,
    *,
    projection_dim: int,
    projection_seed: int,
    covariance: str,
    shrinkage: float | str,
    projection_density: float,
    activation: str,
    activation_share: float,
    fourier_gamma: float,
) -> GaussianHead | ClassGaussianHead:
    """Gaussian class densities on features or random features of them."""
    from safe.heads.class_gaussian import ClassGaussianHead
    from safe.heads.gaussian import GaussianHead
    from safe.heads.projection import Projection

    shape = (width, projection_dim, projection_seed, device)
    projection = Projection(*shape, activation, activation_share, projection_density, fourier_gamma)
    return (GaussianHead if covariance == "shared" else ClassGaussianHead)(projection, shrinkage)


@register_head("anacp")
def anacp(
    width: int,
    device: torch.device | str,
    *,
    projection_dim: int,
    projection_seed: int,
    ridge_grid: Sequence[float],
    ridge_split: float,
    ridge_choice: RidgeChoice,
    projection_density: float,
    activation: str,
    activation_share: float,
    fourier_gamma: float,
    anacp_layers: int,
    anacp_draws: int,
    anacp_spread: float,
) -> AnaCPHead:
    """Features adapted in closed form to all classes so far, then ridge regression on Gaussian draws of them."""
    from safe.heads.anacp import AnaCPHead
    from safe.heads.projection import Projection
    from safe.heads.ridge import RidgeHead
    from safe.seeding import derive_seed

    def projection(seed: int) -> Projection:
        shape = (width, projection_dim, seed, device)
        return Projection(*shape, activation, activation_share, projection_density, fourier_gamma)

    others = range(1, anacp_layers if projection_dim else 1)  # without projections all layers would be one
    seeds = [projection_seed, *(derive_seed(projection_seed, "layer", number) for number in others)]
    layers = [RidgeHead(projection(seed), ridge_grid, ridge_split, ridge_choice) for seed in seeds]
    return AnaCPHead(layers, projection(derive_seed(projection_seed, "classifier")), anacp_draws, anacp_spread)


@register_head("class_means")
def class_means(width: int, device: torch.device | str) -> ClassMeansHead:
    """Cosine to each class's mean feature."""
    from safe.heads.class_means import ClassMeansHead

    return ClassMeansHead(width, device)


@register_head("cosine", closed_form=False)
def cosine(width: int, device: torch.device | str) -> None:
    """Cosine to the rows that gradient steps trained."""
