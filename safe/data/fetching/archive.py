"""Unpacking of archives that nobody vouches for: plain files below one folder, within limits, or a refusal."""

from __future__ import annotations

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from safe.errors import UserError

MAX_FILES = 1_500_000  # DomainNet, the largest data set, has 0.6 million
MAX_RATIO = 100  # unpacked over packed bytes: pictures give about 1, a bomb about 1000
ALWAYS_ALLOWED_BYTES = 64 * 2**20
_EXTRAS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)

MAX_HEADER_BYTES = 2**20  # of a tar member's long name and other extras, which are read whole

Member = tuple[str, int, Callable[[], IO[bytes]] | None]  # name, bytes, how to open it (None: a folder)


def unpack(archive: Path, target: Path, *, max_files: int = MAX_FILES, max_ratio: float = MAX_RATIO) -> None:
    """Write the files of a zip or (compressed) tar archive below `target`, as new files with default permissions.

    Nothing is ever written outside `target`; what was written before a refusal stays, so `target` is best thrown away.

    Raises:
        UserError: not such an archive, a damaged one, a member that is absolute, has `..`, is a link or a device or
            comes twice, or more files or bytes than allowed.
    """
    limit = max(ALWAYS_ALLOWED_BYTES, max_ratio * archive.stat().st_size)
    files, total = 0, 0
    try:
        for name, size, opened in _members(archive):
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\0" in name:
                raise UserError(f"{archive} is refused: its member {name!r} would lie outside the folder")
            if path.parts[:1] == ("__MACOSX",):
                continue
            files, total = files + 1, total + size
            if files > max_files or total > limit:
                raise UserError(f"{archive} is refused: it unpacks to more than {max_files} files or {limit:.0f} bytes")
            destination = target / path
            if opened is None:
                destination.mkdir(parents=True, exist_ok=True)
                continue
            destination.parent.mkdir(parents=True, exist_ok=True)
            with opened() as source, destination.open("xb") as sink:
                shutil.copyfileobj(source, sink, 2**20)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError) as error:
        raise UserError(f"{archive} is damaged: {error}") from None
    except (OSError, RuntimeError, NotImplementedError) as error:
        raise UserError(f"{archive} cannot be unpacked: {error}") from None


def _members(archive: Path) -> Iterator[Member]:
    if zipfile.is_zipfile(archive):
        yield from _zip_members(archive)
    else:
        yield from _tar_members(archive)


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UserError(f"{archive} is refused: its member {member.filename!r} is a link or a device")
            # The size that is counted here is also the most that zipfile hands out.
            content = None if member.is_dir() else partial(opened.open, member)
            yield member.filename, member.file_size, content


class _Header(tarfile.TarInfo):
    """A member's header, refused before its extras fill the memory: a few packed bytes may stand for any number."""

    def _proc_member(self, opened: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _EXTRAS and self.size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        if self.type == tarfile.GNUTYPE_SPARSE:  # its header may go on for ever
            raise tarfile.ReadError(f"its member {self.name!r} is sparse")
        member: tarfile.TarInfo = super()._proc_member(opened)  # type: ignore[misc]
        return member


def _tar_members(archive: Path) -> Iterator[Member]:
    try:
        opened = tarfile.open(archive, tarinfo=_Header)  # noqa: SIM115
    except tarfile.ReadError as error:
        raise UserError(f"{archive} is neither a zip nor a tar archive: {' '.join(str(error).split())}") from None
    with opened:
        for member in opened:
            if not (member.isreg() or member.isdir()) or member.issparse():
                raise UserError(f"{archive} is refused: its member {member.name!r} is a link, a device or sparse")
            yield member.name, member.size, None if member.isdir() else partial(_tar_content, opened, member)


def _tar_content(opened: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = opened.extractfile(member)
    assert content is not None  # it is a regular file
    return content
