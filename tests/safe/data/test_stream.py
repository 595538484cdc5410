"""A data set as a stream: disjoint classes, exact image sets, and no look at test data under holdout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from safe.data.sources import ArrayImages, Dataset
from safe.data.split import class_order
from safe.data.stream import Stream, class_incremental
from safe.errors import UserError


class Untouchable:
    """Test images that must not be looked at, neither pixels nor labels."""

    @property
    def labels(self) -> Tensor:
        raise AssertionError("test labels were read")

    def __len__(self) -> int:
        raise AssertionError("test images were counted")

    def read(self, index: Tensor) -> Tensor:
        raise AssertionError("test images were read")

    def whole(self, index: Tensor) -> Tensor:
        raise AssertionError("test images were read whole")


def make_stream(dataset: Dataset, **changes: Any) -> Stream:
    settings = {
        "sizes": [2, 3, 1],
        "order": class_order(dataset.classes, "seeded", 1993),
        "evaluate_on": "test",
        "holdout_share": 0.0,
        "holdout_seed": 0,
    }
    return class_incremental(dataset, **(settings | changes))


def contents(stream: Stream) -> list[Any]:
    return [
        (s.index, s.classes, s.train.index.tolist(), s.train.labels.tolist(), s.evaluation.index.tolist())
        for s in stream.sessions
    ]


def test_sessions_bring_the_classes_of_the_order_with_all_their_images(tiny_dataset: Dataset) -> None:
    stream = make_stream(tiny_dataset)
    assert list(stream.order) == np.random.RandomState(1993).permutation(6).tolist()
    assert [s.classes for s in stream.sessions] == [range(2), range(2, 5), range(5, 6)]
    assert [s.index for s in stream.sessions] == [1, 2, 3]
    assert len(stream) == 3
    assert stream.split == "test"
    for s in stream.sessions:
        for subset, images in ((s.train, tiny_dataset.train), (s.evaluation, tiny_dataset.test)):
            theirs = [stream.order[label] for label in subset.labels.tolist()]
            assert theirs == images.labels[subset.index].tolist()
            classes = {stream.order[c] for c in s.classes}
            assert subset.index.tolist() == [i for i, y in enumerate(images.labels.tolist()) if y in classes]
            assert set(subset.labels.tolist()) == set(s.classes)


def test_natural_order_keeps_labels(tiny_dataset: Dataset) -> None:
    stream = make_stream(tiny_dataset, order=range(6))
    assert stream.order == (0, 1, 2, 3, 4, 5)
    for s in stream.sessions:
        assert torch.equal(s.train.labels, tiny_dataset.train.labels[s.train.index])


def test_reading_gives_the_images_of_the_data_set(tiny_dataset: Dataset) -> None:
    subset = make_stream(tiny_dataset).sessions[1].evaluation
    positions = torch.tensor([3, 0, 3])
    assert torch.equal(subset.read(positions), tiny_dataset.test.read(subset.index[positions]))
    assert len(subset) == 12


def test_all_classes_first_is_one_session(tiny_dataset: Dataset) -> None:
    stream = make_stream(tiny_dataset, sizes=[6])
    assert [s.classes for s in stream.sessions] == [range(6)]
    assert len(stream.sessions[0].train) == len(tiny_dataset.train)


def test_holdout_judges_held_out_training_images_and_trains_on_the_others(tiny_dataset: Dataset) -> None:
    stream = make_stream(tiny_dataset, evaluate_on="holdout", holdout_share=0.25)
    assert stream.split == "val"
    seen: list[int] = []
    for s in stream.sessions:
        assert s.train.images is s.evaluation.images is tiny_dataset.train
        assert len(s.evaluation) == 2 * len(s.classes)
        assert len(s.train) == 6 * len(s.classes)
        seen += s.train.index.tolist() + s.evaluation.index.tolist()
    assert sorted(seen) == list(range(len(tiny_dataset.train)))


def test_a_holdout_share_shrinks_training_also_when_test_images_judge(tiny_dataset: Dataset) -> None:
    on_test = make_stream(tiny_dataset, holdout_share=0.25)
    on_holdout = make_stream(tiny_dataset, evaluate_on="holdout", holdout_share=0.25)
    for a, b in zip(on_test.sessions, on_holdout.sessions, strict=True):
        assert torch.equal(a.train.index, b.train.index)
        assert a.evaluation.images is tiny_dataset.test


def test_holdout_never_looks_at_test_images_or_labels(tiny_dataset: Dataset) -> None:
    blind = replace(tiny_dataset, test=Untouchable())
    stream = make_stream(blind, evaluate_on="holdout", holdout_share=0.25)
    for s in stream.sessions:
        s.evaluation.read(torch.arange(len(s.evaluation)))
    assert contents(stream) == contents(make_stream(tiny_dataset, evaluate_on="holdout", holdout_share=0.25))


def test_neither_global_random_state_nor_other_seeds_move_the_holdout(tiny_dataset: Dataset) -> None:
    def held(**changes: Any) -> set[int]:
        stream = make_stream(tiny_dataset, evaluate_on="holdout", holdout_share=0.25, **changes)
        return {i for s in stream.sessions for i in s.evaluation.index.tolist()}

    assert held() == held(order=[5, 4, 3, 2, 1, 0]) == held(sizes=[6])
    assert held() != held(holdout_seed=1)


def test_a_class_without_images_is_named(make_dataset: Callable[..., Dataset]) -> None:
    whole = make_dataset()
    for side, what in (("train", "training"), ("test", "evaluation")):
        images = getattr(whole, side)
        without = ArrayImages(images.pixels[images.labels != 4], images.labels[images.labels != 4])
        with pytest.raises(UserError, match=f"1 classes of tiny have no {what} image: class 4"):
            make_stream(replace(whole, **{side: without}))


def test_grey_images_read_as_three_equal_channels() -> None:
    pixels = torch.arange(2 * 4, dtype=torch.uint8).reshape(2, 1, 2, 2)
    read = ArrayImages(pixels, torch.tensor([0, 1])).read(torch.tensor([1]))
    assert read.shape == (1, 3, 2, 2)
    for channel in range(3):
        assert torch.equal(read[0, channel], pixels[1, 0])


def test_bad_arrays_are_refused() -> None:
    good, y = torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1])
    for pixels in (good.float(), good[:, :2], good[0]):
        with pytest.raises(ValueError, match="pixels must be uint8"):
            ArrayImages(pixels, y)
    for labels in (y[:1], y.float(), y.unsqueeze(1)):
        with pytest.raises(ValueError, match="labels must be int64"):
            ArrayImages(good, labels)


def test_the_digest_tells_images_apart() -> None:
    pixels, y = torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1])
    changed = pixels.clone()
    changed[1, 2, 3, 3] = 1
    sets = [ArrayImages(pixels, y), ArrayImages(changed, y), ArrayImages(pixels, y.flip(0))]
    sets.append(ArrayImages(pixels.reshape(2, 3, 2, 8), y))
    assert len({images.digest() for images in sets}) == 4
    assert sets[0].digest() == ArrayImages(pixels.clone(), y.clone()).digest()
