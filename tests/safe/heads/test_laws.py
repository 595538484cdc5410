"""Laws that every closed-form head keeps, whatever its kind: its statistics are sums over images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.special import erf
from torch import Tensor

from safe.config.heads import HeadConfig
from safe.heads import head_kinds, is_closed_form, make_head
from safe.heads.base import ClosedFormHead
from safe.heads.projection import Projection
from safe.seeding import derive_seed, generator

WIDTH = 6
# As a configuration gives them. One lambda, so that it is no choice: which one is chosen hangs on a random split.
SETTINGS = {
    **dict(HeadConfig()), "projection_dim": 20, "projection_seed": 3, "ridge_grid": (10.0,), "logit_scale": 1.0
}  # fmt: skip
FLY = {"activation": "topk", "activation_share": 0.3, "projection_density": 0.5}
FOURIER = {"activation": "fourier", "fourier_gamma": 0.5}
# Every kind, some with settings that make other formulas of it.
HEADS: dict[str, tuple[str, dict[str, object]]] = {
    "ridge": ("ridge", {}),
    "ridge, pooled": ("ridge", {"ridge_choice": "pooled"}),
    "ridge, gcv": ("ridge", {"ridge_choice": "gcv"}),
    "ridge, topk": ("ridge", FLY),
    "ridge, fourier": ("ridge", {**FOURIER, "ridge_grid": (0.1,)}),
    "class_means": ("class_means", {}),
    "gaussian": ("gaussian", {"shrinkage": 0.1}),
    "gaussian, plain": ("gaussian", {"projection_dim": 0}),
    "gaussian, fourier": ("gaussian", FOURIER),
    "gaussian, per class": ("gaussian", {"covariance": "per_class", "projection_dim": 0, "shrinkage": 0.2}),
    "gaussian, per class, oas": ("gaussian", {"covariance": "per_class"}),
    "anacp": ("anacp", {"activation": "gelu", "anacp_layers": 2, "anacp_draws": 30}),
    "anacp, plain": ("anacp", {"projection_dim": 0}),
}

pytestmark = pytest.mark.parametrize("kind", HEADS)


def make(name: str, **changes: object) -> ClosedFormHead:
    kind, settings = HEADS[name]
    head = make_head(kind, WIDTH, "cpu", {**SETTINGS, **settings, **changes})
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


def projections(head: ClosedFormHead) -> list[int]:
    """Return which random projections a head and its layers have."""
    held = [value for one in (head, *getattr(head, "layers", ())) for value in vars(one).values()]
    return [id(value) for value in held if isinstance(value, Projection)]


def same_state(ours: ClosedFormHead, theirs: ClosedFormHead, tolerance: float) -> bool:
    flat = [
        torch.cat([t.flatten() for v in head.state_dict().values() for t in (v if isinstance(v, list) else [v])
                   if isinstance(t, Tensor)])
        for head in (ours, theirs)
    ]  # fmt: skip
    return torch.equal(*flat) if tolerance == 0 else close(*flat, tolerance)


Settings = dict[str, Any]


def hidden64(features: np.ndarray, settings: Settings) -> np.ndarray:
    """Return random features in float64; W is read off through a ReLU: relu(W) - relu(-W)."""
    if not settings["projection_dim"]:
        return features
    shape, density = (WIDTH, 20, settings["projection_seed"], "cpu"), settings["projection_density"]
    plain, eye = Projection(*shape, density=density), torch.eye(WIDTH)
    hidden = features @ (plain(eye) - plain(-eye)).double().numpy()
    if settings["activation"] == "gelu":
        return hidden * (1 + erf(hidden / np.sqrt(2))) / 2
    if settings["activation"] == "fourier":
        phase = Projection(*shape, "fourier")._phase.double().numpy()
        return np.sqrt(2 / 20) * np.cos(np.sqrt(2 * settings["fourier_gamma"] / WIDTH) * hidden + phase)
    if settings["activation"] == "topk":
        smallest_kept = np.sort(hidden, axis=1)[:, -round(settings["activation_share"] * 20)]
        return np.where(hidden >= smallest_kept[:, None], hidden, 0)
    return np.maximum(hidden, 0)


def ridge64(features: np.ndarray, labels: np.ndarray, probe: np.ndarray, settings: Settings) -> np.ndarray:
    hidden, judged = (hidden64(f, settings) for f in (features, probe))
    (ridge,) = settings["ridge_grid"]
    gram, cross = hidden.T @ hidden, hidden.T @ np.eye(4)[labels]
    return judged @ np.linalg.solve(gram + ridge * np.eye(len(gram)), cross)


def class_means64(features: np.ndarray, labels: np.ndarray, probe: np.ndarray, settings: Settings) -> np.ndarray:
    means = np.stack([features[labels == c].mean(axis=0) for c in range(4)])
    return probe @ means.T / np.linalg.norm(probe, axis=1, keepdims=True) / np.linalg.norm(means, axis=1)


def shrunk64(covariance: np.ndarray, images: int, rho: float | str) -> np.ndarray:
    width, trace, squares = len(covariance), np.trace(covariance), np.sum(covariance**2)
    if rho == "oas":
        over = (1 - 2 / width) * squares + trace**2
        rho = min(1.0, over / ((images + 1 - 2 / width) * (squares - trace**2 / width)))
    return (1 - rho) * covariance + rho * trace / width * np.eye(width)


def gaussian64(features: np.ndarray, labels: np.ndarray, probe: np.ndarray, settings: Settings) -> np.ndarray:
    hidden, judged = (hidden64(f, settings) for f in (features, probe))
    means = np.stack([hidden[labels == c].mean(axis=0) for c in range(4)])
    if settings["covariance"] == "shared":
        centred = hidden - means[labels]
        sigma = shrunk64(centred.T @ centred / len(labels), len(labels), settings["shrinkage"])
        return judged @ np.linalg.solve(sigma, means.T) - np.sum(means.T * np.linalg.solve(sigma, means.T), 0) / 2
    scores = []
    for c, mean in enumerate(means):
        sigma = shrunk64(np.cov(hidden[labels == c].T, bias=True), np.sum(labels == c), settings["shrinkage"])
        off, root = judged - mean, np.sqrt(np.diag(sigma))
        distance = np.sum(off * np.linalg.solve(sigma / root / root[:, None], off.T).T, axis=1)
        scores.append(np.sum(judged**2, axis=1) / 2 - distance / 2)
    return np.stack(scores, axis=1)


def unit64(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def anacp64(features: np.ndarray, labels: np.ndarray, probe: np.ndarray, settings: Settings) -> np.ndarray:
    features, probe, draws, seed = unit64(features), unit64(probe), settings["anacp_draws"], settings["projection_seed"]
    means = np.stack([features[labels == c].mean(axis=0) for c in range(4)])
    centred = features - means[labels]
    root = scipy.linalg.sqrtm(centred.T @ centred / len(labels) + 1e-4 * np.eye(WIDTH)).real
    # U (S + a) V^T of X is X + a (X X^T)^(-1/2) X; in a direction that X lacks there is nothing to add.
    whitened = np.linalg.solve(root, (means - means.mean(axis=0)).T).T
    polar = scipy.linalg.pinvh(scipy.linalg.sqrtm(whitened @ whitened.T).real, rtol=1e-4) @ whitened
    moved = whitened + settings["anacp_spread"] * polar
    targets = unit64(np.linalg.solve(root, moved.T).T + means.mean(axis=0))
    count = settings["anacp_layers"] if settings["projection_dim"] else 1
    seeds = [seed, *(derive_seed(seed, "layer", number) for number in range(1, count))]
    last = {**settings, "projection_seed": derive_seed(seed, "classifier")}
    noise = torch.randn(draws, WIDTH, generator=generator(last["projection_seed"], "draws", draws, WIDTH))
    drawn = np.concatenate([mean + noise.double().numpy() @ root for mean in means])

    def adapted(rows: np.ndarray) -> np.ndarray:
        each = [ridge64(features, labels, rows, {**settings, "projection_seed": one}) @ targets for one in seeds]
        return np.mean([unit64(scores) for scores in each], axis=0)

    return ridge64(adapted(drawn), np.arange(4).repeat(draws), adapted(probe), last)


# Of every kind: the scores of `probe` among 4 classes. A kind without one fails.
FLOAT64: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, Settings], np.ndarray]] = {
    "ridge": ridge64,
    "class_means": class_means64,
    "gaussian": gaussian64,
    "anacp": anacp64,
}


def exact(name: str, features: Tensor, labels: Tensor, probe: Tensor, **changes: object) -> np.ndarray:
    kind, settings = HEADS[name]
    arrays = (features.double().numpy(), labels.numpy(), probe.double().numpy())
    return FLOAT64[kind](*arrays, {**SETTINGS, **settings, **changes})


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


def test_a_readout_takes_what_is_reckoned(kind: str) -> None:
    head = make(kind)
    head.update(*images(), 5, generator(0))
    assert sum(tensor.nbytes for tensor in head.readout().values()) == head.readout_bytes(5)


def test_a_resumed_head_goes_on_bit_for_bit_and_copies_are_independent(kind: str) -> None:
    whole = make(kind)
    whole.update(*images(), 4, generator(0))
    state, copied, resumed = whole.state_dict(), whole.copy(), make(kind)
    assert projections(copied) == projections(whole), "drawn once"
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
    expected = exact(kind, features, labels, scale * PROBE)
    logits = head.logits(scale * PROBE)
    assert logits.dtype == torch.float32
    # Of an angle of hundreds float32 leaves the cosine two digits fewer.
    tolerance = 1e-3 if "fourier" in kind and scale > 1 else 1e-5
    assert np.abs(logits.double().numpy() - expected).max() <= tolerance * np.abs(expected).max()


def test_directions_that_no_image_has_and_ones_that_are_nearly_equal_are_weathered(kind: str) -> None:
    """Two features are 0, two differ by a ten-thousandth, and there are fewer images than hidden columns."""
    features, labels = images(16)
    probe = PROBE.clone()
    for those in (features, probe):
        those[:, :2], those[:, 3] = 0, those[:, 2] * (1 + 1e-4)
    head = make(kind)
    head.update(features, labels, 4, generator(0))
    expected, logits = exact(kind, features, labels, probe), head.logits(probe).double().numpy()
    assert np.isfinite(logits).all()
    assert np.abs(logits - expected).max() <= 1e-3 * np.abs(expected).max()


def test_every_kind_of_closed_form_is_held_to_these_laws(kind: str) -> None:
    assert HEADS[kind][0] in head_kinds()
    assert {of for of, _ in HEADS.values()} == {of for of in head_kinds() if is_closed_form(of)}
