"""What a sweep will run has to fit into memory, all runs at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from safe.config import load_config, validate
from safe.errors import UserError
from sweeps.spec.specs import SweepSpec
from sweeps.studies.ablation import build_ablation, run_ablation
from sweeps.studies.memory import check_room, largest_configs
from sweeps.studies.sweep import check_early, run_sweep

GIB = 2**30
HUGE = {**load_config("digits").flat(), "runtime.device": "cpu", "head.projection_dim": 30_000}  # 10.2 GiB


@pytest.fixture(autouse=True)
def _available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safe.training.resources.available_bytes", lambda: 12 * GIB)


def test_all_runs_at_a_time_have_to_fit(make_spec: Callable[..., SweepSpec]) -> None:
    check_early(make_spec(base=HUGE, concurrency=1))
    words = r"10\.\d GiB of memory, there are 5\.5 GiB for each of 2 runs at a time; head.projection_dim=30000 takes .*"
    with pytest.raises(UserError, match=words + "and 2.... is the largest that fits; or run one at a time: --conc"):
        check_early(make_spec(base=HUGE, concurrency=2))


def test_one_run_is_not_offered_where_that_does_not_fit_either(make_spec: Callable[..., SweepSpec]) -> None:
    with pytest.raises(UserError, match=r"the largest that fits$"):
        check_early(make_spec(base={**HUGE, "head.projection_dim": 80_000}))


def test_the_largest_value_of_the_space_counts_also_for_the_data_of_the_final_runs(
    make_spec: Callable[..., SweepSpec],
) -> None:
    space = {
        "head.projection_dim": {"choice": [100, 30_000, 200]},
        "pet.kind": {"choice": ["ssf", "adapter"]},
        "pet.bottleneck": {"uniform": [4, 16]},
        "slow.batch_size": 24,
    }
    spec = make_spec(space=space, target=load_config("glyphs").flat())
    asked = [
        (c.dataset, c.pet.kind, c.pet.bottleneck, c.head.projection_dim, c.slow.batch_size)
        for c in largest_configs(spec)
    ]
    assert asked == [
        ("digits", "ssf", 64, 30_000, 24),
        ("digits", "adapter", 16, 30_000, 24),
        ("glyphs", "ssf", 64, 30_000, 24),
        ("glyphs", "adapter", 16, 30_000, 24),
    ]
    with pytest.raises(UserError, match="projection_dim=30000 takes the most"):
        check_early(spec)


def test_every_searched_size_of_the_pictures_counts_and_fits_the_patches(make_spec: Callable[..., SweepSpec]) -> None:
    """A batch of 48 pictures of 2048 pixels has 3.1 million tokens in six blocks."""
    sizes = {"backbone.image_size": {"choice": [32, 2048, 64]}}
    norms = {"backbone.input_norm": {"choice": ["none", [[0.5] * 3, [0.25] * 3]]}}
    with pytest.raises(UserError, match=r"of memory, there are .* takes the most of it"):
        check_early(make_spec(space={**sizes, **norms}))
    check_early(make_spec(space={"backbone.image_size": {"choice": [32, 64]}, **norms}))
    with pytest.raises(UserError, match="multiple of the patch size 8 of safe_small_vit, got 60; the nearest is 64"):
        check_early(make_spec(space={"backbone.image_size": {"choice": [32, 60]}}))


def test_every_searched_reading_and_covariance_of_heads_counts(make_spec: Callable[..., SweepSpec]) -> None:
    features = {"head.features": {"choice": ["own", "with_frozen"]}}
    assert {c.head.features for c in largest_configs(make_spec(space=features))} == {"own", "with_frozen"}
    gaussian = {"head.kind": "gaussian", "head.projection_dim": 10_000}  # per class M^2 numbers, else M^2 in all
    check_early(make_spec(space={**gaussian, "head.covariance": "shared"}, concurrency=1))
    either = {**gaussian, "head.covariance": {"choice": ["per_class", "shared"]}}
    with pytest.raises(UserError, match=r"of memory, there are .*projection_dim=10000 takes the most of it"):
        check_early(make_spec(space=either, concurrency=1))


def test_nothing_is_written_before_a_refusal(make_spec: Callable[..., SweepSpec], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="GiB of memory"):
        run_sweep(make_spec(base=HUGE), tmp_path)
    ablation = build_ablation(
        dataset="digits", seeds=2, overrides=["runtime.device=cpu", "head.projection_dim=30000"], concurrency=2
    )
    with pytest.raises(UserError, match="GiB of memory"):
        run_ablation(ablation, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_network_is_built_once_for_all_that_have_it(
    make_spec: Callable[..., SweepSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    from safe.backbones import loading

    built, build = list[str](), loading.skeleton

    def counted(name: str, image_size: int | None) -> object:
        built.append(name)
        return build(name, image_size)

    monkeypatch.setattr(loading, "skeleton", counted)
    spec = make_spec(space={"pet.kind": {"choice": ["ssf", "adapter"]}}, target=load_config("glyphs").flat())
    configs = largest_configs(spec)
    assert len(configs) == 4
    check_room(spec, configs)
    assert len(built) == len({(one.backbone.name, one.backbone.image_size) for one in configs})


def test_the_machines_of_a_cluster_are_not_judged_by_this_one(
    make_spec: Callable[..., SweepSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    check_room(make_spec(base=HUGE), [validate(HUGE)])
