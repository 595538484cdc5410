"""Inference states of a run on disk: one file a session, and the PET that sessions and learners share stored once.

    session-01.pt      the state, with the name of a part where it holds the PET of a learner
    pet-<digest>.pt    the part: named by what is in it, so that the same PET is the same file

The slow learner's PET is the same after every session, and the fast learner's too until session 2. A file that holds
everything itself, as `safe.states.checkpoint.save_state` writes it, is read as well.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from safe.errors import UserError
from safe.states.checkpoint import load_state, save_state

VERSION = 2
WHOLE_VERSION = 1  # of a state that holds everything itself

_PART = re.compile(r"pet-[0-9a-f]{32}\.pt")


def session_file(folder: Path, session: int) -> Path:
    """Return where the state after a session (from 1) lies."""
    return folder / f"session-{session:02d}.pt"


def save_session(state: dict[str, Any], folder: Path) -> None:
    """Write an inference state (`SafeTrainer.inference_state`) into the folder of its run, parts first."""
    learners = {}
    for name, learner in state["learners"].items():
        part = f"pet-{_digest(learner['pet'])}.pt"
        if not (folder / part).exists():
            save_state({"version": VERSION, "pet": learner["pet"]}, folder / part)
        learners[name] = {**learner, "pet": part}
    save_state({**state, "version": VERSION, "learners": learners}, session_file(folder, state["session"]))


def state_files(file: Path) -> list[Path]:
    """Return the file of a state and its parts, which are all that it takes to predict.

    Raises:
        UserError: it is not a state of ours.
    """
    parts = {learner["pet"] for learner in load_state(file)["learners"].values() if isinstance(learner["pet"], str)}
    return [file, *(file.with_name(part) for part in sorted(parts))]


def drop_sessions_before(session: int, folder: Path) -> None:
    """Delete the states of earlier sessions, and the parts that the state of this one does not name."""
    kept = {file.name for file in state_files(session_file(folder, session))}
    earlier = [session_file(folder, number) for number in range(1, session)]
    for file in [*earlier, *folder.glob("pet-*.pt")]:
        if file.name not in kept:
            file.unlink(missing_ok=True)


def load_inference_state(path: str | Path) -> dict[str, Any]:
    """Return the inference state in `path`, whole.

    Raises:
        UserError: not a state of ours, a newer one, or one whose part is missing or another than it says.
    """
    path = Path(path)
    state = load_state(path)
    if "classes" in state and state.get("version", 0) > VERSION:  # states of other kinds count their own versions
        raise UserError(f"{path} has version {state['version']}; this installation reads up to {VERSION}")
    parts: dict[str, dict[str, Tensor]] = {}
    learners = state.get("learners", {})
    if not isinstance(learners, dict) or not all(isinstance(entry, dict) for entry in learners.values()):
        raise UserError(f"{path} is not an inference state: its learners are none")
    for learner in learners.values():
        part = learner.get("pet")
        if isinstance(part, str):
            parts[part] = parts[part] if part in parts else _load_part(part, path)
            learner["pet"] = parts[part]
    return state


def _load_part(part: str, path: Path) -> dict[str, Tensor]:
    file = path.parent / part
    if not _PART.fullmatch(part):
        raise UserError(f"{path} names {part!r} as a part of it, which is no such name")
    if not file.is_file():
        raise UserError(f"{path} needs {part} beside it, which is not there: copy the whole folder")
    pet: dict[str, Tensor] = load_state(file)["pet"]
    if _digest(pet) != part.removeprefix("pet-").removesuffix(".pt"):
        raise UserError(f"{file} does not hold what its name says: copy the whole folder again")
    return pet


def _digest(pet: dict[str, Tensor]) -> str:
    """Return a digest of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(pet.items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        digest.update(plain.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]
