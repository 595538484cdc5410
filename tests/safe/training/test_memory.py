"""Memory is reckoned before it is taken: the formula beside measured peaks, and what is refused."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from safe.backbones.loading import load_backbone, skeleton
from safe.config import Config, load_config, validate
from safe.data.loading import load_dataset
from safe.data.sessions import image_counts
from safe.errors import UserError
from safe.heads.projection import Projection
from safe.heads.ridge import RidgeHead
from safe.seeding import generator
from safe.states.checkpoint import save_state
from safe.training.build import build_stream
from safe.training.memory import GIB, GROWS, Room, Sizes, expected_sizes, needs, require_memory, stream_sizes
from safe.training.trainer import SafeTrainer

CPU = torch.device("cpu")
FACTOR = 1.9  # that the reckoned peak is at most above the measured one, and never below it
HUGE = 80_000

linux = pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")


def _kib(entry: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(entry)).split()[1])


def _measured(work: Callable[[], object]) -> int:
    """Return by how many bytes this process grew at most while it did something."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else the work may take what was freed before, which counts as held
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = _kib("VmRSS:")
    kept = work()
    peak = _kib("VmHWM:") - before
    del kept
    return 1024 * peak


STEP = {"slow.epochs": 1, "slow.batch_size": 288}  # all images of a session
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    # More images than M in a session, so that H^T H is solved, and fewer, so that H H^T is.
    "primal": ("digits", {"head.projection_dim": 800, "data.init_classes": 10}),
    "dual": ("digits", {"head.projection_dim": 3000}),
    "adapter": ("digits", {**STEP, "pet.bottleneck": 256}),
    "ssf": ("digits", {**STEP, "pet.kind": "ssf"}),
    "prompts": ("digits", {**STEP, "pet.kind": "vpt_deep", "pet.prompts": 20}),
    "bottleneck": ("digits", {"slow.epochs": 1, "pet.bottleneck": 3000}),
    "reading": ("glyphs", {"runtime.eval_batch_size": 1000, "data.init_classes": 20}),
}


@linux
@pytest.mark.parametrize("name", RUNS)
def test_the_reckoned_peak_is_a_little_above_the_measured_one(name: str, tmp_path: Path) -> None:
    changes = {"runtime.device": "cpu", "head.projection_dim": 200, "slow.epochs": 0, "fast.epochs": 0} | RUNS[name][1]
    config = load_config(RUNS[name][0], overrides={"data.root": str(tmp_path), **changes})
    dataset, backbone = load_dataset(config.dataset, tmp_path, 32), load_backbone("safe_small_vit")

    def work() -> SafeTrainer:
        trainer = SafeTrainer(config, dataset=dataset, backbone=backbone)
        trainer.run_session()
        save_state(trainer.state_dict(), tmp_path / "state")
        return trainer

    measured = _measured(work)
    sizes = stream_sizes(backbone, build_stream(config, dataset), len(dataset.classes))
    assert 1 <= needs(config, sizes, CPU).host / measured <= FACTOR


@linux
def test_the_choice_of_the_ridge_is_reckoned_too() -> None:
    images, classes, grid = 4000, 50, [10.0 ** (3 + power / 10) for power in range(40)]
    config = load_config("digits", overrides={"head.projection_dim": 500, "head.ridge_grid": grid})
    sizes = Sizes(width=64, depth=0, tokens=0, side=0, parameters=0, classes=classes, images=images, judged=0)
    features, labels = torch.randn(images, 64, generator=generator(0)), torch.arange(images) % classes

    def work() -> RidgeHead:
        head = RidgeHead(Projection(64, 500, 0), grid, config.head.ridge_split)
        head.update(features, labels, classes, generator(1))
        return head

    assert 1 <= needs(config, sizes, CPU).host / _measured(work) <= FACTOR


def _digits(**changes: Any) -> tuple[Config, Sizes]:
    config = load_config("digits", overrides=changes)
    return config, expected_sizes(skeleton(config.backbone.name), config)


