"""What a run tells of itself while it is worked on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from safe.config import Config
from safe.data.sources import Dataset
from safe.training.trainer import SafeTrainer
from safe.training.watch import Watch
from safe.types import SessionResult, Working


class Clock:
    """Goes on by a step at every look."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_a_loss_is_asked_for_once_a_second_and_no_more() -> None:
    clock, asked, told = Clock(0.0), [0], list[Working]()
    watch = Watch(clock)
    watch.step(8, pytest.fail)  # nobody is told, so nothing is asked for
    watch.tell = told.append
    watch.epoch(2, 5, 3, 20, 800)

    def loss() -> float:
        asked[0] += 1
        return 2.5

    for _ in range(100):
        clock.now += 0.05
        watch.step(8, loss)
    assert 4 <= asked[0] <= 5
    assert len(told) == asked[0] + 1
    assert told[0] == Working(2, 5, "training", 3, 20, 0, 800)
    last = told[-1]
    assert (last.loss, last.total) == (2.5, 800)
    assert last.images_per_second == pytest.approx(160)
    assert last.share == pytest.approx((2 + last.done / 800) / 20)
    assert last.in_words() == "epoch 3 of 20, loss 2.5, 160 images/s"
    watch.wait()
    clock.now += 1
    watch.wait()
    assert told[-1].in_words() == "waits for another run"
    watch.closing(2, 5, 20)
    assert (told[-1].in_words(), told[-1].share) == ("closing", 1.0)
    clock.now += 1
    watch.read(1200)
    assert told[-1].in_words() == "closing, 1,200 images read"
    watch.solve()
    assert told[-1].in_words() == "solving a head, 1,200 images read"
    clock.now += 1
    watch.read(300)
    assert told[-1].in_words() == "closing, 1,500 images read"


def test_what_is_read_before_the_first_step_is_told_and_is_no_part_of_its_speed() -> None:
    clock, told = Clock(0.0), list[Working]()
    watch = Watch(clock)
    watch.tell = told.append
    watch.epoch(2, 5, 1, 20, 800)
    for _ in range(3):
        clock.now += 10
        watch.read(256)
    assert (told[-1].in_words(), told[-1].share) == ("reading, 768 images", 0.0)
    clock.now += 2
    watch.step(64, lambda: 1.0)
    assert (told[-1].in_words(), told[-1].share) == ("epoch 1 of 20, loss 1, 32 images/s", 64 / 800 / 20)


@pytest.fixture
def trainer(make_config: Callable[..., Config], tiny_dataset: Dataset, tiny_vit: object) -> Callable[[], SafeTrainer]:
    return lambda: SafeTrainer(make_config(), dataset=tiny_dataset, backbone=tiny_vit)  # type: ignore[arg-type]


def test_a_run_tells_every_image_that_it_trains_on_and_gives_the_same_numbers(
    trainer: Callable[[], SafeTrainer],
) -> None:
    alone, watched = trainer(), trainer()
    told: list[Working] = []
    watched.watch.__init__(Clock(2.0))  # type: ignore[misc]
    watched.watch.tell = told.append
    while not watched.done:
        before = len(told)
        event, other = watched.advance(), alone.advance()
        assert event == other
        now = told[before:]
        assert {one.session for one in now} == {watched.session + (not isinstance(event, SessionResult))}
        assert {one.sessions for one in now} == {watched.sessions}
        if isinstance(event, SessionResult):
            assert {one.doing for one in now} == {"closing", "solving"}
            assert [one.share for one in now] == [1.0] * len(now)
            continue
        now = [one for one in now if one.doing != "reading"]
        assert {(one.doing, one.epochs, one.total) for one in now if one.epoch == event.epoch} == {
            ("training", event.epochs, len(watched.stream.sessions[event.session - 1].train))
        }
        counted = [one.done for one in now if one.epoch == event.epoch]
        assert counted == sorted(counted)
        assert counted[-1] <= len(watched.stream.sessions[event.session - 1].train)
    losses = [one.loss for one in told if one.loss is not None]
    assert losses
    assert all(0 < loss < 100 for loss in losses)
