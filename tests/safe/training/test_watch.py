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


@pytest.fixture
def trainer(make_config: Callable[..., Config], tiny_dataset: Dataset, tiny_vit: object) -> Callable[[], SafeTrainer]:
    return lambda: SafeTrainer(make_config(), dataset=tiny_dataset, backbone=tiny_vit)  # type: ignore[arg-type]


def test_a_run_tells_every_image_that_it_trains_on_and_gives_the_same_numbers(
    trainer: Callable[[], SafeTrainer],
) -> None:
    alone, watched = trainer(), trainer()
    told: list[Working] = []
    watched.watch.__init__(Clock(0.3))  # type: ignore[misc]
    watched.watch.tell = told.append
    while not watched.done:
        before = len(told)
        event, other = watched.advance(), alone.advance()
        assert event == other
        now = told[before:]
        assert {one.session for one in now} == {watched.session + (not isinstance(event, SessionResult))}
        assert {one.sessions for one in now} == {watched.sessions}
        if isinstance(event, SessionResult):
            assert {one.doing for one in now} == {"closing"}
            continue
        assert {(one.doing, one.epochs, one.total) for one in now if one.epoch == event.epoch} == {
            ("training", event.epochs, len(watched.stream.sessions[event.session - 1].train))
        }
        counted = [one.done for one in now if one.epoch == event.epoch]
        assert counted == sorted(counted)
        assert counted[-1] <= now[-1].total
    losses = [one.loss for one in told if one.loss is not None]
    assert losses
    assert all(0 < loss < 100 for loss in losses)
    assert [one.share for one in told if one.doing == "closing"] == [1.0] * sum(one.doing == "closing" for one in told)
