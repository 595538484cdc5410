"""What a sweep needs of a user's own is there for every command, from its specification or from `--import`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from safe.config import load_config
from safe.config.settings import PET_KINDS
from safe.errors import UserError
from safe.io.documents import parse_yaml
from safe.io.sources import import_own
from safe.pet import registry
from safe.states.checkpoint import save_state
from safe.training.trainer import SafeTrainer
from sweeps.cli import main
from sweeps.ledger.ledger import Ledger
from sweeps.model.pyfunc import SafePyfunc
from sweeps.model.saving import model_code

OWN = "examples.own_pet"
TINY = {"slow.epochs": 1, "fast.epochs": 0, "data.init_classes": 10, "head.projection_dim": 32, "runtime.device": "cpu"}


@pytest.fixture
def forget() -> Iterator[Callable[[], None]]:
    """Give a function that makes this process one which has not imported the example."""

    def forget() -> None:
        PET_KINDS.pop("gain", None)
        registry._WIRINGS.pop("gain", None)
        sys.modules.pop(OWN, None)

    forget()
    yield forget
    forget()


def test_a_sweep_with_a_pet_of_ones_own_is_known_to_every_command(
    finished_sweep: Callable[..., Ledger], forget: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_own([OWN])
    base = {**load_config("digits").flat(), "pet.kind": "gain", "runtime.device": "cpu"}
    finished_sweep(base=base, imports=[OWN])
    monkeypatch.setattr("sweeps.cli.common.carry_out", lambda *_: 0)
    monkeypatch.setattr("sweeps.cli.ablation.carry_out", lambda *_: 0)
    plan = f"plan --no-probe --import {OWN} pet.kind=gain runtime.device=cpu"
    for command in (
        "show demo", "show demo --json", "list", f"export demo --out {tmp_path / 'x.yaml'}", "report demo",
        "compare demo demo", "orders demo", "resume demo", "extend demo --seeds 3", plan,
    ):  # fmt: skip
        forget()
        assert main([*command.split(), "--results", str(tmp_path)]) == 0, command


@pytest.fixture
def state(forget: Callable[[], None], tmp_path: Path) -> Path:
    """Return the file of a state that was trained with the example, in a process that knows nothing of it any more."""
    import_own([OWN])
    trainer = SafeTrainer(load_config("digits", overrides={**TINY, "pet.kind": "gain"}))
    trainer.run_session()
    save_state(trainer.inference_state(), tmp_path / "state")
    forget()
    return tmp_path / "state"


def test_a_state_with_a_pet_of_ones_own_predicts(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "image.png")
    words = ["predict", "--model", str(state), str(tmp_path / "image.png"), "--results", str(tmp_path)]
    assert main(words) == 2
    assert "unknown PET kind 'gain'" in capsys.readouterr().err
    assert main([*words, "--import", OWN]) == 0
    assert "image.png" in capsys.readouterr().out


def test_a_model_in_mlflow_names_the_modules_that_it_needs_and_imports_them(state: Path, tmp_path: Path) -> None:
    described = parse_yaml((model_code(tmp_path / "model", [OWN]) / "MLmodel").read_text("utf-8"), "MLmodel")
    config = described["flavors"]["python_function"]["config"]
    assert config == {"device": "auto", "weights": None, "imports": [OWN]}
    context: Any = SimpleNamespace(artifacts={"state": str(state)}, model_config={**config, "device": "cpu"})
    model = SafePyfunc()
    model.load_context(context)
    assert model._predictor.config.pet.kind == "gain"
    context.model_config["imports"] = ["no_such_module"]
    with pytest.raises(UserError, match="--import no_such_module: there is no module"):
        SafePyfunc().load_context(context)
