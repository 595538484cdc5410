"""The registry of kinds of heads, and a kind of one's own through a whole run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from safe.config import Config, validate
from safe.config.heads import HeadConfig
from safe.data.sources import Dataset
from safe.errors import UserError
from safe.heads import head_kinds, head_settings, is_closed_form, make_head, register_head, registry
from safe.heads.base import ClosedFormHead, HeadBytes
from safe.heads.ridge import RidgeHead
from safe.predictor import load_predictor
from safe.sharing.stages import Stage
from safe.states.checkpoint import save_state
from safe.training.trainer import SafeTrainer
from sweeps.spec.conditions import used


def test_the_kinds_and_the_settings_that_they_use() -> None:
    assert head_kinds() == ("ridge", "gaussian", "anacp", "class_means", "cosine")
    projection = {name for name in HeadConfig.model_fields if name.startswith(("projection", "activation", "fourier"))}
    assert set(head_settings("ridge")) == {"ridge_grid", "ridge_split", "ridge_choice"} | projection
    own = {name for name in HeadConfig.model_fields if name.startswith("anacp")}
    assert set(head_settings("anacp")) == set(head_settings("ridge")) | own
    assert set(head_settings("gaussian")) == {"covariance", "shrinkage"} | projection
    assert head_settings("class_means") == head_settings("cosine") == ()
    assert [is_closed_form(kind) for kind in head_kinds()] == [True, True, True, True, False]
    for kind in head_kinds():
        assert {f"head.{name}" for name in head_settings(kind)} <= set(Config().flat()), kind
        assert (make_head(kind, 4, "cpu", dict(Config().head) | {"projection_seed": 0}) is None) == (kind == "cosine")


def test_configurations_are_checked_without_torch(run_python: Callable[[str], str]) -> None:
    code = "import sys; from safe.config import Config; from safe.heads import head_settings as of; Config()\n"
    code += "import sweeps.spec.conditions; print(of('ridge')[0], 'torch' in sys.modules)"
    assert run_python(code).split() == ["projection_dim", "False"]


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'ridge' is already registered \(by safe\.heads\.kinds\)"):
        register_head("ridge")(lambda width, device: None)


def test_an_unknown_kind_is_refused_with_the_choices() -> None:
    known = "ridge, gaussian, anacp, class_means, cosine"
    words = f"unknown kind of head 'rigde'; choose one of: {known}. Did you mean 'ridge'?"
    for ask in (head_settings, is_closed_form, lambda kind: make_head(kind, 4, "cpu", {})):
        with pytest.raises(UserError) as error:
            ask("rigde")
        assert str(error.value) == words
    with pytest.raises(UserError) as error:
        validate({"head.kind": "rigde"})
    assert str(error.value).splitlines()[1:] == [f"  - head.kind: {words}"]


def test_more_layers_than_anything_holds_are_refused_before_a_head_is_made() -> None:
    with pytest.raises(UserError, match=r"head\.anacp_layers: Input should be less than or equal to 100"):
        validate({"head.kind": "anacp", "head.anacp_layers": 2_000_000_000})


def test_making_a_head_sets_nothing_big_up() -> None:
    """A matrix of (10^6)^2 would not fit; predicting does not need it."""
    head = make_head("ridge", 4, "cpu", {**dict(Config().head), "projection_dim": 10**6, "projection_seed": 0})
    assert isinstance(head, RidgeHead)
    assert "gram" not in vars(head)
    assert "gram" not in vars(head.copy())


class Nearest(ClosedFormHead):
    """Minus the squared distance to each class's mean, times a factor that it takes from `head.ridge_split`."""

    def __init__(self, width: int, device: torch.device | str, *, ridge_split: float, sharpness: float = 2.0) -> None:
        self.factor = ridge_split * sharpness
        self.sums, self.counts = torch.zeros(0, width, device=device), torch.zeros(0, device=device)
        self.means = self.sums

    def add(self, features: Tensor, labels: Tensor, classes: int, generator: torch.Generator) -> None:
        hot = torch.nn.functional.one_hot(labels, classes).to(features)
        sums, counts = hot.T @ features, hot.sum(dim=0)
        sums[: len(self.sums)] += self.sums
        counts[: len(self.counts)] += self.counts
        self.sums, self.counts = sums, counts

    def update(self, features: Tensor, labels: Tensor, classes: int, generator: torch.Generator) -> None:
        self.add(features, labels, classes, generator)
        self.means = self.sums / self.counts.clamp_min(1).unsqueeze(1)

    def logits(self, features: Tensor) -> Tensor:
        return -self.factor * torch.cdist(features, self.means) ** 2

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self.sums.clone(), "counts": self.counts.clone(), "means": self.means.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sums, self.counts, self.means = (state[name].clone() for name in ("sums", "counts", "means"))

    def readout(self) -> dict[str, Tensor]:
        return {"centres": self.means}

    def load_readout(self, readout: Mapping[str, Any]) -> None:
        self.means = readout["centres"]

    def memory(self, classes: int, images: int, judged: int) -> HeadBytes:
        return HeadBytes(0, 4 * 16 * classes, 0)


