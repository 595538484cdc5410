"""The class-mean classifier against loops, and the laws of its statistics."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from safe.heads.class_means import ClassMeansHead
from safe.seeding import generator

LABELS = torch.tensor([0, 2, 1, 2, 0, 2, 1, 0])


def features(rows: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(rows, 3, generator=generator(seed, "f"))


def fitted(parts: list[Tensor], f: Tensor, classes: int = 3) -> ClassMeansHead:
    head = ClassMeansHead(3)
    for part in parts:
        head.update(f[part], LABELS[part], classes, generator(0))
    return head


def test_logits_are_cosines_to_the_class_means() -> None:
    f, probe = features(), features(4, seed=1)
    got = fitted([torch.arange(8)], f).logits(probe)
    for n in range(4):
        for c in range(3):
            members = [f[i].tolist() for i in range(8) if LABELS[i] == c]
            mean = [sum(column) / len(members) for column in zip(*members, strict=True)]
            dot = sum(a * b for a, b in zip(probe[n].tolist(), mean, strict=True))
            cosine = dot / math.hypot(*mean) / math.hypot(*probe[n].tolist())
            assert got[n, c].item() == pytest.approx(cosine, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_order_and_batches_do_not_matter(seed: int) -> None:
    f = features()
    whole = fitted([torch.arange(8)], f)
    order = torch.randperm(8, generator=generator(seed))
    split = fitted(list(order.split(3)), f)
    assert torch.allclose(whole.sums, split.sums, rtol=1e-5, atol=1e-6)
    assert torch.equal(whole.counts, split.counts)


def test_sessions_merge_and_classes_grow() -> None:
    f = features()
    head = ClassMeansHead(3)
    old, new = LABELS < 2, LABELS >= 2
    head.update(f[old], LABELS[old], 2, generator(0))
    assert head.logits(f).shape == (8, 2)
    first = head.logits(f)
    head.update(f[new], LABELS[new], 3, generator(0))
    assert torch.allclose(head.logits(f), fitted([torch.arange(8)], f).logits(f), rtol=1e-5, atol=1e-6)
    assert torch.allclose(head.logits(f)[:, :2], first, rtol=1e-5, atol=1e-6)


def test_a_class_without_images_has_cosine_zero() -> None:
    f = features()
    assert fitted([torch.arange(8)], f, classes=4).logits(f)[:, 3].tolist() == [0] * 8


def test_state_copy_and_inference_state() -> None:
    f = features()
    head = fitted([torch.arange(5)], f)
    before = head.logits(f)
    copied, restored = head.copy(), ClassMeansHead(3)
    restored.load_state_dict(head.state_dict())
    copied.update(f[5:], LABELS[5:], 3, generator(0))
    assert torch.equal(head.logits(f), before)
    assert torch.equal(restored.logits(f), before)
    assert not torch.equal(copied.logits(f), before)
    for c, mean in enumerate(head.readout()["weight"]):
        assert torch.allclose(mean, f[:5][LABELS[:5] == c].mean(dim=0), rtol=1e-5, atol=1e-6)


def test_the_state_is_a_copy() -> None:
    head = fitted([torch.arange(5)], features())
    before = head.logits(features())
    for value in head.state_dict().values():
        value.zero_()
    assert torch.equal(head.logits(features()), before)


def test_before_the_first_session_there_are_no_classes_and_never_a_ridge() -> None:
    assert ClassMeansHead(3).logits(features()).shape == (8, 0)
    assert ClassMeansHead(3).ridge is None
