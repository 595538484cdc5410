"""The closed-form classifier against numpy in float64, the laws of its statistics and the released values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from safe.errors import UserError
from safe.heads.projection import Projection
from safe.heads.ridge import RidgeHead, choose_ridge, one_hot, readout
from safe.heads.symmetric import Symmetric
from safe.seeding import generator

GRID = tuple(10.0**e for e in range(3, 9))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed, "normal"))


def errors_oracle(
    h: np.ndarray, y: np.ndarray, probe: np.ndarray, targets: np.ndarray, grid: Sequence[float]
) -> list[float]:
    """Mean squared error of every lambda by the primal normal equations."""
    h, y, probe, targets = (a.astype(np.float64) for a in (h, y, probe, targets))
    errors = []
    for ridge in grid:
        w = np.linalg.solve(h.T @ h + ridge * np.eye(h.shape[1]), h.T @ y)
        errors.append(float(((probe @ w - targets) ** 2).mean()))
    return errors


def test_one_hot() -> None:
    got = one_hot(torch.tensor([2, 0]), 3)
    assert got.dtype == torch.float32
    assert got.tolist() == [[0, 0, 1], [1, 0, 0]]


@pytest.mark.parametrize("ridge", [1e-3, 1.0, 1e3, 1e8])
def test_readout_solves_the_system(ridge: float) -> None:
    h, y = normal(30, 12).double(), normal(30, 4, seed=1).double()
    gram, cross = h.T @ h, h.T @ y
    expected = np.linalg.solve(gram.numpy() + ridge * np.eye(12), cross.numpy())
    got = readout(Symmetric.of(gram), cross, ridge)
    assert np.abs(got.numpy() - expected).max() <= 1e-10 * np.abs(expected).max()


def test_readout_keeps_its_inputs_and_the_dtype_of_the_targets() -> None:
    h, y = normal(30, 12), normal(30, 4, seed=1)
    gram, cross = Symmetric.of((h.T @ h).double()), h.T @ y
    before = gram.dense()
    assert readout(gram, cross, 5.0).dtype == torch.float32
    assert torch.equal(gram.dense(), before)


def test_readout_of_nan_is_refused() -> None:
    with pytest.raises(torch.linalg.LinAlgError):
        readout(Symmetric.of(torch.full((2, 2), math.nan)), torch.zeros(2, 1), 1.0)


def test_a_ridge_too_small_for_the_features_is_told() -> None:
    head = RidgeHead(Projection(8, 300, 0), [1e-12, 1.0], 0.5)
    features = 1e6 * torch.randn(40, 8, generator=generator(1))
    with pytest.raises(UserError, match=r"head.ridge_grid has 1e-12, which is too small for these .* float64"):
        head.update(features, torch.arange(40) % 4, 4, generator(2))


def test_a_stream_ends_as_with_ranpac_of_pilot_and_mammoth() -> None:
    """Both keep G and Q of all sessions, take the decade with the least mean squared error on the last fifth of the
    session's rows, and solve (G + lambda I) W = Q densely (`optimise_ridge_parameter`); here in float64."""
    grid = [10.0**e for e in range(1, 6)]
    w_rand, centres = normal(16, 60, seed=1).double().numpy(), 2 * normal(12, 16, seed=2)
    head = RidgeHead(Projection(16, 60, 5), grid, 0.8)
    head.projection._weight = torch.from_numpy(w_rand).float()
    gram, cross, probe = np.zeros((60, 60)), np.zeros((60, 12)), centres + 0.5 * normal(12, 16, seed=9)
    chosen = []
    for session, noise in enumerate((1, 4, 12)):
        labels = 4 * session + torch.arange(200) % 4
        features = centres[labels] + noise * normal(200, 16, seed=3 + session)
        order = torch.randperm(200, generator=generator(session, "rows"))
        rows, targets = features[order].double().numpy(), np.eye(12)[labels[order]]
        hidden = np.maximum(rows @ w_rand, 0)
        gram, cross = gram + hidden.T @ hidden, cross + hidden.T @ targets
        errors = errors_oracle(hidden[:160], targets[:160], hidden[160:], targets[160:], grid)
        ridge = grid[int(np.argmin(errors))]
        weight = np.linalg.solve(gram + ridge * np.eye(60), cross)
        head.update(features, labels, 4 * (session + 1), generator(session, "rows"))
        chosen.append(ridge)
        assert head.ridge == ridge
        theirs = np.maximum(probe.double().numpy() @ w_rand, 0) @ weight
        ours = head.logits(probe).double().numpy()
        assert np.abs(ours - theirs[:, : ours.shape[1]]).max() <= 1e-5 * np.abs(theirs).max()
        assert (ours.argmax(axis=1) == theirs.argmax(axis=1))[: ours.shape[1]].all()
    assert chosen == [1e2, 1e4, 1e5], "it is a choice"


