"""Class order, sessions and holdout are exact functions of labels and seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from safe.data.split import class_order, holdout, session_sizes
from safe.errors import UserError
from safe.seeding import generator

# How the published class order of CIFAR-100 under seed 1993 begins (iCaRL, PODNet, PyCIL).
ORDER_1993 = [68, 56, 78, 8, 23, 84, 90, 65, 74, 76]


def names(count: int) -> list[str]:
    return [f"class {number}" for number in range(count)]


def labels(counts: list[int], seed: int = 0) -> Tensor:
    everything = torch.cat([torch.full((n,), c) for c, n in enumerate(counts)])
    return everything[torch.randperm(len(everything), generator=generator(seed))]


def test_class_order_is_that_of_the_legacy_generator() -> None:
    assert class_order(names(100), "seeded", 1993)[:10] == ORDER_1993
    for classes, seed in ((100, 1993), (200, 0), (7, 2**31 - 1)):
        expected = np.random.RandomState(seed).permutation(classes).tolist()
        assert class_order(names(classes), "seeded", seed) == expected
    assert class_order(names(4), "natural", 1993) == [0, 1, 2, 3]


def test_an_order_by_names_gives_their_numbers_in_the_data_set_whatever_the_seed() -> None:
    classes = ["ant", "bee", "cat", "dog"]
    for seed in (0, 1993):
        assert class_order(classes, ["dog", "ant", "cat", "bee"], seed) == [3, 0, 2, 1]


def test_an_order_that_is_not_every_class_once_is_refused_with_what_is_wrong() -> None:
    classes = ["ant", "bee", "cat", "dog"]
    with pytest.raises(UserError, match=r"4 classes once, and holds 4 names:\n  - there is no class 'beee'.*'bee'\?$"):
        class_order(classes, ["ant", "beee", "cat", "dog"], 0)
    with pytest.raises(UserError, match=r"holds 3 names:\n  - the class 'cat' is not in it$"):
        class_order(classes, ["dog", "ant", "bee"], 0)
    with pytest.raises(
        UserError, match=r"holds 9 names:(\n  - there is no class 'class \d'\.){5}\n  - and 4 more like"
    ):
        class_order(classes, names(9), 0)


@pytest.mark.parametrize(
    ("classes", "init", "increment", "sizes"),
    [
        (100, 10, 10, [10] * 10),
        (10, 4, 4, [4, 4, 2]),
        (7, 1, 3, [1, 3, 3]),
        (5, 5, 2, [5]),
        (5, 2, 100, [2, 3]),
        (1, 1, 1, [1]),
    ],
)
def test_the_last_session_is_smaller_if_need_be(classes: int, init: int, increment: int, sizes: list[int]) -> None:
    assert session_sizes(classes, init, increment) == sizes


def test_more_first_classes_than_there_are_is_refused() -> None:
    with pytest.raises(UserError, match="at most the 5 classes of the data set, got 6"):
        session_sizes(5, 6, 1)


def test_sizes_as_a_list_are_taken_as_they_are_where_they_come_to_all_classes() -> None:
    assert session_sizes(30, 10, 10, [20, 5, 5]) == [20, 5, 5]
    with pytest.raises(UserError, match=r"data.sessions=\[20, 5, 5\] come to 30 classes, and the data set has 60"):
        session_sizes(60, 10, 10, [20, 5, 5])


COUNTS = [2, 3, 10, 17, 40]


@pytest.mark.parametrize("share", [0.001, 0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("seed", [0, 5])
def test_holdout_is_an_exact_partition_per_class(share: float, seed: int) -> None:
    y = labels(COUNTS)
    kept, held = holdout(y, share, seed)
    assert sorted(kept.tolist() + held.tolist()) == list(range(len(y)))
    assert kept.tolist() == sorted(kept.tolist())
    assert held.tolist() == sorted(held.tolist())
    for c, n in enumerate(COUNTS):
        count = int((y[held] == c).sum())
        assert 1 <= count <= n - 1
        assert count == min(max(1, int(share * n + 0.5)), n - 1), (share, c)


def test_no_share_holds_nothing_out() -> None:
    kept, held = holdout(labels([1, 3]), 0.0, 0)
    assert kept.tolist() == [0, 1, 2, 3]
    assert held.tolist() == []


def test_holdout_depends_on_its_seed_and_not_on_the_global_random_state() -> None:
    y, first = labels(COUNTS), holdout(labels(COUNTS), 0.3, 1)[1]
    np.random.seed(3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        again = holdout(y, 0.3, 1)[1]
    assert torch.equal(first, again)
    assert not torch.equal(first, holdout(y, 0.3, 2)[1])
    np.random.seed(4)
    before = np.random.get_state()[1].copy()
    holdout(y, 0.3, 1)
    assert np.array_equal(np.random.get_state()[1], before)


def test_the_choice_of_a_class_does_not_depend_on_other_classes() -> None:
    """Which of its own images (first, second, ...) a class gives up stays the same among any other classes."""

    def chosen(y: Tensor, label: int) -> list[int]:
        members = (y == label).nonzero().squeeze(1).tolist()
        return [members.index(i) for i in holdout(y, 0.3, 0)[1].tolist() if y[i] == label]

    expected = chosen(labels(COUNTS), 3)
    assert len(expected) == 5
    assert chosen(labels([9, 4, 2, 17, 5, 30], seed=8), 3) == expected
    assert chosen(torch.full((17,), 3), 3) == expected


def test_classes_of_equal_size_give_up_different_images() -> None:
    y = torch.arange(6).repeat_interleave(20)
    held = holdout(y, 0.2, 0)[1]
    assert len({tuple((held[y[held] == c] - 20 * c).tolist()) for c in range(6)}) > 1


def test_a_class_with_one_image_is_refused() -> None:
    with pytest.raises(UserError, match="class 1 has one training image"):
        holdout(labels([3, 1]), 0.2, 0)
