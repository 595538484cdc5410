"""A file that cannot be written is told before the work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from safe.errors import UserError
from safe.io.writable import require_writable


def test_a_file_in_folders_still_to_be_made_can_be_written_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "there.pt").write_text("old")
    for path in (tmp_path / "new.pt", tmp_path / "there.pt", tmp_path / "a" / "b" / "new.pt"):
        require_writable(path, "--save")
    assert [path.name for path in tmp_path.iterdir()] == ["there.pt"]
    assert (tmp_path / "there.pt").read_text() == "old"


def test_a_folder_a_path_below_a_file_and_a_name_too_long_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "x.pt", tmp_path / "file" / "deeper" / "x.pt", tmp_path / ("x" * 300)):
        with pytest.raises(UserError, match=r"^--save: .* cannot be written; name a file in a folder that can$"):
            require_writable(path, "--save")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc here")
def test_a_file_system_that_takes_no_files_is_told_to_the_superuser_too() -> None:
    with pytest.raises(UserError, match=r"/proc/q/x\.pt cannot be written"):
        require_writable(Path("/proc/q/x.pt"), "--save")