def test_released_readout_and_choice(reference: dict[str, Tensor]) -> None:
    hidden = (reference["ridge/features"] @ reference["ridge/w_rand"]).relu()
    targets = one_hot(reference["ridge/labels"], int(reference["ridge/classes"]))
    cut = int(0.8 * len(hidden))
    chosen = choose_ridge(hidden[:cut], targets[:cut], hidden[cut:], targets[cut:], GRID)
    assert chosen == reference["ridge/chosen"].item()
    weight = readout(Symmetric.gram(hidden), hidden.T @ targets, chosen)
    expected = reference["ridge/readout"].T
    assert (weight.double() - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_released_choice_inside_the_grid(reference: dict[str, Tensor]) -> None:
    hidden, labels = reference["ridge2/hidden"], reference["ridge2/labels"]
    targets = one_hot(labels, int(labels.max()) + 1)
    cut = int(0.8 * len(hidden))
    chosen = choose_ridge(hidden[:cut], targets[:cut], hidden[cut:], targets[cut:], GRID)
    assert chosen == reference["ridge2/chosen"].item()
    assert GRID[0] < chosen < GRID[-1]


@pytest.mark.parametrize("rows", [10, 20, 21, 60])  # fewer rows than the 20 columns (dual form), as many, more (primal)
def test_choice_equals_the_primal_oracle(rows: int) -> None:
    grid = tuple(10.0**e for e in range(-2, 5))
    chosen = set()
    for seed in range(12):
        signal = normal(20, 3, seed=seed)
        h, probe = normal(rows, 20, seed=seed + 100), normal(15, 20, seed=seed + 200)
        noise = 10 ** (seed / 4 - 1)
        y = h @ signal + noise * normal(rows, 3, seed=seed + 300)
        targets = probe @ signal + noise * normal(15, 3, seed=seed + 400)
        errors = errors_oracle(h.numpy(), y.numpy(), probe.numpy(), targets.numpy(), grid)
        got = choose_ridge(h, y, probe, targets, grid)
        assert got == grid[int(np.argmin(errors))], (rows, seed, errors)
        chosen.add(got)
    assert len(chosen) >= 3


def test_the_dual_form_equals_the_primal_one_on_rows_padded_with_zeros() -> None:
    """Rows of zeros change no Gram matrix, but move the choice from the dual to the primal form."""
    grid = tuple(10.0**e for e in range(-2, 5))
    for seed in range(8):
        h, y = normal(12, 16, seed=seed), normal(12, 3, seed=seed + 50)
        probe, targets = normal(9, 16, seed=seed + 60), normal(9, 3, seed=seed + 70)
        padded = torch.cat([h, torch.zeros(10, 16)]), torch.cat([y, torch.zeros(10, 3)])
        assert choose_ridge(h, y, probe, targets, grid) == choose_ridge(*padded, probe, targets, grid), seed


def test_first_of_equal_values_and_of_a_part_without_rows() -> None:
    h, y = torch.zeros(4, 3), normal(4, 2)
    assert choose_ridge(h, y, h, y, [7.0, 1.0]) == 7
    assert choose_ridge(h[:0], y[:0], h, y, [7.0, 1.0]) == 7
    assert choose_ridge(h, y, h[:0], y[:0], [7.0, 1.0]) == 7


def head(grid: tuple[float, ...] = (1.0,), split: float = 0.8, dim: int = 12) -> RidgeHead:
    return RidgeHead(Projection(5, dim, seed=0), grid, split)


def session(seed: int = 0, rows: int = 40, classes: range = range(4)) -> tuple[Tensor, Tensor]:
    labels = torch.tensor([classes[i % len(classes)] for i in range(rows)])
    return normal(10, 5, seed=9)[labels] + 0.5 * normal(rows, 5, seed=seed), labels


@pytest.mark.parametrize("dim", [0, 12, 90])
def test_update_equals_numpy(dim: int) -> None:
    fitted = head(dim=dim)
    f, labels = session()
    fitted.update(f, labels, 4, generator(0))
    h = fitted.projection(f).double().numpy()
    y = np.eye(4)[labels.numpy()]
    w = np.linalg.solve(h.T @ h + np.eye(h.shape[1]), h.T @ y)
    expected = h @ w
    assert np.abs(fitted.logits(f).numpy() - expected).max() <= 1e-4 * np.abs(expected).max()
    assert torch.equal(fitted.readout()["weight"], fitted.weight)


def test_ridge_is_chosen_on_a_random_share_of_this_session_alone() -> None:
    grid = (1e-3, 1e-1, 10.0, 1e3)
    fitted = head(grid, split=0.7)
    for number, classes in enumerate((range(4), range(4, 8))):
        f, labels = session(seed=number, rows=30, classes=classes)
        fitted.update(f, labels, classes.stop, generator(number, "split"))
        order = torch.randperm(30, generator=generator(number, "split")).numpy()
        h, y = fitted.projection(f).numpy()[order], np.eye(classes.stop)[labels.numpy()[order]]
        errors = errors_oracle(h[:21], y[:21], h[21:], y[21:], grid)
        assert fitted.ridge == grid[int(np.argmin(errors))], (number, errors)


def test_a_pooled_choice_sums_the_errors_of_all_sessions() -> None:
    """Each session's errors are numpy's; lambda is that of their sum, which differs from that of the last session."""
    grid, chosen = (1e-3, 1e-1, 10.0, 1e3), []
    fitted, alone = RidgeHead(Projection(5, 12, seed=0), grid, 0.7, "pooled"), head(grid, split=0.7)
    total = np.zeros(4)
    for number in range(6):
        classes = range(4 * number, 4 * number + 4)
        labels = torch.tensor([classes[i % 4] for i in range(14)])
        f = normal(40, 5, seed=9)[labels] + 10 ** (number % 3 - 1) * normal(14, 5, seed=number)
        for one in (fitted, alone):
            one.update(f, labels, classes.stop, generator(number, "split"))
        order = torch.randperm(14, generator=generator(number, "split")).numpy()
        h, y = fitted.projection(f).numpy()[order], np.eye(classes.stop)[labels.numpy()[order]]
        total += np.array(errors_oracle(h[:9], y[:9], h[9:], y[9:], grid)) * y[9:].size
        assert fitted.ridge == grid[int(np.argmin(total))], (number, total)
        np.testing.assert_allclose(fitted.errors.numpy(), total, rtol=1e-4)
        chosen.append((fitted.ridge, alone.ridge))
    assert any(pooled != last for pooled, last in chosen), chosen


def test_a_pooled_choice_goes_on_from_a_state_a_copy_and_added_sessions() -> None:
    grid = (1e-3, 1e-1, 10.0, 1e3)

    def pooled() -> RidgeHead:
        return RidgeHead(Projection(5, 12, seed=0), grid, 0.7, "pooled")

    whole, added, restored = pooled(), pooled(), pooled()
    first, second = session(0), session(1, rows=10)
    whole.update(*first, 4, generator(0))
    added.add(*first, 4, generator(0))  # as for a session whose readout came from elsewhere
    restored.load_state_dict(whole.state_dict())
    copied = whole.copy()
    errors = whole.errors.clone()
    for one in (whole, added, restored, copied):
        one.update(*second, 4, generator(1))
        assert torch.equal(one.weight, whole.weight)
        assert torch.equal(one.errors, whole.errors)
        assert (one.errors > errors).all()


@pytest.mark.parametrize("seed", range(4))
def test_order_and_batches_of_samples_do_not_matter(seed: int) -> None:
    whole, split = head(), head()
    f, labels = session()
    hidden, targets = whole.projection(f), one_hot(labels, 4)
    whole.accumulate(hidden, targets)
    for part in torch.randperm(40, generator=generator(seed)).split(7):
        split.accumulate(hidden[part], targets[part])
    assert torch.allclose(whole.gram.dense(), split.gram.dense(), rtol=1e-5, atol=1e-4)
    assert torch.allclose(whole.cross, split.cross, rtol=1e-5, atol=1e-4)


def test_sessions_merge_and_classes_grow() -> None:
    merged, joint = head(), head()
    first, second = session(0, classes=range(4)), session(1, classes=range(4, 7))
    merged.update(*first, 4, generator(0))
    assert merged.logits(first[0]).shape == (40, 4)
    merged.update(*second, 7, generator(1))
    joint.update(torch.cat([first[0], second[0]]), torch.cat([first[1], second[1]]), 7, generator(2))
    pairs = {name: (getattr(merged, name), getattr(joint, name)) for name in ("cross", "weight")}
    for name, (a, b) in {**pairs, "gram": (merged.gram.dense(), joint.gram.dense())}.items():
        assert (a - b).abs().max() <= 1e-4 * b.abs().max(), name


def test_copies_and_states_are_independent() -> None:
    fitted, restored = head(), head()
    f, labels = session()
    fitted.update(f, labels, 4, generator(0))
    before = fitted.logits(f)
    copied = fitted.copy()
    copied.update(f, labels, 5, generator(1))
    assert torch.equal(fitted.logits(f), before)
    assert copied.logits(f).shape == (40, 5)
    restored.load_state_dict(fitted.copy().state_dict())
    assert torch.equal(restored.logits(f), before)
    assert restored.ridge == fitted.ridge


def test_the_state_is_a_copy() -> None:
    fitted = head()
    f, labels = session()
    fitted.update(f, labels, 4, generator(0))
    before = fitted.logits(f)
    state = fitted.state_dict()
    fitted.update(f, labels, 4, generator(1))
    assert not torch.equal(fitted.gram.dense(), Symmetric(state["gram"]).dense())
    fitted.load_state_dict(state)
    state["weight"].zero_()
    assert torch.equal(fitted.logits(f), before)


@pytest.mark.parametrize("rows", [30, 700])  # of the split's first part fewer and more than the 300 columns
def test_adding_gives_the_statistics_of_an_update_bit_for_bit(rows: int) -> None:
    f, labels = session(rows=rows)
    updated, added = head(dim=300), head(dim=300)
    for number, one in enumerate((labels, labels + 4)):
        updated.update(f, one, 4 * (number + 1), generator(number))
        added.add(f, one, 4 * (number + 1), generator(number))
    assert torch.equal(added.gram.dense(), updated.gram.dense())
    assert torch.equal(added.cross, updated.cross)
    h = updated.projection(f).double()
    assert torch.allclose(updated.gram.dense().double(), 2 * h.T @ h, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("tolerance", [0.0, 0.05])
def test_a_solution_is_as_right_as_its_tolerance_asks(tolerance: float) -> None:
    """Eigenvalues from 1 to 1e7 against lambda = 1: float32 factors alone are off by much more than its last digits."""
    q, _ = torch.linalg.qr(normal(300, 300).double())
    dense = Symmetric.of(((q * torch.logspace(0, 7, 300, dtype=torch.float64)) @ q.T).float()).dense()  # symmetric
    cross = normal(300, 3, seed=1)
    for ridge in (1.0, 1e3, 1e5):
        expected = torch.linalg.solve(dense.double() + ridge * torch.eye(300), cross.double())
        weights = readout(Symmetric.of(dense), cross, ridge, tolerance)
        assert (weights - expected).norm() <= max(1e-5, tolerance) * expected.norm(), (ridge, tolerance)


@pytest.mark.parametrize(("tolerance", "corrections", "error"), [(0.05, 1, 1e-6), (0.0, 2, 1e-7)])
def test_a_solution_that_is_only_compared_is_corrected_once(
    tolerance: float, corrections: int, error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of features that are not centred one eigenvalue is far above all others: a correction squares the error."""
    hidden = Projection(64, 600, 0)(normal(400, 64) * 30)
    dense, cross, ridge = (hidden @ hidden.T).double(), normal(400, 8, seed=1), 10.0
    expected = torch.linalg.solve(dense + ridge * torch.eye(400, dtype=torch.float64), cross.double())
    seen, times64 = [], Symmetric.times64

    def counted(self: Symmetric, right: Tensor) -> Tensor:
        seen.append(len(right))
        return times64(self, right)

    monkeypatch.setattr(Symmetric, "times64", counted)
    weights = readout(Symmetric.gram(hidden.T), cross, ridge, tolerance)
    assert len(seen) == corrections
    assert (weights.double() - expected).norm() <= error * expected.norm()


def test_before_the_first_session_there_are_no_classes() -> None:
    assert head().logits(normal(2, 5)).shape == (2, 0)
