"""Laws that every closed-form head keeps, whatever its kind: its statistics are sums over images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from safe.heads import head_kinds, is_closed_form, make_head
from safe.heads.base import ClosedFormHead
from safe.heads.projection import Projection
from safe.seeding import generator

WIDTH = 6
# As a configuration gives them. One lambda, so that it is no choice: which one is chosen hangs on a random split.
SETTINGS = {
    "projection_dim": 20,
    "projection_seed": 3,
    "ridge_grid": (10.0,),
    "ridge_split": 0.8,
    "ridge_choice": "pooled",
    "logit_scale": 1.0,
}
KINDS = [kind for kind in head_kinds() if is_closed_form(kind)]

pytestmark = pytest.mark.parametrize("kind", KINDS)


def make(kind: str, **settings: object) -> ClosedFormHead:
    head = make_head(kind, WIDTH, "cpu", {**SETTINGS, **settings})
    assert head is not None
    return head


def images(rows: int = 60, classes: range = range(4), seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return features around one centre a class, and labels; every class comes equally often."""
    labels = torch.tensor([classes[i % len(classes)] for i in range(rows)])
    centres = torch.randn(20, WIDTH, generator=generator(9, "centres"))
    return centres[labels] + 0.5 * torch.randn(rows, WIDTH, generator=generator(seed, "noise")), labels


PROBE = images(30, range(8), seed=5)[0]


def close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-4) -> bool:
    return ours.shape == theirs.shape and bool((ours - theirs).abs().max() <= tolerance * theirs.abs().max())


def same_state(ours: ClosedFormHead, theirs: ClosedFormHead, tolerance: float) -> bool:
    flat = [
        torch.cat([t.flatten() for v in head.state_dict().values() for t in (v if isinstance(v, list) else [v])
                   if isinstance(t, Tensor)])
        for head in (ours, theirs)
    ]  # fmt: skip
    return torch.equal(*flat) if tolerance == 0 else close(*flat, tolerance)


def ridge64(features: np.ndarray, labels: np.ndarray, probe: np.ndarray) -> np.ndarray:
    projection = Projection(WIDTH, 20, 3)
    eye = torch.eye(WIDTH)
    weight = (projection(eye) - projection(-eye)).double().numpy()
    hidden, judged = (np.maximum(f @ weight, 0) for f in (features, probe))
    return judged @ np.linalg.solve(hidden.T @ hidden + 10 * np.eye(20), hidden.T @ np.eye(4)[labels])


def class_means64(features: np.ndarray, labels: np.ndarray, probe: np.ndarray) -> np.ndarray:
    means = np.stack([features[labels == c].mean(axis=0) for c in range(4)])
    return probe @ means.T / np.linalg.norm(probe, axis=1, keepdims=True) / np.linalg.norm(means, axis=1)


# Of every kind: the scores of `probe` among 4 classes, by `SETTINGS`. A kind without one fails.
FLOAT64: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "ridge": ridge64,
    "class_means": class_means64,
}


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_images_does_not_matter(kind: str, seed: int) -> None:
    (features, labels), heads = images(), (make(kind), make(kind))
    order = torch.randperm(len(labels), generator=generator(seed))
    heads[0].update(features, labels, 4, generator(0))
    heads[1].update(features[order], labels[order], 4, generator(1))
    assert close(heads[1].logits(PROBE), heads[0].logits(PROBE))
    assert same_state(heads[1], heads[0], 1e-4)


def test_sessions_give_what_all_their_images_at_once_give(kind: str) -> None:
    (first, old), (second, new) = images(), images(40, range(4, 7), seed=1)
    merged, joint, backwards = make(kind), make(kind), make(kind)
    merged.update(first, old, 4, generator(0))
    assert merged.logits(PROBE).shape == (30, 4)
    merged.update(second, new, 7, generator(1))
    joint.update(torch.cat([first, second]), torch.cat([old, new]), 7, generator(2))
    backwards.update(second, new, 7, generator(1))
    backwards.update(first, old, 7, generator(0))
    for head in (merged, backwards):
        assert close(head.logits(PROBE), joint.logits(PROBE))
        assert same_state(head, joint, 1e-4)


