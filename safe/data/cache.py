"""Decoded pictures on disk: an image file is decoded once, not in every epoch of every trial.

A pack is two files that all processes of a machine share:

- `<name>.pixels`: uint8 pictures one after the other, memory-mapped by its readers;
- `<name>.index`: one record per image of the data set: where its pixels are, their shape and checksum, and inode, size
  and times of the image file that they were decoded from. Zeros: not decoded yet.

Pictures are appended under one lock, pixels before record, so that a half-written one is never taken. Images
beyond the limit are decoded each time, and so are all images where the folder cannot be written. The pixels are the
same with the cache and without it, bit for bit.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import shutil
import struct
import sys
import warnings
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from safe.data.decoder import decoder
from safe.errors import UserError, shown
from safe.io.opening import FileVersion, held, open_own, version_of

VERSION = 2  # of the two files; part of a pack's name, so other versions are passed over
FOLDER_VARIABLE = "SAFE_IMAGE_CACHE"
LIMIT_VARIABLE = "SAFE_IMAGE_CACHE_GIB"
# Offset, three sides and checksum of the pixels; the image file's `FileVersion`; checksum of all these.
_FACTS = struct.Struct("<Q4IQ3q")
_RECORD_BYTES = _FACTS.size + 4
_MOST_NAMED = 5  # damaged pictures that a process names; a pack that was cut off has thousands
_NO_RESERVE = 0x4000 if sys.platform == "linux" else 0  # MAP_NORESERVE, which `mmap` does not name


def image_cache(root: str | Path) -> ImageCache | None:
    """Return the cache of a data root, as the environment wants it; nothing is written yet.

    `SAFE_IMAGE_CACHE` is its folder (default `<root>/decoded`), or `off`; `SAFE_IMAGE_CACHE_GIB` its largest size.
    Without a size it is half of the machine's memory, since only what memory can hold is surely read faster than it is
    decoded, and at most half of the disk that is free.

    Raises:
        UserError: a size that is no number from 0.
    """
    if (folder := cache_folder(root)) is None:
        return None
    cache, given = ImageCache(folder, 0), os.environ.get(LIMIT_VARIABLE)
    if given:
        try:
            gib = float(given)
        except ValueError:
            gib = -1.0
        if not 0 <= gib < float("inf"):
            raise UserError(f"{LIMIT_VARIABLE} must be a number of GiB from 0, for example 20, got {given!r}")
        return ImageCache(cache.folder, int(gib * 2**30))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    present = next(folder for folder in (cache.folder, *cache.folder.parents) if folder.is_dir())
    return ImageCache(cache.folder, min(memory, shutil.disk_usage(present).free + cache.used()) // 2)


def cache_folder(root: str | Path) -> Path | None:
    """Return the absolute folder of what is kept about the images of a data root; `None` where that is turned off."""
    folder = os.environ.get(FOLDER_VARIABLE) or Path(root) / "decoded"
    return None if folder == "off" else Path(folder).absolute()


@dataclass(frozen=True)
class ImageCache:
    """A folder of packs, together at most `limit` bytes of pixels."""

    folder: Path
    limit: int

    def pack(self, name: str, paths: Sequence[str]) -> Pack:
        """Return the pack of a list of image files, told apart by the list and by what decodes it.

        Args:
            name: what is kept of them (whole, or at which size); begins the names of the files.
            paths: of the image files; a picture's place is its position in them.
        """
        listed = b"\0".join(os.fsencode(os.path.abspath(path)) for path in paths)
        digest = hashlib.sha256(repr((VERSION, name, decoder())).encode() + listed)
        return Pack(self, f"{name}-{digest.hexdigest()[:16]}", tuple(paths))

    def sizes(self) -> dict[str, int]:
        """Return the bytes of pixels of every pack, by name."""
        sizes = {}
        for path in sorted(self.folder.glob("*.pixels")):
            with suppress(FileNotFoundError):  # removed meanwhile, where nobody holds the lock
                sizes[path.stem] = path.stat().st_size
        return sizes

    def used(self) -> int:
        """Return the bytes of all pixels."""
        return sum(self.sizes().values())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock that everything is written under; it ends with the process."""
        with held(self.folder / "lock"):
            yield

    def make_room(self, needed: int) -> bool:
        """Return whether `needed` more bytes fit, after removing idle packs, longest unused first. Under the lock."""
        while self.used() + needed > self.limit:
            if needed > self.limit or not any(self._removed(index) for index in self._by_age()):
                return False
        return True

    def clear(self) -> tuple[list[str], list[str]]:
        """Remove every pack that no process uses; return the names of the removed and of those in use."""
        if not self.folder.is_dir():
            return [], []
        with self.locked():
            outcome = [(index.stem, self._removed(index)) for index in self._by_age()]
        return [name for name, gone in outcome if gone], [name for name, gone in outcome if not gone]

    def _by_age(self) -> list[Path]:
        return sorted(self.folder.glob("*.index"), key=lambda path: path.lstat().st_mtime_ns)

    def _removed(self, index: Path) -> bool:
        """Remove a pack, unless a process has it open or it is none of ours; whether it did."""
        try:
            with open(index, "rb", opener=open_own) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                index.with_suffix(".pixels").unlink(missing_ok=True)
                index.unlink()
        except OSError:
            return False
        return True


