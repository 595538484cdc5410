"""The loss terms against float64 loops and the values of the released code."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from safe.losses import cross_correlation, cross_term, feature_term, transfer_terms
from safe.seeding import generator

RELEASED = 1e-5  # relative to the largest value, tests/reference/README.md


def features(batch: int, width: int, seed: int) -> Tensor:
    return torch.randn(batch, width, generator=generator(seed, "features"), dtype=torch.float64)


def correlation_oracle(a: np.ndarray, b: np.ndarray, kind: str) -> np.ndarray:
    a, b = a.copy(), b.copy()
    for x in (a, b):
        if kind == "sample":
            for row in x:
                row /= math.sqrt(sum(v * v for v in row))
        else:
            for column in x.T:
                mean = sum(column) / len(column)
                column -= mean
                column /= math.sqrt(sum(v * v for v in column) / len(column))
    width = a.shape[1]
    c = np.zeros((width, width))
    for i in range(width):
        for j in range(width):
            c[i, j] = sum(a[n, i] * b[n, j] for n in range(len(a))) / len(a)
    return c


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / math.sqrt((a @ a) * (b @ b)))


def cross_entropy(x: np.ndarray, rows: np.ndarray, scale: float, labels: list[int]) -> float:
    total = 0.0
    for f, label in zip(x, labels, strict=True):
        logits = [scale * cosine(f, row) for row in rows]
        total += math.log(sum(math.exp(z) for z in logits)) - logits[label]
    return total / len(x)


@pytest.mark.parametrize("kind", ["sample", "batch"])
@pytest.mark.parametrize(("batch", "width"), [(5, 3), (4, 7), (2, 1)])
def test_correlation_and_transfer_terms_equal_the_loops(kind: str, batch: int, width: int) -> None:
    slow, ptm = features(batch, width, 1), features(batch, width, 2)
    oracle = correlation_oracle(slow.numpy(), ptm.numpy(), kind)
    assert np.allclose(cross_correlation(slow, ptm, kind).numpy(), oracle, rtol=1e-12, atol=1e-14)
    diag = sum((1 - oracle[i, i]) ** 2 for i in range(width))
    offdiag = sum(oracle[i, j] ** 2 for i in range(width) for j in range(width) if i != j)
    if kind == "batch":
        diag, offdiag = diag / width, offdiag / max(1, width * (width - 1))
    got = transfer_terms(slow, ptm, kind)
    assert [t.item() for t in got] == pytest.approx([diag, offdiag], rel=1e-11, abs=1e-14)


def test_released_transfer_terms(reference: dict[str, Tensor]) -> None:
    diag, offdiag = transfer_terms(reference["loss/f_slow"], reference["loss/f_ptm"])
    assert diag.item() == pytest.approx(reference["loss/diag_sum"].item(), rel=RELEASED)
    assert offdiag.item() == pytest.approx(reference["loss/offdiag_sum"].item(), rel=RELEASED)


def test_trace_of_the_sample_correlation_is_the_mean_cosine() -> None:
    slow, ptm = features(6, 4, 3), features(6, 4, 4)
    mean = np.mean([cosine(a, b) for a, b in zip(slow.numpy(), ptm.numpy(), strict=True)])
    assert cross_correlation(slow, ptm, "sample").trace().item() == pytest.approx(mean, rel=1e-12)


def test_offdiagonal_term_is_the_mean_over_pairs_of_images_of_both_cosines() -> None:
    """So it drives apart all images that the PTM sees alike, those of one class too, whatever the width."""
    for batch, width in ((9, 4), (6, 40)):
        slow, ptm = features(batch, width, 0), features(batch, width, 1) + 1
        pairs = [
            float(torch.cosine_similarity(slow[a], slow[b], dim=0) * torch.cosine_similarity(ptm[a], ptm[b], dim=0))
            for a in range(batch)
            for b in range(batch)
        ]
        on = float(cross_correlation(slow, ptm, "sample").diagonal().square().sum())
        assert float(transfer_terms(slow, ptm)[1]) + on == pytest.approx(sum(pairs) / batch**2, rel=1e-12)


def test_batch_correlation_of_equal_features_has_ones_on_the_diagonal_and_ignores_shift_and_scale() -> None:
    f = features(8, 5, 5)
    assert torch.allclose(cross_correlation(f, 3 * f - 2, "batch").diagonal(), torch.ones(5, dtype=torch.float64))
    assert transfer_terms(f, f, "batch")[0].item() == pytest.approx(0, abs=1e-20)


def test_a_constant_channel_gives_zero_correlation_and_finite_gradients() -> None:
    f = features(6, 3, 6)
    f[:, 1] = 2.0
    f.requires_grad_()
    c = cross_correlation(f, features(6, 3, 7), "batch")
    assert c[1].tolist() == [0, 0, 0]
    transfer_terms(f, features(6, 3, 7), "batch")[1].backward()
    assert f.grad is not None
    assert f.grad.isfinite().all()


def test_a_batch_of_one_image_gives_finite_gradients() -> None:
    """The last batch of an epoch may hold one image: every channel is then constant."""
    f = features(1, 3, 6).requires_grad_()
    diag, offdiag = transfer_terms(f, features(1, 3, 7), "batch")
    assert (diag.item(), offdiag.item()) == (1, 0)
    (diag + offdiag).backward()
    assert f.grad is not None
    assert f.grad.isfinite().all()


def test_unknown_correlation_is_refused() -> None:
    with pytest.raises(ValueError, match="'sample' or 'batch', got 'rows'"):
        cross_correlation(features(2, 2, 0), features(2, 2, 1), "rows")


def test_nan_features_give_nan_terms() -> None:
    f = features(3, 2, 0)
    f[0, 0] = math.nan
    assert all(t.isnan() for t in transfer_terms(f, features(3, 2, 1)))
    assert feature_term(f, features(3, 2, 1)).isnan()


def test_feature_term_equals_the_loop() -> None:
    fast, slow = features(7, 4, 8), features(7, 4, 9)
    oracle = np.mean([1 - cosine(a, b) for a, b in zip(fast.numpy(), slow.numpy(), strict=True)])
    assert feature_term(fast, slow).item() == pytest.approx(oracle, rel=1e-12)
    assert feature_term(fast, 2.5 * fast).item() == pytest.approx(0, abs=1e-12)
    assert feature_term(fast, -fast).item() == pytest.approx(2, rel=1e-12)


def test_released_feature_term_is_the_sum_over_the_batch(reference: dict[str, Tensor]) -> None:
    fast, slow = reference["loss/f_fast"], reference["loss/f_slow_frozen"]
    assert len(fast) * feature_term(fast, slow).item() == pytest.approx(reference["loss/cos_sum"].item(), rel=RELEASED)


@pytest.mark.parametrize("old", [0, 1, 3, 5])
def test_cross_term_equals_the_loop_over_features_and_virtual_samples(old: int) -> None:
    batch, width, classes = 6, 4, 5
    fast, slow = features(batch, width, 10), features(batch, width, 11)
    fast_rows, slow_rows = features(classes, width, 12), features(classes, width, 13)
    targets = torch.tensor([0, 4, 3, 3, 2, 1])
    labels = [*targets.tolist(), *range(old)]
    to_fast = np.concatenate([slow.numpy(), slow_rows.numpy()[:old]])
    to_slow = np.concatenate([fast.numpy(), fast_rows.numpy()[:old]])
    oracle = cross_entropy(to_fast, fast_rows.numpy(), 3.0, labels) + cross_entropy(
        to_slow, slow_rows.numpy(), 5.0, labels
    )
    got = cross_term(
        fast,
        slow,
        targets,
        fast_rows=fast_rows,
        fast_scale=torch.tensor(3.0),
        slow_rows=slow_rows,
        slow_scale=torch.tensor(5.0),
        old_classes=old,
    )
    assert got.item() == pytest.approx(oracle, rel=1e-12)


def test_released_cross_term(reference: dict[str, Tensor]) -> None:
    got = cross_term(
        reference["loss/f_fast"],
        reference["loss/f_slow_frozen"],
        reference["loss/targets"],
        fast_rows=reference["loss/fast_rows"],
        fast_scale=reference["loss/fast_sigma"].squeeze(),
        slow_rows=reference["loss/slow_rows"],
        slow_scale=reference["loss/slow_sigma"].squeeze(),
        old_classes=int(reference["loss/known"]),
    )
    assert got.item() == pytest.approx(reference["loss/cross"].item(), rel=RELEASED)


def cross_inputs() -> dict[str, Tensor]:
    return {
        "fast": features(3, 4, 20),
        "slow": features(3, 4, 21),
        "fast_rows": features(4, 4, 22),
        "slow_rows": features(4, 4, 23),
        "fast_scale": torch.tensor(2.0, dtype=torch.float64),
        "slow_scale": torch.tensor(3.0, dtype=torch.float64),
    }


def cross_value(inputs: dict[str, Tensor]) -> Tensor:
    heads = {name: value for name, value in inputs.items() if "_" in name}
    return cross_term(inputs["fast"], inputs["slow"], torch.tensor([2, 3, 3]), **heads, old_classes=2)


def test_gradient_of_the_cross_term_reaches_the_fast_side_only() -> None:
    inputs = {name: value.requires_grad_() for name, value in cross_inputs().items()}
    cross_value(inputs).backward()
    assert {name for name, value in inputs.items() if value.grad is not None} == {"fast", "fast_rows", "fast_scale"}


@pytest.mark.parametrize("name", ["fast", "fast_rows", "fast_scale"])
def test_gradient_of_the_cross_term_equals_finite_differences(name: str) -> None:
    inputs = cross_inputs()
    inputs[name].requires_grad_()
    cross_value(inputs).backward()
    gradient = inputs[name].grad
    assert gradient is not None
    step = 1e-6
    for i in range(gradient.numel()):
        values = []
        for sign in (1, -1):
            moved = cross_inputs()
            moved[name].view(-1)[i] += sign * step
            values.append(cross_value(moved).item())
        slope = (values[0] - values[1]) / (2 * step)
        assert gradient.reshape(-1)[i].item() == pytest.approx(slope, rel=1e-5, abs=1e-8), (name, i)


def test_virtual_samples_of_the_fast_head_carry_gradient() -> None:
    """With the slow rows fixed, moving an old fast row changes L_f2s: its virtual sample is that row itself."""
    inputs = cross_inputs()
    inputs["fast_scale"] = torch.zeros((), dtype=torch.float64)  # L_s2f is then ln C whatever the fast rows are
    inputs["fast_rows"].requires_grad_()
    cross_value(inputs).backward()
    gradient = inputs["fast_rows"].grad
    assert gradient is not None
    assert (gradient[:2].abs().sum(dim=1) > 0).all()
    assert gradient[2:].abs().sum() == 0