@pytest.mark.parametrize("rows", [10, 60])  # of the split's first part fewer and more than the 20 hidden columns
def test_adding_gives_the_statistics_of_an_update_bit_for_bit(kind: str, rows: int) -> None:
    updated, added = make(kind), make(kind)
    sessions = [(*images(rows), 4), (*images(rows, range(4, 7), seed=1), 7), (*images(rows, range(7), seed=2), 7)]
    for number, session in enumerate(sessions):
        updated.update(*session, generator(number))
        (added.update if number == 2 else added.add)(*session, generator(number))
    assert same_state(added, updated, 0)
    assert torch.equal(added.logits(PROBE), updated.logits(PROBE))


def test_a_resumed_head_goes_on_bit_for_bit_and_copies_are_independent(kind: str) -> None:
    whole = make(kind)
    whole.update(*images(), 4, generator(0))
    state, copied, resumed = whole.state_dict(), whole.copy(), make(kind)
    before, learned = whole.logits(PROBE), whole.ridge
    whole.update(*images(40, range(4, 7), seed=1), 7, generator(1))
    after = whole.logits(PROBE)
    assert torch.equal(copied.logits(PROBE), before), "a copy does not change with what it was copied from"
    resumed.load_state_dict(state)
    assert torch.equal(resumed.logits(PROBE), before)
    assert resumed.ridge == learned
    for head in (resumed, copied):
        head.update(*images(40, range(4, 7), seed=1), 7, generator(1))
        assert torch.equal(head.logits(PROBE), after)
        assert same_state(head, whole, 0)
    again = make(kind)
    again.load_state_dict(state)
    assert torch.equal(again.logits(PROBE), before), "the state is a copy, and so is what is loaded of it"


def test_a_state_of_no_session_is_the_start(kind: str) -> None:
    head = make(kind)
    head.load_state_dict(make(kind).state_dict())
    assert head.logits(PROBE).shape == (30, 0)
    head.update(*images(), 4, generator(0))
    fresh = make(kind)
    fresh.update(*images(), 4, generator(0))
    assert torch.equal(head.logits(PROBE), fresh.logits(PROBE))


def test_a_readout_predicts_as_the_head_did(kind: str) -> None:
    head, reader = make(kind), make(kind)
    head.update(*images(), 5, generator(0))  # one class without images
    reader.load_readout(head.readout())
    assert torch.equal(reader.logits(PROBE), head.logits(PROBE))
    assert torch.equal(reader.copy().logits(PROBE), head.logits(PROBE))
    assert all(isinstance(value, Tensor) for value in head.readout().values())


@pytest.mark.parametrize("dim", [0, 2, 5])  # no projection, narrower than the features' 6
def test_fewer_hidden_columns_than_features(kind: str, dim: int) -> None:
    (features, labels), head, other = images(), make(kind, projection_dim=dim), make(kind, projection_dim=dim)
    head.update(features, labels, 4, generator(0))
    other.update(features.flip(0), labels.flip(0), 4, generator(1))
    assert head.logits(PROBE).shape == (30, 4)
    assert head.logits(PROBE).isfinite().all()
    assert close(other.logits(PROBE), head.logits(PROBE))


def test_one_class_scores_every_image_alone(kind: str) -> None:
    head = make(kind)
    features, labels = images(20, range(1))
    head.update(features, labels, 1, generator(0))
    logits = head.logits(features)
    assert logits.shape == (20, 1)
    assert logits.isfinite().all()
    assert logits.mean() > 0, "the images of the class itself are like it"


def test_renamed_classes_give_permuted_scores(kind: str) -> None:
    (features, labels), plain, renamed = images(), make(kind), make(kind)
    permutation = torch.tensor([2, 0, 3, 1])
    plain.update(features, labels, 4, generator(0))
    renamed.update(features, permutation[labels], 4, generator(0))
    assert close(renamed.logits(PROBE)[:, permutation], plain.logits(PROBE))


def test_it_tells_apart_classes_that_lie_apart(kind: str) -> None:
    head, (features, labels) = make(kind), images()
    head.update(features, labels, 4, generator(0))
    assert (head.logits(features).argmax(dim=1) == labels).float().mean() > 0.8


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e2])
def test_float32_gives_what_float64_gives(kind: str, scale: float) -> None:
    (features, labels), head = images(200), make(kind)
    features = scale * features
    head.update(features[:90], labels[:90], 4, generator(0))
    head.update(features[90:], labels[90:], 4, generator(1))
    exact = FLOAT64[kind](features.double().numpy(), labels.numpy(), (scale * PROBE).double().numpy())
    logits = head.logits(scale * PROBE)
    assert logits.dtype == torch.float32
    assert np.abs(logits.double().numpy() - exact).max() <= 1e-5 * np.abs(exact).max()
