"""Fetching a data set: its archives are downloaded (or given), unpacked beside its place and moved there at the end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from safe.data.fetching.archive import unpack
from safe.data.fetching.download import Advance, DownloadError, download, download_drive, unseen
from safe.data.fetching.locations import LOCATIONS, Archive
from safe.datasets.facts import DATASETS, IDX_FILES, DatasetInfo, canonical_name
from safe.errors import UserError
from safe.io.opening import held

MIRROR_VARIABLE = "SAFE_DATA_MIRROR"
DOWNLOADS = ".downloads"
_SEARCH_DEPTH = 3

Download = Callable[[Archive, str, Path], None]


def get_archive(archive: Archive, address: str, target: Path, advance: Advance = unseen) -> None:
    """Download one archive from `address`, or from its public location if that is empty."""
    if address or archive.url:
        download(address or archive.url, target, md5=archive.md5, advance=advance)
    else:
        download_drive(archive.drive_id, target, advance=advance)


def fetch(
    name: str,
    root: str | Path,
    *,
    source: str | Path | None = None,
    mirror: str = "",
    get: Download = get_archive,
    say: Callable[[str], None] = print,
) -> Path:
    """Put a data set into `root` and return its folder; does nothing if it is there.

    The folder appears in one step with everything in it. An interrupted fetch leaves only `root/.downloads`, from
    which the next one continues.

    Args:
        name: name or alias.
        root: folder of all data sets.
        source: an archive, or a folder that holds the archives under the names of `LOCATIONS`, instead of a download.
        mirror: base address (`https://...` or `file:///folder`) that replaces the public locations.
        get: downloads (archive, address or "" for its own, target file).
        say: told in a sentence what happens.

    Raises:
        UserError: nothing to fetch, no location known, something else in its place, an archive that cannot be had or
            is not this data set: what to do by hand.
    """
    info = DATASETS.get(canonical_name(name))
    if info is None or info.embedded:
        raise UserError(f"{name!r} is {'made' if info else 'read'} where it is; there is nothing to fetch")
    root = Path(root)
    target = info.folder(root)
    if not info.missing(root):
        say(f"{info.name} is there: {target}")
        return target
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(
            f"{target} exists, but has no {', '.join(info.missing(root)[:3])}. Move it away and fetch again, "
            f"or complete it by hand: {info.layout(root)}"
        )
    given = Path(source) if source is not None else _mirror_folder(mirror)
    try:
        downloads = root / DOWNLOADS
        downloads.mkdir(parents=True, exist_ok=True)
        with _alone(downloads / f"{info.name}.lock"):
            archives = _given(info, root, given) if given else _downloaded(info, root, mirror, get, say)
            _place(info, root, archives, say, ours=given is None)
    except OSError as error:
        raise UserError(f"cannot write to {root}: {error}") from None
    return target


def _mirror_folder(mirror: str) -> Path | None:
    parts = urlsplit(mirror)
    if mirror and parts.scheme not in ("http", "https", "file"):
        raise UserError(f"{MIRROR_VARIABLE} must begin with https://, http:// or file://, got {mirror!r}")
    if parts.username or parts.password:
        raise UserError(f"{MIRROR_VARIABLE} must not hold a user name or a password: it is shown in messages")
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def _given(info: DatasetInfo, root: Path, source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    paths = [source / archive.file for archive in LOCATIONS.get(info.name, (Archive(f"{info.name}.zip"),))]
    if missing := [path for path in paths if not path.is_file()]:
        raise UserError(f"{missing[0]} is not a file.{_by_hand(info, root)}")
    return paths


def _downloaded(info: DatasetInfo, root: Path, mirror: str, get: Download, say: Callable[[str], None]) -> list[Path]:
    archives = LOCATIONS.get(info.name) or ((Archive(f"{info.name}.zip"),) if mirror else ())
    if not archives:
        raise UserError(f"no lasting public copy of {info.name} is known.{_by_hand(info, root)}")
    paths = []
    for archive in archives:
        path = root / DOWNLOADS / archive.file
        address = f"{mirror.rstrip('/')}/{archive.file}" if mirror else ""
        if not path.is_file():
            say(f"fetching {archive.file} from {address or archive.place}")
            try:
                get(archive, address, path)
            except DownloadError as error:
                raise UserError(f"could not download {archive.file}: {error}.{_by_hand(info, root)}") from None
        paths.append(path)
    return paths


def _by_hand(info: DatasetInfo, root: Path) -> str:
    archives = LOCATIONS.get(info.name, ())
    lines = [f"Download by hand: {archive.place}" for archive in archives]
    what = "FOLDER (with these files)" if len(archives) > 1 else "FILE (zip or tar with train/ and test/)"
    command = f"python -m safe.data fetch {info.name} --root {root} --from {what if len(archives) != 1 else 'FILE'}"
    return "\n".join(["", *lines, f"Then: {command}", f"Or unpack it yourself: {info.layout(root)}."])


def _place(info: DatasetInfo, root: Path, archives: list[Path], say: Callable[[str], None], *, ours: bool) -> None:
    """Unpack beside the target and move into place; downloads (`ours`) are removed, used up or bad."""
    staging = root / f".{info.name}.unpacking"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        for archive in archives:
            if archive.suffix == ".txt" or archive.name in IDX_FILES:
                shutil.copyfile(archive, staging / archive.name)
                continue
            say(f"unpacking {archive.name}")
            try:
                unpack(archive, staging)
            except UserError:
                if ours:
                    archive.unlink()
                raise
        folder = _find(info, staging)
        if folder is not None:
            os.replace(folder, info.folder(root))
        if ours:
            for archive in archives:
                archive.unlink()
        if folder is None:
            names = ", ".join(archive.name for archive in archives)
            raise UserError(f"{names} holds no {info.name}: {info.layout(root)}")
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    say(f"{info.name} is there: {info.folder(root)}")


def _find(info: DatasetInfo, staging: Path) -> Path | None:
    """Return the folder, some levels down at most, that has the data set's layout."""
    level = [staging]
    for _ in range(_SEARCH_DEPTH + 1):
        for folder in level:
            # As an absolute path, the folder stands for itself whatever the root.
            if not DatasetInfo(str(folder.absolute()), 0, None, None, kind=info.kind).missing(""):
                return folder
        level = [child for folder in level for child in sorted(folder.iterdir()) if child.is_dir()]
    return None


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock that ends with the process, so that two fetches do not unpack over each other."""
    with ExitStack() as stack:
        try:
            stack.enter_context(held(path, wait=False))
        except BlockingIOError:
            raise UserError(f"another process is fetching this data set ({path})") from None
        except OSError as error:
            raise UserError(f"cannot lock {path}: {error.strerror}; remove that file") from None
        yield
