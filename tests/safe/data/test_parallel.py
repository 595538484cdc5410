"""Threads for images: the order, the errors and the end of what runs beside."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from safe.data.parallel import ahead, in_threads


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_order_and_side_by_side(threads: int) -> None:
    meeting = threading.Barrier(threads)

    def square(item: int) -> int:
        meeting.wait(60)  # nobody passes alone
        return item * item

    items = range(4 * threads)
    assert in_threads(square, items) == [item * item for item in items]
    assert in_threads(square, []) == []


def test_the_first_error_is_raised(threads: int) -> None:
    def fail(item: int) -> int:
        if item in (2, 5):
            raise ValueError(item)
        return item

    with pytest.raises(ValueError, match="2"):
        in_threads(fail, range(8))


def test_batches_come_in_order_and_are_begun_before_they_are_asked_for() -> None:
    begun = [threading.Event() for _ in range(6)]

    def batches() -> Iterator[int]:
        for number, event in enumerate(begun):
            event.set()
            yield number

    given = ahead(batches(), depth=2)
    assert next(given) == 0
    assert all(event.wait(60) for event in begun[:3]), "two more are on their way"
    assert not begun[4].is_set()
    assert list(given) == [1, 2, 3, 4, 5]
    assert list(ahead(iter([]))) == []


def test_an_error_comes_in_its_place() -> None:
    def batches() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("the third")

    given = ahead(batches())
    assert [next(given), next(given)] == [1, 2]
    with pytest.raises(ValueError, match="the third"):
        next(given)


def test_a_caller_that_stops_leaves_no_thread() -> None:
    before = threading.active_count()
    for batch in ahead(iter(range(1000))):
        if batch == 3:
            break
    given = ahead(iter(range(1000)))
    next(given)
    given.close()
    assert threading.active_count() <= before
