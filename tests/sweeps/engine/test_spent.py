"""Checkpoints from which no run goes on are removed, and nothing else is."""

from __future__ import annotations

from pathlib import Path

from sweeps.engine.spent import Spent


def test_checkpoints_within_the_storage_are_gone_in_the_end_and_what_lies_elsewhere_is_left(tmp_path: Path) -> None:
    storage, elsewhere = tmp_path / "ray", tmp_path / "elsewhere"
    folders = [storage / "one", storage / "one-more" / "two", elsewhere]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "resume.pt").touch()
    (storage / "link").symlink_to(elsewhere)
    names = [*folders, storage, storage / "gone", storage / "link", storage / ".." / "elsewhere"]
    spent = Spent(storage)
    spent.remove(map(str, names[:1]))
    spent.remove(map(str, names[1:]))
    spent.close()
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == ["elsewhere", "elsewhere/resume.pt", "ray", "ray/link", "ray/one-more"]
