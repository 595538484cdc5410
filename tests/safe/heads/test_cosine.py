"""The cosine classifier and the rows that new classes start from."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from safe.heads.cosine import CosineHead, cosine_logits, new_class_rows, uniform_rows
from safe.seeding import generator


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed, "normal"), dtype=torch.float64)


def test_logits_equal_the_loop() -> None:
    f, w = normal(5, 3, seed=1), normal(4, 3, seed=2)
    got = cosine_logits(f, w, torch.tensor(2.5, dtype=torch.float64))
    for b in range(5):
        for c in range(4):
            a, r = f[b].tolist(), w[c].tolist()
            dot = sum(x * y for x, y in zip(a, r, strict=True))
            assert got[b, c].item() == pytest.approx(2.5 * dot / (math.hypot(*a) * math.hypot(*r)), rel=1e-12)


def test_only_directions_matter_and_a_zero_vector_has_cosine_zero() -> None:
    f, w, one = normal(3, 4), normal(2, 4, seed=1), torch.tensor(1.0, dtype=torch.float64)
    assert torch.allclose(cosine_logits(7 * f, w / 3, one), cosine_logits(f, w, one), rtol=1e-12)
    assert cosine_logits(f, torch.zeros(2, 4, dtype=torch.float64), one).tolist() == [[0, 0]] * 3


def test_uniform_rows_fill_their_range_and_come_from_the_generator() -> None:
    rows = uniform_rows(200, 16, generator(0, "head"))
    assert rows.shape == (200, 16)
    assert 0.249 < rows.abs().max() <= 0.25
    assert rows.mean().item() == pytest.approx(0, abs=0.01)
    assert rows.var().item() == pytest.approx(0.25**2 / 3, rel=0.05)
    assert torch.equal(rows, uniform_rows(200, 16, generator(0, "head")))
    assert not torch.equal(rows, uniform_rows(200, 16, generator(1, "head")))


def test_a_fresh_head_has_scale_ten_and_trains_its_own_copy_of_the_rows() -> None:
    rows = torch.ones(2, 3)
    head = CosineHead(rows)
    assert head.scale.item() == 10
    assert {name for name, p in head.named_parameters() if p.requires_grad} == {"rows", "scale"}
    with torch.no_grad():
        head.rows.zero_()
    assert rows.sum() == 6


def test_a_head_is_restored_from_its_state_whatever_its_classes() -> None:
    head = CosineHead(torch.randn(7, 3, generator=generator(0)), scale=0.1)
    restored = CosineHead.from_state(head.state_dict())
    f = torch.randn(4, 3, generator=generator(1))
    assert torch.equal(restored(f), head(f))
    assert restored.scale.dtype == torch.float32


def test_extending_keeps_rows_and_scale_and_leaves_the_old_head_alone() -> None:
    head = CosineHead(uniform_rows(2, 3, generator(0)))
    with torch.no_grad():
        head.scale.fill_(4.0)
    before = head.rows.detach().clone()
    wider = head.extended(torch.ones(2, 3))
    assert torch.equal(wider.rows.detach(), torch.cat([before, torch.ones(2, 3)]))
    assert wider.scale.item() == 4
    assert wider.rows.requires_grad
    assert wider.scale.requires_grad
    with torch.no_grad():
        wider.rows.zero_()
        wider.scale.zero_()
    assert torch.equal(head.rows.detach(), before)
    assert head.scale.item() == 4


def test_imprinted_rows_are_class_means_of_the_mean_length_of_the_old_rows() -> None:
    features, labels, existing = normal(6, 3), torch.tensor([5, 4, 4, 5, 5, 3]), normal(4, 3, seed=1)
    rows = new_class_rows("imprint", range(4, 6), features, labels, existing, generator(0))
    length = sum(math.hypot(*row) for row in existing.tolist()) / 4
    for row, members in zip(rows.tolist(), ([1, 2], [0, 3, 4]), strict=True):
        mean = [sum(features[m, i].item() for m in members) / len(members) for i in range(3)]
        assert row == pytest.approx([length * v / math.hypot(*mean) for v in mean], rel=1e-12)


def test_uniform_and_zero_rows() -> None:
    existing = torch.zeros(2, 16)
    none = torch.empty(0, 16)
    uniform = new_class_rows("uniform", range(2, 5), none, torch.empty(0), existing, generator(1))
    assert uniform.shape == (3, 16)
    assert 0 < uniform.abs().max() <= 0.25
    assert torch.equal(uniform, new_class_rows("uniform", range(2, 5), none, torch.empty(0), existing, generator(1)))
    assert new_class_rows("zeros", range(2, 5), none, torch.empty(0), existing, generator(1)).tolist() == [[0] * 16] * 3


def test_unknown_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="'imprint', 'uniform' or 'zeros', got 'ones'"):
        new_class_rows("ones", range(1), torch.empty(0, 2), torch.empty(0), torch.zeros(1, 2), generator(0))
