"""How far a run is, in lines: never silent for ten seconds, with what is left from the first images on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from safe.cli.show import JsonLines, Table, Voice
from safe.config import Config
from safe.data.sources import Dataset
from safe.io.progress import SILENCE_S
from safe.training.trainer import SafeTrainer
from safe.types import Working

Make = Callable[..., SafeTrainer]


@pytest.fixture
def make(make_config: Callable[..., Config], tiny_dataset: Dataset, tiny_vit: object) -> Make:
    def trainer(**changes: object) -> SafeTrainer:
        return SafeTrainer(make_config(changes), dataset=tiny_dataset, backbone=tiny_vit)  # type: ignore[arg-type]

    return trainer


class Clock:
    """Stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_line_comes_after_ten_silent_seconds_and_says_what_is_left(make: Make) -> None:
    """48 images a session in three sessions: two epochs of the first, one of each later."""
    trainer, clock, lines = make(**{"slow.epochs": 2, "fast.epochs": 1}), Clock(), list[str]()
    images = [len(session.train) for session in trainer.stream.sessions]
    judged = [len(session.evaluation) for session in trainer.stream.sessions]
    voice = Voice(trainer, lines.append, clock)
    steps = [2 * images[0], images[1], images[2]]
    reads = [sum(images[:1] + judged[:1]), *(2 * images[i] + judged[i] + sum(judged[: i + 1]) for i in (1, 2))]
    assert voice.pace.total == pytest.approx(sum(steps) + sum(reads) / 3)

    def at(seconds: float, working: Working | None = None) -> list[str]:
        clock.now = seconds
        if working is not None:
            voice.take(working)
        before = len(lines)
        voice.look()
        return lines[before:]

    first = images[0]
    assert at(9, Working(1, 3, "training", 1, 2, 0, first)) == []
    assert at(12, Working(1, 3, "training", 1, 2, first // 2, first, 2.345, 4.0)) == [
        "session 1 of 3: epoch 1 of 2, loss 2.35, 4 images/s, "
        f"{3 / (first // 2) * (voice.pace.total - first // 2):.0f} s left"
    ]
    assert at(21.9) == []
    voice.spoken()
    assert at(31) == []
    assert len(at(32)) == 1, "what was told last is told again: a single step may take long"
    voice.pace.finished(1)
    clock.now = 100
    assert voice.pace.left == pytest.approx(
        (100 - 9) / (2 * first + reads[0] / 3) * (steps[1] + steps[2] + (reads[1] + reads[2]) / 3)
    )


def test_going_on_in_the_middle_says_nothing_about_the_pace_by_what_was_done_before(make: Make) -> None:
    trainer, clock = make(**{"slow.epochs": 2, "fast.epochs": 1}), Clock()
    images = len(trainer.stream.sessions[0].train)
    voice = Voice(trainer, lambda line: None, clock)
    clock.now = 5
    voice.take(Working(1, 3, "training", 2, 2, 0, images))
    assert voice.pace.left is None
    clock.now = 7
    voice.take(Working(1, 3, "training", 2, 2, images // 2, images))
    assert voice.pace.left == pytest.approx(2 / (images // 2) * (voice.pace.total - images - images // 2))


@pytest.mark.parametrize("json", [False, True])
def test_a_run_in_a_pipe_says_how_far_it_is_while_a_step_takes_long(
    make: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, json: bool
) -> None:
    monkeypatch.setattr("safe.cli.show.SILENCE_S", 0.0)
    monkeypatch.setattr("safe.io.progress.TICK_S", 0.001)
    trainer = make(**{"slow.epochs": 3})
    show = JsonLines(trainer) if json else Table(trainer)
    try:
        while not trainer.done:
            show(trainer.advance())
    finally:
        show.close()
    out, error = capsys.readouterr()
    lines = [line for line in (error if json else out).splitlines() if line.startswith("session 1 of 3: epoch ")]
    assert lines
    assert (
        len([line for line in out.splitlines() if line.startswith(('{"session"', "   1/3", "   2/3", "   3/3"))]) == 3
    )
    assert SILENCE_S == 10.0