class Pack:
    """The decoded pictures of one list of image files; opened, and made, when it is first asked.

    Threads and processes may share one. See `ImageCache.pack`.
    """

    def __init__(self, images: ImageCache, name: str, paths: tuple[str, ...]) -> None:
        self._cache, self.name, self._paths = images, name, paths
        self._map: mmap.mmap | None = None
        self._checked: dict[int, bytes] = {}  # records whose pixels this process has found whole
        self._writable = True
        self._named = 0

    def get(self, i: int, decode: Callable[[], Tensor]) -> Tensor:
        """Return picture `i` (uint8, three dimensions), kept or else decoded now and then kept."""
        source = _source(self._paths[i])  # before decoding: a file that changes meanwhile does not fit its record
        pixels = self._find(i, source)
        if pixels is None:
            pixels = decode()
            if source is not None:
                self._keep(i, pixels, source)
        return pixels

    def find(self, i: int) -> Tensor | None:
        """Return picture `i` if it is kept and its file is what it was; a view of the file that nobody may change."""
        return self._find(i, _source(self._paths[i]))

    @cached_property
    def _files(self) -> tuple[int, int] | None:
        """Descriptors of index and pixels; the shared lock on the index keeps the pack from being removed."""
        try:
            self._cache.folder.mkdir(parents=True, exist_ok=True)
            with self._cache.locked():
                index, pixels = (self._open(suffix) for suffix in ("index", "pixels"))
                fcntl.flock(index, fcntl.LOCK_SH)
                os.utime(index)
        except OSError as error:
            self._stop(f"{self._cache.folder} cannot be written ({error.strerror})")
            return None
        return index, pixels

    def _open(self, suffix: str) -> int:
        descriptor = open_own(self._cache.folder / f"{self.name}.{suffix}", os.O_RDWR | os.O_CREAT)
        weakref.finalize(self, os.close, descriptor)
        return descriptor

    def _find(self, i: int, source: FileVersion | None) -> Tensor | None:
        if self._files is None or source is None:
            return None
        record = self._record(i)
        if not any(record):
            return None
        if record == self._checked.get(i) and not self._reaches(record):
            self._checked.clear()  # the file was cut off, and by now other pictures may lie where some were
        if record != self._checked.get(i):
            if self._damage(record):
                with suppress(OSError), self._cache.locked():  # it may be being written just now
                    record = self._record(i)
                if damage := self._damage(record):
                    self._name_damage(i, damage)
                    return None
            self._checked[i] = record
        if _FACTS.unpack_from(record)[5:] != source:
            return None
        return self._view(record)

    def _record(self, i: int) -> bytes:
        assert self._files is not None
        return os.pread(self._files[0], _RECORD_BYTES, i * _RECORD_BYTES)

    def _damage(self, record: bytes) -> str:
        """Return what is wrong with a record or its pixels, in words, or an empty string."""
        if record != _with_checksum(record[: _FACTS.size]):
            return "its entry in the index has another checksum"
        if not self._reaches(record):
            return "its file is cut off"
        if zlib.crc32(self._view(record).numpy().data) != _FACTS.unpack_from(record)[4]:
            return "its pixels have another checksum"
        return ""

    def _reaches(self, record: bytes) -> bool:
        assert self._files is not None
        offset, a, b, c, *_ = _FACTS.unpack_from(record)
        return bool(offset + a * b * c <= os.fstat(self._files[1]).st_size)

    def _view(self, record: bytes) -> Tensor:
        assert self._files is not None
        offset, a, b, c, *_ = _FACTS.unpack_from(record)
        mapped = self._map
        if mapped is None or len(mapped) < offset + a * b * c:
            # Private: what is changed by mistake changes nothing on disk, nor for others. Older views keep their own.
            flags = mmap.MAP_PRIVATE | _NO_RESERVE
            mapped = self._map = mmap.mmap(self._files[1], 0, flags, mmap.PROT_READ | mmap.PROT_WRITE)
        return torch.frombuffer(mapped, dtype=torch.uint8, count=a * b * c, offset=offset).view(a, b, c)

    def _name_damage(self, i: int, damage: str) -> None:
        self._named += 1
        if self._named <= _MOST_NAMED:
            more = "; further ones are not named" if self._named == _MOST_NAMED else ""
            where = self._cache.folder / f"{self.name}.pixels"
            told = f"the picture of {shown(self._paths[i])} in {where} is damaged ({damage}): it is decoded again{more}"
            warnings.warn(told, stacklevel=4)

    def _keep(self, i: int, picture: Tensor, source: FileVersion) -> None:
        if self._files is None or not self._writable:
            return
        content = picture.contiguous().numpy()
        checksum = zlib.crc32(content.data)
        try:
            with self._cache.locked():
                present = self._record(i)
                if any(present) and not self._damage(present) and _FACTS.unpack_from(present)[5:] == source:
                    return  # another process was faster
                if not self._cache.make_room(content.nbytes):
                    self._stop(f"{self._cache.folder} holds {self._cache.limit / 2**30:.3g} GiB, as much as it may")
                    return
                offset = os.fstat(self._files[1]).st_size
                _write(self._files[1], content.data.cast("B"), offset)
                record = _with_checksum(_FACTS.pack(offset, *content.shape, checksum, *source))
                _write(self._files[0], memoryview(record), i * _RECORD_BYTES)
        except OSError as error:
            self._stop(f"{self._cache.folder} cannot be written ({error.strerror})")
            return
        self._checked[i] = record

    def _stop(self, reason: str) -> None:
        self._writable = False
        told = f"{reason}: images that it lacks are decoded each time ({FOLDER_VARIABLE}, {LIMIT_VARIABLE})"
        warnings.warn(told, stacklevel=2)


def _source(path: str) -> FileVersion | None:
    """Return the version of an image file; `None` if it is not there, which reading it will tell."""
    try:
        return version_of(os.stat(path))
    except (OSError, ValueError):
        return None


def _with_checksum(facts: bytes) -> bytes:
    return facts + zlib.crc32(facts).to_bytes(4, "little")


def _write(descriptor: int, content: memoryview, offset: int) -> None:
    while content:
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written