def test_what_is_expected_is_what_the_stream_has() -> None:
    _, sizes = _digits()
    assert (sizes.width, sizes.depth, sizes.tokens, sizes.side, sizes.parameters) == (128, 6, 17, 32, 1_216_896)
    assert (sizes.classes, sizes.images, sizes.judged) == (10, 288, 359)  # 1 438 training images in 5 sessions


def test_statistics_are_half_a_matrix_a_learner_and_pass_through_memory_when_they_are_saved() -> None:
    config, sizes = _digits(**{"head.projection_dim": HUGE})
    half = 4 * HUGE * HUGE / 2
    on_cpu, on_gpu = needs(config, sizes, CPU), needs(config, sizes, torch.device("cuda"))
    # Both learners' on the device, a copy of them, and a file in memory.
    assert on_cpu.host == pytest.approx(6 * half, rel=0.02)
    assert on_cpu.gpu == 0
    assert (on_gpu.host, on_gpu.gpu) == pytest.approx((2 * half, 4 * half), rel=0.02)


@pytest.mark.parametrize("setting", [name for name in GROWS if name != "pet.rank"])
def test_what_is_named_as_the_largest_that_fits_does_fit_and_one_more_does_not(setting: str) -> None:
    kind = {"pet.kind": "vpt_deep"} if setting == "pet.prompts" else {}
    # A large data set, because a batch is never larger than a session.
    config = load_config("digits", overrides={setting: 10**6, "data.init_classes": 10, **kind})
    sizes = replace(_digits()[1], images=10**6, judged=10**6)
    there = needs(validate({**config.flat(), setting: 1}), sizes, CPU).host * 1.5
    with pytest.raises(UserError) as refused:
        require_memory(config, sizes, CPU, Room(there, None))
    told = re.fullmatch(
        r"a run needs about [\d,]+\.\d GiB of memory, there are [\d,]+\.\d GiB; "
        rf"{setting}=1000000 takes the most of it, and (\d+) is the largest that fits",
        str(refused.value),
    )
    assert told, str(refused.value)
    largest = int(told[1])
    assert needs(validate({**config.flat(), setting: largest}), sizes, CPU).host <= there
    assert needs(validate({**config.flat(), setting: largest + 1}), sizes, CPU).host > there


def test_a_run_that_fits_is_let_through_and_so_is_one_where_nothing_is_known() -> None:
    config, sizes = _digits(**{"head.projection_dim": HUGE})
    require_memory(config, sizes, CPU, Room(None, None))
    need = needs(config, sizes, CPU).host
    require_memory(config, sizes, CPU, Room(need, None))
    with pytest.raises(UserError, match="GiB of memory, there are"):
        require_memory(config, sizes, CPU, Room(need - 1, None))


def test_memory_of_a_gpu_is_told_apart() -> None:
    config, sizes = _digits(**{"head.projection_dim": HUGE})
    with pytest.raises(
        UserError, match=r"needs about 48\.\d GiB of GPU memory, there are 40\.0 GiB; .* is the largest"
    ):
        require_memory(config, sizes, torch.device("cuda"), Room(100 * GIB, 40 * GIB))


def test_where_not_even_the_least_fits_no_value_is_promised() -> None:
    config, sizes = _digits()
    with pytest.raises(
        UserError, match=r"there are 0\.0 GiB; runtime.eval_batch_size=256 takes the most of it, but less of"
    ):
        require_memory(config, sizes, CPU, Room(1000, None))


def test_a_trainer_is_refused_before_anything_large_is_taken() -> None:
    before = _kib("VmHWM:") if sys.platform == "linux" else 0
    config = load_config("digits", overrides={"head.projection_dim": 10**6, "runtime.device": "cpu"})
    with pytest.raises(UserError, match=r"needs about [\d,]+\.\d GiB of memory, .* head.projection_dim=1000000 takes"):
        SafeTrainer(config)
    if before:
        assert _kib("VmHWM:") - before < GIB // 1024


def test_images_of_a_folder_are_counted_as_they_are(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("test", 2)):
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(count):
                (tmp_path / split / name / f"{index}.png").touch()
    assert image_counts(str(tmp_path), "data") == (6, 4)
