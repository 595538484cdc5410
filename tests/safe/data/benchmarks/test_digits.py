"""The handwritten digits: counts, split and digest."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits as load_digit_images

from safe.data.benchmarks.digits import load_digits


def test_the_split_takes_a_fifth_of_every_class_and_every_image_once() -> None:
    data = load_digits()
    assert data.classes == tuple("0123456789")
    assert len(data.train) + len(data.test) == 1797
    train, test = torch.bincount(data.train.labels), torch.bincount(data.test.labels)
    assert test.tolist() == [round(0.2 * int(total)) for total in train + test]
    pictures = torch.cat([part.read(torch.arange(len(part)))[:, 0] for part in (data.train, data.test)])
    original = torch.from_numpy(load_digit_images().images).sum((1, 2)).sort().values
    # Bilinear enlarging by 4 keeps the mean up to the border and rounding; the multisets must agree.
    kept = (pictures.float().mean((1, 2)) * 64 * 16 / 255).sort().values
    assert float((kept - original).abs().max()) < 2.0


def test_pixels_span_the_byte_range_and_corners_keep_their_value() -> None:
    data = load_digits()
    pixels = data.train.read(torch.arange(len(data.train)))
    assert pixels.shape == (1438, 3, 32, 32)
    assert pixels.dtype == torch.uint8
    assert int(pixels.min()) == 0
    assert int(pixels.max()) == 255
    corners = {round(value * 255 / 16) for value in load_digit_images().images[:, 0, 0]}
    assert set(pixels[:, 0, 0, 0].tolist()) <= corners


def test_the_digest_is_fixed_whatever_the_global_random_state() -> None:
    first = load_digits().digest
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        assert load_digits().digest == first