class Stages:
    """Finished stages in memory, each a copy, as `StageStore` and its claim in one."""

    def __init__(self, kept: dict[str, Stage], key: str = "") -> None:
        self.kept, self.key, self.waited = kept, key, 0.0

    @property
    def stage(self) -> Stage | None:
        return copy.deepcopy(self.kept.get(self.key))

    def claim(self, kind: str, key: str) -> Stages:
        return Stages(self.kept, key)

    def try_claim(self, kind: str, key: str, size: int) -> None:
        return None

    def put(self, value: dict[str, Any], seconds: float) -> None:
        self.kept[self.key] = Stage(copy.deepcopy(value), seconds)

    def release(self) -> None: ...


def assert_same(ours: Any, theirs: Any) -> None:
    if isinstance(ours, Mapping):
        assert set(ours) == set(theirs)
        for name in ours:
            assert_same(ours[name], theirs[name])
    elif isinstance(ours, Tensor):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("small", [False, True])  # statistics read again from features, or stored with the readout
def test_a_kind_of_ones_own_trains_shares_resumes_and_predicts(
    small: bool,
    monkeypatch: pytest.MonkeyPatch,
    make_config: Callable[..., Config],
    tiny_dataset: Dataset,
    tiny_vit: VisionTransformer,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(registry, "_KINDS", dict(registry._KINDS))
    monkeypatch.setattr(Nearest, "small", small)
    register_head("nearest")(Nearest)
    config = make_config({"head.kind": "nearest", "head.ridge_split": 0.25})
    assert [used(f"head.ridge_{name}", config.flat()) for name in ("split", "grid")] == [True, False]
    store = Stages({})
    alone, first = (SafeTrainer(config, tiny_dataset, tiny_vit, stages) for stages in (None, store))
    results = [alone.run_session() for _ in range(3)]
    assert [first.run_session() for _ in range(3)] == results
    closed = alone.slow.closed
    assert isinstance(closed, Nearest)
    assert closed.factor == 0.5
    assert results[-1].ridge == {}

    again = SafeTrainer(config, tiny_dataset, tiny_vit, store)
    assert [again.run_session() for _ in range(2)] == results[:2]
    resumed = SafeTrainer(config, tiny_dataset, tiny_vit)
    resumed.load_state_dict(again.state_dict())
    assert resumed.run_session() == results[2]
    assert_same(resumed.inference_state(), alone.inference_state())

    save_state(alone.inference_state(), tmp_path / "run.state")
    judged = load_predictor(tmp_path / "run.state", backbone=tiny_vit).judge(tiny_dataset)
    assert alone.session_logits is not None
    assert torch.equal(judged.slow, alone.session_logits.slow)
    assert torch.equal(judged.fast, alone.session_logits.fast)
