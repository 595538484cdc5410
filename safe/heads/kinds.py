"""The kinds of heads that come with the package; each brings torch only once it is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict, Unpack

from safe.heads.registry import register_head

if TYPE_CHECKING:
    import torch

    from safe.heads.anacp import AnaCPHead
    from safe.heads.class_gaussian import ClassGaussianHead
    from safe.heads.class_means import ClassMeansHead
    from safe.heads.gaussian import GaussianHead
    from safe.heads.projection import Projection
    from safe.heads.ridge import RidgeChoice, RidgeHead


class Projected(TypedDict):
    """The settings of a head on random features of the features."""

    projection_dim: int
    projection_seed: int
    projection_density: float
    activation: str
    activation_share: float
    fourier_gamma: float


class Ridged(Projected):
    """Those of a head with a ridge on them."""

    ridge_grid: Sequence[float]
    ridge_split: float
    ridge_choice: RidgeChoice


def _projection(width: int, device: torch.device | str, given: Projected) -> Projection:
    from safe.heads.projection import Projection

    return Projection(
        width,
        given["projection_dim"],
        given["projection_seed"],
        device,
        given["activation"],
        given["activation_share"],
        given["projection_density"],
        given["fourier_gamma"],
    )


def _ridge(width: int, device: torch.device | str, given: Ridged) -> RidgeHead:
    from safe.heads.ridge import RidgeHead

    projection = _projection(width, device, given)
    return RidgeHead(projection, given["ridge_grid"], given["ridge_split"], given["ridge_choice"])


@register_head("ridge", settings=Ridged)
def ridge(width: int, device: torch.device | str, **given: Unpack[Ridged]) -> RidgeHead:
    """Ridge regression on randomly projected features."""
    return _ridge(width, device, given)


@register_head("gaussian", settings=Projected)
def gaussian(
    width: int, device: torch.device | str, *, covariance: str, shrinkage: float | str, **given: Unpack[Projected]
) -> GaussianHead | ClassGaussianHead:
    """Gaussian class densities on features or random features of them."""
    from safe.heads.class_gaussian import ClassGaussianHead
    from safe.heads.gaussian import GaussianHead

    of_covariance = GaussianHead if covariance == "shared" else ClassGaussianHead
    return of_covariance(_projection(width, device, given), shrinkage)


@register_head("anacp", settings=Ridged)
def anacp(
    width: int,
    device: torch.device | str,
    *,
    anacp_layers: int,
    anacp_draws: int,
    anacp_spread: float,
    **given: Unpack[Ridged],
) -> AnaCPHead:
    """Features adapted in closed form to all classes so far, then ridge regression on Gaussian draws of them."""
    from safe.heads.anacp import AnaCPHead
    from safe.seeding import derive_seed

    first = given["projection_seed"]
    others = range(1, anacp_layers if given["projection_dim"] else 1)  # without projections all layers would be one
    seeds = [first, *(derive_seed(first, "layer", number) for number in others)]
    layers = [_ridge(width, device, {**given, "projection_seed": seed}) for seed in seeds]
    last: Ridged = {**given, "projection_seed": derive_seed(first, "classifier")}
    return AnaCPHead(layers, _projection(width, device, last), anacp_draws, anacp_spread)


@register_head("class_means")
def class_means(width: int, device: torch.device | str) -> ClassMeansHead:
    """Cosine to each class's mean feature."""
    from safe.heads.class_means import ClassMeansHead

    return ClassMeansHead(width, device)


@register_head("cosine", closed_form=False)
def cosine(width: int, device: torch.device | str) -> None:
    """Cosine to the rows that gradient steps trained."""
