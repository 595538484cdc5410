"""What a run takes of arithmetic, memory and disk: held against runs that are counted, and against formulas by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from safe.config import Config, load_config
from safe.data.sessions import expected_sessions
from safe.heads.gaussian import GaussianHead
from safe.heads.projection import Projection
from safe.heads.ridge import RidgeHead
from safe.training.cost import counted_flops, run_bytes, session_costs
from safe.training.trainer import SafeTrainer

NOWHERE = "data.root=/nowhere"


@pytest.mark.parametrize(
    "changed",
    [{}, {"fast.epochs": 0}, {"slow.diag_weight": 0.0, "slow.offdiag_weight": 0.0, "fast.new_rows": "uniform"}],
    ids=["safe", "slow alone", "no transfer"],
)
def test_images_are_counted_as_a_run_passes_them(changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    short = {"slow.epochs": 2, "fast.epochs": 1, "head.projection_dim": 64, "runtime.device": "cpu"}
    config = load_config("digits", overrides={**short, **changed})
    passed = {True: 0, False: 0}  # with and without gradients
    real = VisionTransformer.forward_features

    def counting(vit: VisionTransformer, images: Tensor, *more: Any, **options: Any) -> Tensor:
        passed[torch.is_grad_enabled()] += len(images)
        return real(vit, images, *more, **options)

    monkeypatch.setattr(VisionTransformer, "forward_features", counting)
    trainer = SafeTrainer(config)
    for cost, expected in zip(session_costs(config), expected_sessions(config), strict=True):
        passed.update({True: 0, False: 0})
        trainer.run_session()
        session = trainer.stream.sessions[trainer.session - 1]
        # Classes are not quite equal here: what is expected counts is held against expected counts of images.
        assert expected.train == pytest.approx(len(session.train), abs=3)
        scale = len(session.train) / expected.train
        assert passed[True] == pytest.approx(cost.trained * scale, abs=1)
        without = cost.frozen + cost.slow_read + cost.fast_read
        assert passed[False] == pytest.approx(without, rel=0.02), f"session {trainer.session}"


def test_operations_of_a_pass_by_hand() -> None:
    one = counted_flops(load_config("digits", overrides={"pet.kind": "none"}))
    # Small ViT: 6 blocks of 128 channels on 16 patches of 8 x 8 and a class token; multiplication and addition are two.
    width, tokens, hidden = 128, 17, 4 * 128
    block = 2 * tokens * width * (3 * width + width + 2 * hidden) + 4 * tokens * tokens * width
    # The last block computes the class token alone, but its keys and values.
    last = 2 * width * (tokens * 2 * width + 2 * width + 2 * hidden) + 4 * tokens * width
    patches = 2 * 16 * width * 3 * 64
    assert one.frozen == pytest.approx(patches + 5 * block + last, rel=0.02)
    assert one.tuned == one.frozen


def test_a_backward_pass_through_frozen_weights_costs_one_forward_pass_and_through_all_of_them_two() -> None:
    adapter = counted_flops(load_config("omnibenchmark", overrides=[NOWHERE, "pet.kind=adapter"]))
    full = counted_flops(load_config("omnibenchmark", overrides=[NOWHERE, "pet.kind=full"]))
    assert adapter.frozen == full.frozen == pytest.approx(2 * 16.9e9, rel=0.05), "ViT-B/16 at 224 px is 17 GMAC"
    assert 1.9 < adapter.trained / adapter.tuned < 2.15
    assert full.trained / full.tuned == pytest.approx(3, rel=0.02)


def test_operations_of_a_head_by_hand() -> None:
    head = RidgeHead(Projection(8, 100, 0), [1.0, 10.0], 0.5)
    images, judged, classes = 300, 40, 5
    projected = 2 * 340 * 8 * 100
    statistics = 300 * 100**2 + 2 * 300 * 100 * 5
    choice = 2 * (100**3 / 3 + 2 * 100**2 * 5 + 2 * 150 * 100 * 5)
    solved = 100**3 / 3 + 6 * 100**2 * 5
    assert head.flops(images, judged, classes) == pytest.approx(
        projected + statistics + choice + solved + 2 * 40 * 100 * 5
    )


def test_operations_of_a_gaussian_head_by_hand() -> None:
    head = GaussianHead(Projection(8, 100, 0), "oas")
    solved = 100**3 / 3 + 6 * 100**2 * 5
    scatter = (300 + 5) * 100**2
    assert head.flops(300, 40, 5) == pytest.approx(2 * 340 * 8 * 100 + scatter + solved + 2 * 40 * 100 * 5)


def test_published_numbers_do_without_the_data() -> None:
    config = load_config("omnibenchmark", overrides=[NOWHERE])
    sessions = expected_sessions(config)
    assert len(sessions) == 10
    assert (sum(s.train for s in sessions), sum(s.judged for s in sessions)) == (89_697, 5_985)
    assert [s.classes for s in sessions] == list(range(30, 301, 30))
    domains = expected_sessions(load_config("domainnet", overrides=[NOWHERE]))
    assert (sum(s.train for s in domains), sum(s.judged for s in domains)) == (409_832, 176_743)
    costs = session_costs(config)
    assert sum(cost.steps for cost in costs) == sum(
        epochs * -(-s.train // 48) for epochs, s in zip([20, *[15] * 9], sessions, strict=True)
    )


def test_held_out_images_judge_and_are_not_trained_on() -> None:
    words = ["data.holdout_share=0.2", "data.evaluate_on=holdout"]
    (held, *_), (whole, *_) = (
        expected_sessions(load_config("omnibenchmark", overrides=[NOWHERE, *more])) for more in (words, [])
    )
    assert held.train + held.judged == whole.train
    assert held.judged == pytest.approx(0.2 * whole.train, abs=1)


def test_bytes_of_a_run() -> None:
    config: Config = load_config("omnibenchmark", overrides=[NOWHERE])
    held = run_bytes(config, torch.device("cpu"))
    assert held.pixels == 256 * 256 * 3 * 95_682
    readouts = 2 * 4 * 10_000 * sum(range(30, 301, 30))
    prompts = 10 * 2 * 4 * 768 * 5 * 12
    assert held.states == readouts + prompts
    means = load_config("omnibenchmark", overrides=[NOWHERE, "head.kind=class_means"])
    assert run_bytes(means, torch.device("cpu")).states == readouts * 768 / 10_000 + prompts
    assert held.resume == pytest.approx(2 * 4 * 10_000**2 / 2 + 2 * 4 * 10_000 * 300 * 2, rel=0.05)
    assert run_bytes(load_config("digits"), torch.device("cpu")).pixels == 0
