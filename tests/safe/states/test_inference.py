"""Inference states of a run: what sessions share is stored once, and read back it is the whole state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from safe.data.sources import Dataset
from safe.errors import UserError
from safe.predictor import load_predictor
from safe.states.checkpoint import load_state, save_state
from safe.states.inference import VERSION, drop_sessions_before, load_inference_state, save_session, session_file

States = list[dict[str, Any]]


@pytest.fixture(scope="session")
def run(finished: Any) -> tuple[States, Path]:
    """Return the inference states of three sessions, and the folder that holds them."""
    return finished.states, finished.folder


def copied(folder: Path, to: Path) -> Path:
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    else:
        assert a == b


def test_every_session_is_read_back_whole(run: tuple[States, Path]) -> None:
    states, folder = run
    for state in states:
        loaded = load_inference_state(session_file(folder, state["session"]))
        assert_same({**loaded, "version": 0}, {**state, "version": 0})


def test_what_is_the_same_is_stored_once(run: tuple[States, Path]) -> None:
    states, folder = run
    named = [
        {name: learner["pet"] for name, learner in load_state(session_file(folder, s))["learners"].items()}
        for s in (1, 2, 3)
    ]
    assert named[0]["fast"] == named[0]["slow"] == named[1]["slow"] == named[2]["slow"]
    assert len({named[0]["fast"], named[1]["fast"], named[2]["fast"]}) == 3
    assert {file.name for file in folder.glob("pet-*.pt")} == {part for session in named for part in session.values()}
    whole = folder.parent / "whole.pt"
    save_state(states[2], whole)
    parts = sum((folder / part).stat().st_size for part in {*named[2].values()})
    assert session_file(folder, 3).stat().st_size < whole.stat().st_size - parts / 2


def test_writing_again_changes_nothing(run: tuple[States, Path], tmp_path: Path) -> None:
    states, folder = run
    copied(folder, tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    for state in states:
        save_session(state, tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_predictor_reads_it_like_a_state_in_one_file(
    run: tuple[States, Path], tiny_vit: VisionTransformer, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    states, folder = run
    save_state(states[1], tmp_path / "one.state")
    one = load_predictor(tmp_path / "one.state", device="cpu", backbone=tiny_vit).judge(tiny_dataset)
    parts = load_predictor(session_file(folder, 2), device="cpu", backbone=tiny_vit).judge(tiny_dataset)
    assert torch.equal(one.slow, parts.slow)
    assert torch.equal(one.fast, parts.fast)
    assert not torch.equal(one.slow, one.fast)


def test_only_the_newest_session_is_left_and_still_whole(run: tuple[States, Path], tmp_path: Path) -> None:
    states, folder = run
    copied(folder, tmp_path)
    drop_sessions_before(3, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3  # the state, and the PET of either learner
    assert_same({**load_inference_state(session_file(tmp_path, 3)), "version": 0}, {**states[2], "version": 0})


def test_a_missing_or_exchanged_part_is_refused(run: tuple[States, Path], tmp_path: Path) -> None:
    copied(run[1], tmp_path)
    learners = load_state(session_file(tmp_path, 3))["learners"]
    slow, fast = tmp_path / learners["slow"]["pet"], tmp_path / learners["fast"]["pet"]
    slow.write_bytes(fast.read_bytes())
    with pytest.raises(UserError, match=f"{slow.name} does not hold what its name says"):
        load_inference_state(session_file(tmp_path, 3))
    slow.unlink()
    with pytest.raises(UserError, match=f"session-03.pt needs {slow.name} beside it"):
        load_inference_state(session_file(tmp_path, 3))


def test_a_name_that_leads_out_of_the_folder_is_refused(run: tuple[States, Path], tmp_path: Path) -> None:
    state = load_state(session_file(run[1], 1))
    state["learners"]["slow"]["pet"] = "../secret.pt"
    save_state(state, tmp_path / "odd.pt")
    with pytest.raises(UserError, match="no such name"):
        load_inference_state(tmp_path / "odd.pt")


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    save_state({"version": VERSION + 1, "classes": []}, tmp_path / "new.pt")
    with pytest.raises(UserError, match=f"version {VERSION + 1}; this installation reads up to {VERSION}"):
        load_inference_state(tmp_path / "new.pt")
