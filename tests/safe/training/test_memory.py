"""Memory is reckoned before it is taken: the formula beside measured peaks, and what is refused."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from safe.backbones.loading import skeleton
from safe.config import Config, load_config, validate
from safe.config.described import of_role
from safe.config.marks import Role
from safe.data.sessions import image_counts
from safe.errors import UserError
from safe.training.memory import GIB, Room, Sizes, expected_sizes, needs, require_memory
from safe.training.trainer import SafeTrainer

from .measuring import RIDGE, RUNS, kib

CPU = torch.device("cpu")
FACTOR = 1.9  # that the reckoned peak is at most above the measured one, and never below it
HUGE = 80_000

linux = pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")


@pytest.fixture(scope="module")
def peaks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[float, int]]:
    """Give name -> (reckoned, measured) bytes, from a process that has done nothing else."""
    script, root = Path(__file__).with_name("measuring.py"), Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path_factory.mktemp("peaks"))],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    measured: dict[str, tuple[float, int]] = json.loads(done.stdout)
    return measured


@linux
@pytest.mark.parametrize("name", [*RUNS, RIDGE])
def test_the_reckoned_peak_is_a_little_above_the_measured_one(name: str, peaks: dict[str, tuple[float, int]]) -> None:
    reckoned, measured = peaks[name]
    assert 1 <= reckoned / measured <= FACTOR


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


@pytest.mark.parametrize("setting", sorted({*of_role(Role.SIZE)} - {"pet.rank", "head.anacp_layers"}))
def test_what_is_named_as_the_largest_that_fits_does_fit_and_one_more_does_not(setting: str) -> None:
    kind = {"pet.prompts": {"pet.kind": "vpt_deep"}, "head.anacp_draws": {"head.kind": "anacp"}}.get(setting, {})
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
    before = kib("VmHWM:") if sys.platform == "linux" else 0
    config = load_config("digits", overrides={"head.projection_dim": 10**6, "runtime.device": "cpu"})
    with pytest.raises(UserError, match=r"needs about [\d,]+\.\d GiB of memory, .* head.projection_dim=1000000 takes"):
        SafeTrainer(config)
    if before:
        assert kib("VmHWM:") - before < GIB // 1024


def test_images_of_a_folder_are_counted_as_they_are(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("test", 2)):
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(count):
                (tmp_path / split / name / f"{index}.png").touch()
    assert image_counts(str(tmp_path), "data") == (6, 4)
