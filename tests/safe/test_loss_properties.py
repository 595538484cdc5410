"""Laws of losses and metrics on drawn shapes: order, common turns and lengths change nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from safe.evaluation.image_metrics import compare_learners, expected_calibration_error, judge_images, mean_nll
from safe.losses import cross_term, feature_term, transfer_terms
from safe.seeding import generator

DRAWN = settings(max_examples=25, deadline=None, derandomize=True)

seeds = st.integers(0, 2**31 - 1)
rows, widths, classes = st.integers(2, 40), st.integers(1, 12), st.integers(1, 6)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator(seed, "drawn"))


@DRAWN
@given(seeds, rows, widths)
def test_the_order_of_a_batch_changes_no_loss(seed: int, n: int, width: int) -> None:
    count, old = 4, 2
    slow, fast = drawn(seed, n, width).double(), drawn(seed + 1, n, width).double()
    labels = torch.randint(count, (n,), generator=generator(seed, "labels"))
    order = torch.randperm(n, generator=generator(seed, "order"))
    heads = {
        "fast_rows": drawn(seed + 2, count, width).double(), "fast_scale": torch.tensor(10.0, dtype=torch.float64),
        "slow_rows": drawn(seed + 3, count, width).double(), "slow_scale": torch.tensor(7.0, dtype=torch.float64),
    }  # fmt: skip

    def terms(f_slow: Tensor, f_fast: Tensor, y: Tensor) -> Tensor:
        transfer = [term for kind in ("sample", "batch") for term in transfer_terms(f_slow, f_fast, kind)]
        crossed = cross_term(f_fast, f_slow, y, **heads, old_classes=old)
        return torch.stack([*transfer, feature_term(f_fast, f_slow), crossed])

    plain, permuted = terms(slow, fast, labels), terms(slow[order], fast[order], labels[order])
    assert torch.allclose(permuted, plain, rtol=1e-9, atol=1e-9)


@DRAWN
@given(seeds, rows, widths, st.floats(1e-3, 1e3))
def test_a_common_turn_of_all_features_leaves_the_transfer_loss_and_lengths_do_not_count(
    seed: int, n: int, width: int, length: float
) -> None:
    """C becomes R^T C R, whose distance to I is that of C: L_diag + L_rdn = |C - I|^2, by direction alone."""
    slow, ptm = drawn(seed, n, width).double(), drawn(seed + 1, n, width).double()
    turn, _ = torch.linalg.qr(drawn(seed + 2, width, width).double())
    plain = transfer_terms(slow, ptm, "sample")
    turned = transfer_terms(length * slow @ turn, ptm @ turn, "sample")
    assert float(sum(turned)) == pytest.approx(float(sum(plain)), rel=1e-9)
    c = (slow / slow.norm(dim=1, keepdim=True)).T @ (ptm / ptm.norm(dim=1, keepdim=True)) / n
    assert float(sum(plain)) == pytest.approx(float((c - torch.eye(width)).square().sum()), rel=1e-9)
    assert float(feature_term(length * slow, ptm)) == pytest.approx(float(feature_term(slow, ptm)), abs=1e-9)


@DRAWN
@given(seeds, rows, classes)
def test_the_order_of_the_images_changes_no_metric(seed: int, n: int, count: int) -> None:
    slow, fast = drawn(seed, n, count), drawn(seed + 1, n, count)
    labels = torch.randint(count, (n,), generator=generator(seed, "labels"))
    order = torch.randperm(n, generator=generator(seed, "order"))

    def metrics(z_slow: Tensor, z_fast: Tensor, y: Tensor) -> list[float]:
        judged = judge_images(z_slow, y)
        ece = expected_calibration_error(judged.confidence, judged.predicted == y)
        return [mean_nll(judged.nll), ece, *compare_learners(z_slow.argmax(1), z_fast.argmax(1), y).values()]

    assert metrics(slow[order], fast[order], labels[order]) == pytest.approx(metrics(slow, fast, labels), abs=1e-6)
