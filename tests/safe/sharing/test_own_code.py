"""Stages that depend on a head of one's own are left behind once its code changes."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from timm.models.vision_transformer import VisionTransformer

from safe.config import Config
from safe.data.sources import Dataset
from safe.heads import head_kinds, registry
from safe.heads.registry import head_maker
from safe.io.sources import own_code_digest
from safe.pet import kinds
from safe.pet.registry import wiring
from safe.training.trainer import SafeTrainer

CODE = """
from safe.heads import register_head
from safe.heads.class_means import ClassMeansHead

@register_head("mine")
class Mine(ClassMeansHead):
    def logits(self, features):
        return FACTOR * super().logits(features)
"""


def test_what_comes_with_the_package_has_its_digest_elsewhere() -> None:
    made = [head_maker(kind) for kind in head_kinds()] + [wiring(kind) for kind in kinds()]
    assert {own_code_digest(one) for one in made} == {""}


@pytest.mark.parametrize(("change", "same"), [("3", False), ("(2)", True)])
def test_another_text_of_a_head_is_another_stage(
    make_config: Callable[..., Config],
    tiny_dataset: Dataset,
    tiny_vit: VisionTransformer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    same: bool,
) -> None:
    def key(factor: str) -> str:
        monkeypatch.setattr(registry, "_KINDS", {**registry._KINDS})
        registry._KINDS.pop("mine", None)
        file = tmp_path / "my_head.py"
        file.write_text(CODE.replace("FACTOR", factor))
        spec = importlib.util.spec_from_file_location("my_head", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "my_head", module)
        spec.loader.exec_module(module)
        trainer = SafeTrainer(make_config({"head.kind": "mine"}), tiny_dataset, tiny_vit)
        return trainer.inputs.stage_keys("readout", learner="slow", session=1)

    before = key("2")
    assert key("2") == before
    assert (key(change) == before) == same


def test_a_head_without_a_text_shares_with_no_other_process() -> None:
    spaces: tuple[dict[str, type], dict[str, type]] = ({}, {})
    for space in spaces:
        exec("class Typed: pass", {"__name__": "nowhere"}, space)
    one, other = (own_code_digest(space["Typed"]) for space in spaces)
    assert one != other


def test_an_edit_while_a_run_goes_on_does_not_pass_for_what_is_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(text: str) -> Any:
        (tmp_path / "my_edited.py").write_text(text)
        spec = importlib.util.spec_from_file_location("my_edited", tmp_path / "my_edited.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "my_edited", module)
        spec.loader.exec_module(module)
        return module.wire

    running = load("def wire():\n    return 1\n")
    before = own_code_digest(running)
    edited = load("def wire():\n    return 2\n")
    assert own_code_digest(running) == before != own_code_digest(edited)
