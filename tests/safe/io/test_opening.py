"""A lock is held by one process at a time, on a file that is no link, and ends with its block."""

from __future__ import annotations

from pathlib import Path

import pytest

from safe.io.opening import held


def test_a_lock_is_held_once_and_what_the_file_holds_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with held(path) as file:
        file.write(b"one")
        with pytest.raises(BlockingIOError), held(path, wait=False):
            pass
    with held(path, wait=False) as file:
        file.write(b" two")
    assert path.read_bytes() == b"one two"


def test_a_link_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="it is a link"), held(tmp_path / "lock"):
        pass
    assert not (tmp_path / "elsewhere").exists()
