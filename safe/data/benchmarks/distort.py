"""Clean character masks made into pictures: shape, stroke, background, clutter, contrast and noise, by whole batches.

Every strength is a range; each picture draws its own value from it, so a `Look` describes a family of pictures. The
small ViT is pre-trained on a broad family, and the `glyphs` stream is a family that lies beyond it by named amounts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Generator, Tensor
from torch.nn import functional

IMAGE_SIZE = 32
Range = tuple[float, float]


@dataclass(frozen=True)
class Look:
    """A family of pictures: every field is the (lowest, highest) value that one picture may draw.

    rotation: degrees; zoom: share of the picture that the ink spans; shear: offset per unit of height; shift: of the
    centre, in pixels; elastic: standard deviation of a smooth warp, in pixels; thicken: steps of 1.2 % of the ink's
    size, negative thins; outline: share of the stroke that is hollowed; rough: share of ink that is eaten away;
    blur: standard deviation, in pixels; contrast: |ink - background|, in units of the pixel range; dark: dark ink on
    light ground when positive, light on dark when negative; shading, stripes, noise: amplitude in units of the pixel
    range; clutter and lines: strength of pieces of other characters and of straight strokes, in units of the contrast.
    """

    rotation: Range
    zoom: Range
    shear: Range
    shift: Range
    elastic: Range
    thicken: Range
    outline: Range
    rough: Range
    blur: Range
    contrast: Range
    dark: Range
    shading: Range
    stripes: Range
    clutter: Range
    lines: Range
    noise: Range

    def towards(self, other: Look, strength: float) -> Look:
        """Return the family at `strength` of the way to another one: 0 is this one, 1 the other."""
        mixed = {}
        for field in fields(self):
            (a, b), (c, d) = getattr(self, field.name), getattr(other, field.name)
            mixed[field.name] = (a + strength * (c - a), b + strength * (d - b))
        return Look(**mixed)


PLAIN = Look(
    rotation=(-5.0, 5.0),
    zoom=(0.8, 0.95),
    shear=(-0.05, 0.05),
    shift=(-1.0, 1.0),
    elastic=(0.0, 0.2),
    thicken=(0.0, 0.5),
    outline=(0.0, 0.0),
    rough=(0.0, 0.0),
    blur=(0.3, 0.5),
    contrast=(0.7, 1.0),
    dark=(-1.0, 1.0),
    shading=(0.0, 0.05),
    stripes=(0.0, 0.0),
    clutter=(0.0, 0.0),
    lines=(0.0, 0.0),
    noise=(0.0, 0.03),
)
PRETRAINING = Look(
    rotation=(-18.0, 18.0),
    zoom=(0.6, 1.0),
    shear=(-0.25, 0.25),
    shift=(-3.0, 3.0),
    elastic=(0.0, 1.0),
    thicken=(-0.7, 2.0),
    outline=(-1.0, 0.5),
    rough=(-0.2, 0.2),
    blur=(0.2, 1.0),
    contrast=(0.3, 1.0),
    dark=(-1.0, 1.0),
    shading=(0.0, 0.2),
    stripes=(-0.1, 0.1),
    clutter=(-0.5, 0.5),
    lines=(-0.5, 0.5),
    noise=(0.0, 0.08),
)


class _Draw:
    """Draws per-picture values, shaped (N, 1, 1, 1), from one local generator."""

    def __init__(self, count: int, generator: Generator) -> None:
        self.count = count
        self.generator = generator

    def uniform(self, between: Range) -> Tensor:
        low, high = between
        return low + (high - low) * torch.rand(self.count, 1, 1, 1, generator=self.generator)

    def smooth(self, cells: int, channels: int = 1) -> Tensor:
        """Return smooth noise of unit amplitude with `cells` bumps a side, (N, channels, 32, 32)."""
        coarse = torch.randn(self.count, channels, cells, cells, generator=self.generator)
        return functional.interpolate(coarse, size=IMAGE_SIZE, mode="bilinear", align_corners=True)


def _thicken(ink: Tensor, steps: Tensor) -> Tensor:
    """Return the strokes grown by `steps` in [-1, 2], each a 3x3 maximum (or minimum), fractions interpolated."""
    grown = functional.max_pool2d(ink, 3, 1, 1)
    twice = functional.max_pool2d(grown, 3, 1, 1)
    thin = -functional.max_pool2d(-ink, 3, 1, 1)
    result = ink + steps.clamp(0, 1) * (grown - ink) + (steps - 1).clamp(0, 1) * (twice - grown)
    return result + (-steps).clamp(0, 1) * (thin - ink)


def _warp(
    ink: Tensor, angle: Tensor, zoom: Tensor, shear: Tensor, move_x: Tensor, move_y: Tensor, bend: Tensor
) -> Tensor:
    """Return `ink` (N, 1, 48, 48) sampled on the 32x32 picture; moves and `bend` (N, 2, 32, 32) in pixels."""
    cos, sin = torch.cos(angle * math.pi / 180) / zoom, torch.sin(angle * math.pi / 180) / zoom
    matrix = torch.cat([torch.cat([cos, -sin + shear, -move_x / 16], 3), torch.cat([sin, cos, -move_y / 16], 3)], 2)
    grid = functional.affine_grid(matrix[:, 0], [len(ink), 1, IMAGE_SIZE, IMAGE_SIZE], align_corners=False)
    return functional.grid_sample(ink, grid + bend.permute(0, 2, 3, 1) / 16, align_corners=False)


def _blur(image: Tensor, sigma: Tensor) -> Tensor:
    """Return a Gaussian blur with one `sigma` (pixels, up to about 1.5) for each picture, separable, radius 3."""
    taps = torch.arange(-3, 4).reshape(1, 7, 1, 1)
    weights = torch.exp(-0.5 * (taps / sigma.clamp_min(0.05)) ** 2)
    weights = weights / weights.sum(1, keepdim=True)
    for size, pad in (((7, 1), (0, 0, 3, 3)), ((1, 7), (3, 3, 0, 0))):
        padded = functional.pad(image, pad, mode="replicate").transpose(0, 1)
        image = functional.conv2d(padded, weights.reshape(-1, 1, *size), groups=len(weights)).transpose(0, 1)
    return image


def _waves(draw: _Draw, period: Range) -> Tensor:
    """Return sine stripes of random direction, phase and `period` (pixels), in [-1, 1]."""
    axis = torch.arange(IMAGE_SIZE, dtype=torch.float32)
    angle, phase = draw.uniform((0.0, math.pi)), draw.uniform((0.0, 2 * math.pi))
    along = axis[None, None, None] * torch.cos(angle) + axis[None, None, :, None] * torch.sin(angle)
    return torch.sin(2 * math.pi * along / draw.uniform(period) + phase)


def _line(draw: _Draw) -> Tensor:
    """Return one straight stroke across the picture, 1 to 2.5 pixels wide, in [0, 1]."""
    axis = torch.arange(IMAGE_SIZE, dtype=torch.float32) - (IMAGE_SIZE - 1) / 2
    angle, offset = draw.uniform((0.0, math.pi)), draw.uniform((-14.0, 14.0))
    across = axis[None, None, None] * torch.cos(angle) + axis[None, None, :, None] * torch.sin(angle) - offset
    return (draw.uniform((0.5, 1.25)) + 0.5 - across.abs()).clamp(0, 1)


def distort(masks: Tensor, others: Tensor, look: Look, generator: Generator) -> Tensor:
    """Return pictures of `masks` in the family `look`, float32 (N, 1, 32, 32) in [0, 1].

    masks: uint8 (N, 48, 48), clean ink. others: uint8 (N, 48, 48), characters whose pieces are the clutter.
    """
    draw = _Draw(len(masks), generator)
    ink = _thicken(masks[:, None].float() / 255.0, draw.uniform(look.thicken))
    core = -functional.max_pool2d(-ink, 3, 1, 1)
    ink = ink - draw.uniform(look.outline).clamp(0, 1) * core
    # The ink spans 40 of 48 mask pixels: the factor makes `zoom` its share of the picture.
    ink = _warp(
        ink,
        draw.uniform(look.rotation),
        draw.uniform(look.zoom) * 48 / 40,
        draw.uniform(look.shear),
        draw.uniform(look.shift),
        draw.uniform(look.shift),
        draw.smooth(4, 2) * draw.uniform(look.elastic),
    )
    eaten = torch.sigmoid(6 * (draw.smooth(12) + 3 * draw.uniform(look.rough).clamp_min(0) - 1.5))
    ink = ink * (1 - eaten * (draw.uniform(look.rough) > 0))
    side = draw.uniform((0.0, 2 * math.pi))
    away = draw.uniform((12.0, 17.0))
    piece = _warp(
        others[:, None].float() / 255.0,
        draw.uniform((-180.0, 180.0)),
        draw.uniform((0.6, 1.1)),
        torch.zeros(len(masks), 1, 1, 1),
        away * torch.cos(side),
        away * torch.sin(side),
        torch.zeros(len(masks), 2, IMAGE_SIZE, IMAGE_SIZE),
    )
    contrast = draw.uniform(look.contrast)
    dark = (draw.uniform(look.dark) > 0).float()
    low = draw.uniform((0.0, 1.0)) * (1 - contrast)
    ground = low + contrast * dark
    signed = contrast * (1 - 2 * dark)
    clutter = torch.maximum(
        draw.uniform(look.clutter).clamp_min(0) * piece, draw.uniform(look.lines).clamp_min(0) * _line(draw)
    )
    shading = draw.uniform(look.shading)
    picture = ground + signed * clutter + shading * draw.smooth(3)
    picture = picture + ink * (ground + signed + shading * draw.smooth(5) - picture)
    picture = _blur(picture, draw.uniform(look.blur))
    picture = picture + draw.uniform(look.stripes).clamp_min(0) * _waves(draw, (3.0, 8.0))
    noise = torch.randn(picture.shape, generator=generator)
    return (picture + draw.uniform(look.noise) * noise).clamp(0, 1)
