"""Archives are unpacked whole, or refused with nothing written outside the folder."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from safe.data.fetching.archive import ALWAYS_ALLOWED_BYTES, unpack
from safe.errors import UserError

FILES = {"data/train/a/1.png": b"one", "data/ü b.txt": "two ü".encode(), "data/empty": b""}


def make_zip(path: Path, files: dict[str, bytes], kind: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = kind << 16
            archive.writestr(info, content)
    return path


def make_tar(path: Path, files: dict[str, bytes], kind: bytes = tarfile.REGTYPE, link: str = "") -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def outside(tmp_path: Path) -> set[str]:
    return {p.name for p in tmp_path.iterdir()}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def refused(archive: Path, target: Path, match: str) -> None:
    """Assert that `archive` is refused by name and that nothing appeared beside the target."""
    before = outside(target.parent)
    with pytest.raises(UserError, match=match) as error:
        unpack(archive, target)
    assert str(archive) in str(error.value)
    assert outside(target.parent) == before
    assert not [p for p in target.rglob("*") if p.is_symlink()]


@pytest.mark.parametrize(
    ("make", "name"), [(make_zip, "a.zip"), (make_tar, "a.tar.gz"), (make_tar, "a.tar"), (make_zip, "no suffix")]
)
def test_files_come_out_as_they_went_in(
    tmp_path: Path, target: Path, make: Callable[[Path, dict[str, bytes]], Path], name: str
) -> None:
    unpack(make(tmp_path / name, FILES), target)
    assert contents(target) == FILES


def test_folders_and_permissions(tmp_path: Path, target: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        folder = tarfile.TarInfo("train/empty")
        folder.type, folder.mode = tarfile.DIRTYPE, 0
        archive.addfile(folder)
        file = tarfile.TarInfo("train/run.sh")
        file.mode, file.size = 0o6777, 2
        archive.addfile(file, io.BytesIO(b"hi"))
    unpack(tmp_path / "a.tar", target)
    assert (target / "train" / "empty").is_dir()
    assert stat.S_IMODE((target / "train" / "run.sh").stat().st_mode) & 0o6111 == 0


def test_the_shadow_files_of_a_mac_are_left_out(tmp_path: Path, target: Path) -> None:
    unpack(make_zip(tmp_path / "a.zip", {"__MACOSX/train/._1.png": b"x", "train/1.png": b"y"}), target)
    assert contents(target) == {"train/1.png": b"y"}


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil-of-a-test", "a/b/../../../evil"])
def test_paths_that_leave_the_folder_are_refused(tmp_path: Path, target: Path, name: str) -> None:
    for archive in (make_zip(tmp_path / "a.zip", {name: b"x"}), make_tar(tmp_path / "a.tar", {name: b"x"})):
        refused(archive, target, "would lie outside the folder")
    assert not Path("/tmp/evil-of-a-test").exists()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, target: Path, kind: bytes) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    archive = make_tar(tmp_path / "a.tar", {"link": b""}, kind, "../secret")
    if kind == tarfile.CONTTYPE:  # an old name for a plain file
        unpack(archive, target)
        assert contents(target) == {"link": b""}
        return
    refused(archive, target, "is a link, a device or sparse")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_in_a_zip_are_refused(tmp_path: Path, target: Path, kind: int) -> None:
    refused(make_zip(tmp_path / "a.zip", {"link": b"../secret"}, kind | 0o777), target, "is a link or a device")


def test_a_file_below_a_link_never_gets_written(tmp_path: Path, target: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("sub")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        archive.addfile(link)
        file = tarfile.TarInfo("sub/evil")
        file.size = 1
        archive.addfile(file, io.BytesIO(b"x"))
    refused(tmp_path / "a.tar", target, "is a link")


def test_a_bomb_is_refused_before_it_is_written(tmp_path: Path, target: Path) -> None:
    zeros = {"zeros": bytes(ALWAYS_ALLOWED_BYTES + 1)}
    for archive in (make_zip(tmp_path / "a.zip", zeros), make_tar(tmp_path / "a.tar.gz", zeros)):
        refused(archive, target, "unpacks to more than")
        assert contents(target) == {}


def test_too_many_files_are_refused(tmp_path: Path, target: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {str(i): b"" for i in range(4)})
    unpack(archive, target, max_files=4)
    with pytest.raises(UserError, match="more than 3 files"):
        unpack(archive, target / "again", max_files=3)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_comes_twice_or_lies_below_a_file_is_refused(tmp_path: Path, target: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x", b"1")
        archive.writestr("x", b"2")
    refused(tmp_path / "a.zip", target, "cannot be unpacked")
    refused(make_tar(tmp_path / "a.tar", {"y": b"1", "y/z": b"2"}), target, "cannot be unpacked")


def test_damage_is_told(tmp_path: Path, target: Path) -> None:
    (tmp_path / "page.zip").write_text("<html>log in first</html>")
    refused(tmp_path / "page.zip", target, "neither a zip nor a tar archive")
    noise = bytes(range(256)) * 400
    for archive in (make_zip(tmp_path / "a.zip", {"a": noise}), make_tar(tmp_path / "a.tar.gz", {"a": noise})):
        content = bytearray(archive.read_bytes())
        content[len(content) // 2] ^= 0xFF
        archive.write_bytes(content)
        refused(archive, target, "is damaged|cannot be unpacked|neither")
        (target / "a").unlink(missing_ok=True)
    cut = make_tar(tmp_path / "b.tar.gz", {"a": noise})
    cut.write_bytes(cut.read_bytes()[:-30])
    refused(cut, target, "is damaged")
