"""The learners: the terms of their losses, one epoch of steps, what is trained and what stays."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from safe.errors import NonFiniteLossError
from safe.heads.class_means import ClassMeansHead
from safe.heads.cosine import CosineHead, cosine_logits, uniform_rows
from safe.learners.fast import fast_terms
from safe.learners.learner import Learner, cosine_lr, train_epoch
from safe.learners.slow import slow_terms
from safe.losses import cross_term, feature_term, transfer_terms
from safe.pet import attach
from safe.seeding import generator

CLASSES = 5


def learner(vit: VisionTransformer, seed: int = 0, kind: str = "adapter", **settings: float) -> Learner:
    if kind == "adapter":
        settings = {"bottleneck": 4, "dropout": 0.0, "scale": 0.1} | settings
    net = attach(vit, kind, generator=generator(seed, "pet"), **settings)
    with torch.no_grad():
        for parameter in net.pet_parameters().values():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator(seed, "moved")))
    head = CosineHead(uniform_rows(CLASSES, net.embed_dim, generator(seed, "head")), scale=4.0 + seed)
    return Learner(net, head, ClassMeansHead(net.embed_dim))


def batch(count: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = generator(seed, "batch")
    return torch.rand(count, 3, 32, 32, generator=draw), torch.randint(CLASSES, (count,), generator=draw)


def counted(monkeypatch: pytest.MonkeyPatch, module: torch.nn.Module) -> list[int]:
    """Return a list that grows by one with every forward pass of `module`."""
    calls: list[int] = []
    module_forward = module.forward

    def forward(x: Tensor) -> Tensor:
        calls.append(len(x))
        return module_forward(x)

    monkeypatch.setattr(module, "forward", forward)
    return calls


def test_learning_rate_of_a_shortened_cosine() -> None:
    rates = [cosine_lr(0.01, epoch, 20) for epoch in range(15)]
    assert rates[0] == 0.01
    assert rates[10] == pytest.approx(0.005, rel=1e-12)
    assert rates[14] == pytest.approx(0.00206, abs=5e-6)
    assert rates == sorted(rates, reverse=True)
    assert cosine_lr(0.01, 20, 20) == pytest.approx(0, abs=1e-18)


@pytest.mark.parametrize("epochs", [15, 20])
def test_learning_rates_are_those_of_torch(epochs: int) -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    for epoch in range(epochs):
        assert cosine_lr(0.01, epoch, 20) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6), epoch
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("correlation", ["sample", "batch"])
def test_slow_terms_are_the_losses_with_their_weights(tiny_vit: VisionTransformer, correlation: str) -> None:
    slow, (x, y) = learner(tiny_vit), batch()
    terms = slow_terms(slow, x, y, diag_weight=0.5, offdiag_weight=7.0, correlation=correlation)
    features = slow.net(x)
    diag, offdiag = transfer_terms(features, tiny_vit(x), correlation)
    ce = F.cross_entropy(cosine_logits(features, slow.head.rows, slow.head.scale), y)
    assert {name: weight for name, (weight, _) in terms.items()} == {"ce": 1.0, "diag": 0.5, "offdiag": 7.0}
    for name, expected in (("ce", ce), ("diag", diag), ("offdiag", offdiag)):
        assert torch.equal(terms[name][1], expected), name
        assert terms[name][1].requires_grad


def test_without_weights_the_pre_trained_model_is_not_asked(
    tiny_vit: VisionTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, (x, y) = learner(tiny_vit), batch()
    calls = counted(monkeypatch, tiny_vit)
    assert set(slow_terms(slow, x, y, diag_weight=0, offdiag_weight=0, correlation="sample")) == {"ce"}
    assert calls == []
    terms = slow_terms(slow, x, y, diag_weight=0, offdiag_weight=1.0, correlation="sample")
    assert {name: weight for name, (weight, _) in terms.items()} == {"ce": 1.0, "diag": 0, "offdiag": 1.0}
    assert calls == [6]


def test_fast_terms_are_the_losses_with_their_weights(tiny_vit: VisionTransformer) -> None:
    slow, fast, (x, y) = learner(tiny_vit, 0), learner(tiny_vit, 1), batch()
    terms = fast_terms(fast, slow, x, y, feature_weight=24.0, cross_weight=0.5, old_classes=3)
    f_fast, f_slow = fast.net(x), slow.net(x)
    cross = cross_term(
        f_fast,
        f_slow,
        y,
        fast_rows=fast.head.rows,
        fast_scale=fast.head.scale,
        slow_rows=slow.head.rows,
        slow_scale=slow.head.scale,
        old_classes=3,
    )
    expected = {
        "ce": (1.0, F.cross_entropy(fast.head(f_fast), y)),
        "feature": (24.0, feature_term(f_fast, f_slow)),
        "cross": (0.5, cross),
    }
    assert list(terms) == list(expected)
    for name, (weight, value) in expected.items():
        assert terms[name][0] == weight
        assert torch.equal(terms[name][1], value), name


@pytest.mark.parametrize(
    ("feature", "cross", "names", "slow_calls"),
    [
        (0, 0, {"ce"}, 0),
        (1, 0, {"ce", "feature"}, 1),
        (0, 1, {"ce", "cross"}, 1),
        (1, 1, {"ce", "feature", "cross"}, 1),
    ],
)
def test_fast_terms_without_weight_are_absent_and_one_slow_pass_is_enough(
    tiny_vit: VisionTransformer,
    monkeypatch: pytest.MonkeyPatch,
    feature: float,
    cross: float,
    names: set[str],
    slow_calls: int,
) -> None:
    slow, fast, (x, y) = learner(tiny_vit, 0), learner(tiny_vit, 1), batch()
    calls = counted(monkeypatch, slow.net)
    assert set(fast_terms(fast, slow, x, y, feature_weight=feature, cross_weight=cross, old_classes=2)) == names
    assert len(calls) == slow_calls


def test_no_gradient_reaches_the_slow_learner_or_the_backbone(tiny_vit: VisionTransformer) -> None:
    slow, fast, (x, y) = learner(tiny_vit, 0), learner(tiny_vit, 1), batch()
    terms = fast_terms(fast, slow, x, y, feature_weight=1.0, cross_weight=1.0, old_classes=2)
    torch.stack([value for _, value in terms.values()]).sum().backward()
    assert all(p.grad is None for p in slow.trained())
    assert all(p.grad is None for p in tiny_vit.parameters())
    assert all(p.grad is not None for p in fast.trained())


def test_one_epoch_is_one_weighted_sgd_step_per_batch(tiny_vit: VisionTransformer) -> None:
    ours, theirs = learner(tiny_vit), learner(tiny_vit)
    batches = [batch(6, 0), batch(6, 1), batch(2, 2)]
    weights = {"diag_weight": 0.5, "offdiag_weight": 7.0, "correlation": "sample"}
    lr, momentum, decay = 0.05, 0.9, 5e-4
    optimizer = torch.optim.SGD(ours.trained(), lr=lr, momentum=momentum, weight_decay=decay)
    means = train_epoch(ours, optimizer, batches, lambda x, y: slow_terms(ours, x, y, **weights), "here")

    totals = dict.fromkeys(("ce", "diag", "offdiag"), 0.0)
    velocity = [torch.zeros_like(p) for p in theirs.trained()]
    for x, y in batches:
        terms = slow_terms(theirs, x, y, **weights)
        loss = terms["ce"][1] + 0.5 * terms["diag"][1] + 7.0 * terms["offdiag"][1]
        gradients = torch.autograd.grad(loss, theirs.trained())
        with torch.no_grad():
            for p, v, g in zip(theirs.trained(), velocity, gradients, strict=True):
                v.mul_(momentum).add_(g + decay * p)
                p.sub_(lr * v)
        for name in totals:
            totals[name] += len(y) * terms[name][1].item() / 14
    for p, q in zip(ours.trained(), theirs.trained(), strict=True):
        assert torch.allclose(p, q, rtol=1e-4, atol=1e-6)
    assert means == pytest.approx(totals, rel=1e-4)


def test_an_epoch_without_images_gives_no_terms(tiny_vit: VisionTransformer) -> None:
    one = learner(tiny_vit)
    assert train_epoch(one, torch.optim.SGD(one.trained(), lr=0.1), [], lambda x, y: {}, "here") == {}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_term_that_is_not_finite_is_named_with_its_first_step(tiny_vit: VisionTransformer, bad: float) -> None:
    one = learner(tiny_vit)
    values = iter([0.0, 0.0, bad, bad])

    def terms(x: Tensor, y: Tensor) -> dict[str, tuple[float, Tensor]]:
        return {"ce": (1.0, one.head(one.net(x)).sum()), "extra": (0.0, torch.tensor(next(values)))}

    optimizer = torch.optim.SGD(one.trained(), lr=1e-6)
    with pytest.raises(NonFiniteLossError, match=f"'extra' became {bad} in session 4, epoch 2, step 3: lower"):
        train_epoch(one, optimizer, [batch(seed=i) for i in range(4)], terms, "session 4, epoch 2")


def test_trained_parameters_are_pet_and_head(tiny_vit: VisionTransformer) -> None:
    one = learner(tiny_vit)
    trained = {id(p) for p in one.trained()}
    assert trained == {id(p) for p in (*one.net.pet_parameters().values(), one.head.rows, one.head.scale)}
    assert not trained & {id(p) for p in tiny_vit.parameters()}
    assert len(learner(tiny_vit, kind="none").trained()) == 2


def test_a_copy_is_independent_but_shares_the_backbone(tiny_vit: VisionTransformer) -> None:
    one = learner(tiny_vit)
    x, y = batch()
    one.closed.update(one.net(x).detach(), y, CLASSES, generator(0))
    features, logits, closed = one.net(x), one.head(one.net(x)), one.closed.logits(one.net(x))
    other = one.copy()
    assert torch.equal(other.net(x), features)
    assert other.net.base is one.net.base
    with torch.no_grad():
        for p in other.trained():
            p.add_(1.0)
    other.closed.update(features.detach(), y, CLASSES + 1, generator(0))
    assert not torch.equal(other.net(x), features)
    assert torch.equal(one.net(x), features)
    assert torch.equal(one.head(one.net(x)), logits)
    assert torch.equal(one.closed.logits(one.net(x)), closed)


@pytest.mark.parametrize("closed", [True, False])
def test_what_classifies_is_the_closed_form_or_else_the_trained_head(tiny_vit: VisionTransformer, closed: bool) -> None:
    one = learner(tiny_vit)
    x, y = batch()
    features = one.net(x).detach()
    rows = torch.stack([features[y == c].mean(dim=0) if (y == c).any() else 0 * features[0] for c in range(CLASSES)])
    if closed:
        one.closed.update(features, y, CLASSES, generator(0))
    else:
        one.closed, rows = None, one.head.rows.detach()
    f, w = features.double().numpy(), rows.double().numpy()
    lengths = np.linalg.norm(f, axis=1, keepdims=True) * np.linalg.norm(w, axis=1)
    expected = np.divide(f @ w.T, lengths, out=np.zeros((6, CLASSES)), where=lengths > 0)
    assert np.abs(one.logits(features).numpy() - expected).max() <= 1e-6
    assert torch.equal(one.readout()["weight"], rows)
    if not closed:  # times sigma, they are what gradient steps saw
        assert torch.allclose(one.logits(features) * one.scale("learned"), one.head(features), atol=1e-5)


@pytest.mark.parametrize("closed", [True, False])
def test_a_learner_is_restored_whatever_its_classes(tiny_vit: VisionTransformer, closed: bool) -> None:
    one, other = learner(tiny_vit), learner(tiny_vit, seed=1)
    x, y = batch()
    one.closed.update(one.net(x).detach(), y, CLASSES, generator(0))
    one.head = one.head.extended(torch.ones(2, one.net.embed_dim))
    if not closed:
        one.closed = other.closed = None
    state = one.state_dict()
    assert (state["closed"] is None) == (not closed)
    readout = one.copy().readout()["weight"]
    other.load_state_dict(state)
    with torch.no_grad():
        for parameter in one.trained():
            parameter.add_(1.0)
    assert torch.equal(other.readout()["weight"], readout)
    assert torch.equal(other.head.rows, state["head"]["rows"])
    assert all(torch.equal(value, state["pet"][name]) for name, value in other.net.pet_state().items())


def test_scale_is_learned_or_a_number(tiny_vit: VisionTransformer) -> None:
    one = learner(tiny_vit, seed=2)
    assert (one.scale("learned"), one.scale(2.5), one.scale(3)) == (6.0, 2.5, 3.0)


def test_the_state_holds_copies_of_what_training_changes(tiny_vit: VisionTransformer) -> None:
    one = learner(tiny_vit)
    state = one.state_dict()
    assert set(state) == {"pet", "head", "closed"}
    before = {name: value.clone() for name, value in state["pet"].items()}
    with torch.no_grad():
        for p in one.trained():
            p.add_(1.0)
    for name, value in before.items():
        assert torch.equal(state["pet"][name], value)
    assert torch.equal(state["head"]["rows"] + 1, one.head.rows)
