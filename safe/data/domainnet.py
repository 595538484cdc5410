"""DomainNet: six domains of the same 345 classes, by the file lists of its cleaned version.

Source: X. Peng et al., Moment Matching for Multi-Source Domain Adaptation (ICCV 2019), http://ai.bu.edu/M3SDA.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path, PurePosixPath

import torch

from safe.data.images import FileImages
from safe.data.registry import DOMAINS
from safe.data.sources import Dataset, Domains
from safe.errors import UserError, shown
from safe.opening import read_regular, special_kind


def load_domainnet(name: str, root: Path, size: int) -> Dataset:
    """Return the data set whose lists and domain folders lie in `root`.

    A class is called after the folder of its images. The digest is of the lists' paths and labels and the file sizes.

    Args:
        name: what the data set is called.
        root: holds `<domain>_train.txt` and `<domain>_test.txt`, whose paths start there.
        size: side in pixels of what the network sees.

    Raises:
        UserError: a list that is missing or malformed, images that are not there, or labels without one name each.
    """
    digest = hashlib.sha256()
    names: dict[int, str] = {}
    sets, domains = {}, {}
    for split in ("train", "test"):
        paths: list[str] = []
        labels: list[int] = []
        counts: list[int] = []
        for domain in DOMAINS:
            rows = read_list(root / f"{domain}_{split}.txt")
            _size_all(root, f"{domain}_{split}.txt", rows, digest)
            for path, label in rows:
                folder = PurePosixPath(path).parent.name
                if names.setdefault(label, folder) != folder:
                    raise UserError(
                        f"{root}: label {label} is the class {names[label]!r}, but also {folder!r} ({path})"
                    )
            paths += [os.path.join(root, path) for path, _ in rows]
            labels += [label for _, label in rows]
            counts.append(len(rows))
        sets[split] = FileImages(tuple(paths), torch.tensor(labels, dtype=torch.int64), size)
        domains[split] = torch.arange(len(DOMAINS)).repeat_interleave(torch.tensor(counts))
    if sorted(names) != list(range(len(names))):
        raise UserError(f"{root}: labels must be 0 to {len(names) - 1}, but the largest in the lists is {max(names)}")
    return Dataset(
        name,
        tuple(names[label] for label in range(len(names))),
        sets["train"],
        sets["test"],
        digest.hexdigest(),
        Domains(DOMAINS, domains["train"], domains["test"]),
    )


def read_list(file: Path) -> list[tuple[str, int]]:
    """Return the (relative path, label) of every line of a file list.

    Raises:
        UserError: names the file, and the line that is not `path label` or leaves the folder.
    """
    try:
        lines = read_regular(file).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the file list {file}: {error}") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        path, _, label = line.strip().rpartition(" ")
        place = PurePosixPath(path.strip())
        if not label.isdecimal() or len(place.parts) < 2 or place.is_absolute() or ".." in place.parts:
            raise UserError(f"{file}, line {number}: expected '<domain>/<class>/<image> <label>', got {line!r}")
        rows.append((str(place), int(label)))
    return rows


def _size_all(root: Path, file: str, rows: list[tuple[str, int]], digest: hashlib._Hash) -> None:
    """Add path, label and size of every listed image to the digest; refuse a list whose images are not there."""
    missing = []
    for path, label in rows:
        try:
            status = os.stat(os.path.join(root, path))
        except OSError:
            missing.append(path)
            continue
        if not stat.S_ISREG(status.st_mode):
            kind = special_kind(status.st_mode) or "folder"
            raise UserError(f"{root / file} lists {shown(path)}, which is a {kind}, not an image file")
        digest.update(f"{path}\0{label}\0{status.st_size}\n".encode())
    if missing:
        raise UserError(
            f"{len(missing)} of the {len(rows)} images of {root / file} are not there: {shown(missing[0])} ..."
        )
