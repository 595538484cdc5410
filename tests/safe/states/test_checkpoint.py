"""States on disk: whole or refused, in words; never unpickled."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from safe.errors import UserError
from safe.states import checkpoint
from safe.states.checkpoint import FORMAT_VERSION, load_state, save_state

HEADER = len(b"SAFESTATE") + 4 + 32  # magic word, version, SHA-256


def state() -> dict[str, Any]:
    return {
        "tensor": torch.arange(6, dtype=torch.float64).reshape(2, 3),
        "nested": {"list": [1, 2.5, "three", None, True], "int64": torch.tensor([2**60])},
        "empty": {},
    }


def assert_equal(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    else:
        assert a == b


def file_of(payload: bytes, version: int = FORMAT_VERSION) -> bytes:
    head = version.to_bytes(4, "big")
    return b"SAFESTATE" + head + hashlib.sha256(head + payload).digest() + payload


def test_round_trip_in_a_new_folder_leaves_only_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "run.state"
    save_state(state(), path)
    assert_equal(load_state(path), state())
    assert_equal(load_state(str(path)), state())
    assert os.listdir(path.parent) == ["run.state"]


def test_saving_again_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.state"
    save_state(state(), path)
    save_state({"other": 1}, path)
    assert load_state(path) == {"other": 1}
    assert os.listdir(tmp_path) == ["run.state"]


def test_the_format_is_the_documented_one(tmp_path: Path) -> None:
    path = tmp_path / "run.state"
    save_state(state(), path)
    content = path.read_bytes()
    assert content == file_of(content[HEADER:])
    assert_equal(torch.load(io.BytesIO(content[HEADER:]), weights_only=True), state())


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.state", tmp_path):
        with pytest.raises(UserError, match="cannot read the checkpoint") as error:
            load_state(path)
        assert str(path) in str(error.value)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "run.state"
    save_state(state(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"damaged|not a checkpoint"):
        load_state(path)


def test_any_flipped_bit_of_checksum_or_payload_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.state"
    save_state(state(), path)
    content = path.read_bytes()
    for position in range(len(b"SAFESTATE") + 4, len(content), 37):
        damaged = bytearray(content)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged"):
            load_state(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(UserError, match="damaged"):
        load_state(path)


def test_a_newer_version_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "run.state"
    save_state(state(), path)
    path.write_bytes(file_of(path.read_bytes()[HEADER:], FORMAT_VERSION + 1))
    with pytest.raises(UserError, match=rf"format version {FORMAT_VERSION + 1}; .* up to {FORMAT_VERSION}: upgrade"):
        load_state(path)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.state"
    buffer = io.BytesIO()
    torch.save(state(), buffer)
    for content in (b"", b"hello", buffer.getvalue(), pickle.dumps(state()), b"safestate" + bytes(100)):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is not a checkpoint of this project"):
            load_state(path)


class Payload:
    """What a malicious pickle does: run a function of its choice on loading."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_malicious_pickle_with_a_right_checksum_does_not_run(tmp_path: Path, legacy: bool) -> None:
    path, marker = tmp_path / "run.state", tmp_path / "marker"
    buffer = io.BytesIO()
    torch.save({"state": Payload(marker)}, buffer, _use_new_zipfile_serialization=not legacy)
    path.write_bytes(file_of(buffer.getvalue()))
    with pytest.raises(UserError, match="other than plain data and was not loaded"):
        load_state(path)
    assert not marker.exists()
    torch.load(io.BytesIO(buffer.getvalue()), weights_only=False)  # the payload does what it says where it may run
    assert marker.exists()


@pytest.mark.parametrize("payload", [b"", b"not a state", b"PK\x03\x04 broken archive"])
def test_a_payload_that_is_no_state_is_refused_in_words(tmp_path: Path, payload: bytes) -> None:
    path = tmp_path / "run.state"
    path.write_bytes(file_of(payload))
    with pytest.raises(UserError, match=r"run\.state"):
        load_state(path)


@pytest.mark.parametrize("failing", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, error: BaseException
) -> None:
    path = tmp_path / "run.state"
    save_state(state(), path)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(checkpoint.os, failing, fail)
    with pytest.raises(type(error)):
        save_state({"new": 1}, path)
    monkeypatch.undo()
    assert_equal(load_state(path), state())
    assert os.listdir(tmp_path) == ["run.state"]


def test_what_cannot_be_a_state_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "run.state"
    save_state(state(), path)
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        save_state({"function": lambda: None}, path)
    assert_equal(load_state(path), state())
    assert os.listdir(tmp_path) == ["run.state"]
