"""A file that cannot be written is told before the work; one that is written is there whole or as it was."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from safe.errors import UserError
from safe.io.writable import require_writable, whole


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


def test_a_file_is_there_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with whole(path) as draft:
        draft.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"
    with pytest.raises(ZeroDivisionError), whole(path) as draft:
        draft.write_text(f"tw{1 // 0}" if draft.write_text("tw") else "")
    assert path.read_text() == "one"
    assert list(path.parent.iterdir()) == [path]


def test_two_who_write_at_once_do_not_meet_and_the_last_one_stays(tmp_path: Path) -> None:
    with whole(tmp_path / "file") as first, whole(tmp_path / "file") as second:
        second.write_text("second")
        first.write_text("first")
    assert (tmp_path / "file").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_a_kill_left_is_written_over_where_nobody_else_writes(tmp_path: Path) -> None:
    (tmp_path / ".file.draft").write_text("left by a kill")
    with whole(tmp_path / "file", alone=True) as draft:
        draft.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_error_names_the_file_and_not_its_draft(tmp_path: Path) -> None:
    """A failed write names nothing by itself, a failed opening the draft, and what is about another file stays so."""
    other = OSError(errno.EACCES, "denied", "other")
    for error, named in ((OSError(errno.ENOSPC, "full"), str(tmp_path / "x")), (other, "other")):
        with pytest.raises(OSError, match=named) as raised, whole(tmp_path / "x"):
            raise error
        assert raised.value.filename == named
    with pytest.raises(FileNotFoundError) as missing, whole(tmp_path / "x") as draft:
        draft.read_text()
    assert missing.value.filename == str(tmp_path / "x")
