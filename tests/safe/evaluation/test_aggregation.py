"""Entropy-weighted aggregation against float64 loops, its limits and the released values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from safe.evaluation.aggregation import aggregate, entropy, entropy_weights
from safe.seeding import generator

TEMPERATURES = [10.0**e for e in range(-9, 10)]


def logits(seed: int, rows: int = 20, classes: int = 6, dtype: torch.dtype = torch.float64) -> Tensor:
    return 3 * torch.randn(rows, classes, generator=generator(seed, "logits"), dtype=dtype)


def entropy_oracle(z: np.ndarray) -> float:
    e = np.exp(z - z.max())
    p = e / e.sum()
    return -sum(v * math.log(v) for v in p if v > 0)


@pytest.mark.parametrize("scalar", ["1", "100", "0.1"])
def test_released_logits(reference: dict[str, Tensor], scalar: str) -> None:
    slow, fast = (reference[f"aggregate/{scalar}/{name}_logits"] for name in ("slow", "fast"))
    expected = reference[f"aggregate/{scalar}/logits"]
    got = aggregate(slow, fast, "entropy", 1 / float(scalar))
    assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("temperature", [1e-2, 0.3, 1.0, 7.0, 1e4])
def test_weights_and_logits_equal_the_loop(temperature: float) -> None:
    slow, fast = logits(0), logits(1)
    w_slow, w_fast = entropy_weights(slow, fast, temperature)
    combined = aggregate(slow, fast, "entropy", temperature)
    for n in range(len(slow)):
        h_slow, h_fast = entropy_oracle(slow[n].numpy()), entropy_oracle(fast[n].numpy())
        top = max(-h_slow / temperature, -h_fast / temperature)
        e_slow, e_fast = math.exp(-h_slow / temperature - top), math.exp(-h_fast / temperature - top)
        a, b = e_slow / (e_slow + e_fast), e_fast / (e_slow + e_fast)
        assert (w_slow[n].item(), w_fast[n].item()) == pytest.approx((a, b), rel=1e-9, abs=1e-300), (temperature, n)
        expected = a * slow[n].numpy() + b * fast[n].numpy()
        assert combined[n].tolist() == pytest.approx(expected.tolist(), rel=1e-9), (temperature, n)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_weights_are_finite_and_sum_to_one_at_every_temperature(temperature: float, dtype: torch.dtype) -> None:
    w_slow, w_fast = entropy_weights(logits(2, dtype=dtype), logits(3, dtype=dtype), temperature)
    for w in (w_slow, w_fast):
        assert w.dtype == dtype
        assert ((w >= 0) & (w <= 1)).all()
    assert torch.allclose(w_slow + w_fast, torch.ones_like(w_slow), rtol=0, atol=1e-6)


def test_limits_of_the_temperature() -> None:
    slow, fast = logits(2), logits(3)
    surer = torch.tensor([entropy_oracle(a) < entropy_oracle(b) for a, b in zip(slow.numpy(), fast.numpy())])  # noqa: B905
    assert surer.any()
    assert not surer.all()
    assert torch.equal(entropy_weights(slow, fast, 1e-9)[0], surer.double())
    assert torch.equal(aggregate(slow, fast, "entropy", 1e-9), torch.where(surer.unsqueeze(1), slow, fast))
    assert torch.allclose(entropy_weights(slow, fast, 1e9)[0], torch.full((20,), 0.5, dtype=torch.float64), atol=1e-8)
    assert torch.allclose(aggregate(slow, fast, "entropy", 1e9), aggregate(slow, fast, "mean", 1.0), atol=1e-7)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_equal_entropies_weigh_one_half_exactly(temperature: float) -> None:
    z = logits(4)
    for w in entropy_weights(z, z.clone(), temperature):
        assert (w == 0.5).all()


def test_the_two_learners_are_interchangeable() -> None:
    a, b = logits(5), logits(6)
    assert torch.allclose(aggregate(a, b, "entropy", 0.2), aggregate(b, a, "entropy", 0.2), rtol=1e-12)


def test_entropy_of_known_distributions() -> None:
    assert entropy(torch.zeros(3, 8, dtype=torch.float64)).tolist() == pytest.approx([math.log(8)] * 3, rel=1e-14)
    assert entropy(torch.tensor([[2.0]])).item() == 0
    assert entropy(torch.tensor([[0.0, 1e4, -1e4]])).item() == 0
    half = torch.tensor([[math.log(0.5), math.log(0.25), math.log(0.25)]], dtype=torch.float64)
    assert entropy(half).item() == pytest.approx(1.5 * math.log(2), rel=1e-14)


def test_huge_logits_stay_finite() -> None:
    slow, fast = torch.tensor([[1e30, -1e30]]), torch.tensor([[0.0, 0.0]])
    assert aggregate(slow, fast, "entropy", 1e-9).tolist() == [[pytest.approx(1e30), pytest.approx(-1e30)]]


def test_other_kinds() -> None:
    slow, fast = torch.tensor([[1.0, 5.0]]), torch.tensor([[3.0, 2.0]])
    expected = {"mean": [2.0, 3.5], "max": [3.0, 5.0], "slow": [1.0, 5.0], "fast": [3.0, 2.0]}
    assert {kind: aggregate(slow, fast, kind, 1.0)[0].tolist() for kind in expected} == expected


def test_unknown_kind_and_bad_temperatures_are_refused() -> None:
    z = torch.zeros(1, 2)
    with pytest.raises(ValueError, match="entropy, mean, max, slow or fast, got 'median'"):
        aggregate(z, z, "median", 1.0)
    for temperature in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"above 0, got {temperature}"):
            entropy_weights(z, z, temperature)
