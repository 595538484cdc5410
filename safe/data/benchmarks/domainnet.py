"""DomainNet: six domains of the same 345 classes, by the file lists of its cleaned version.

Source: X. Peng et al., Moment Matching for Multi-Source Domain Adaptation (ICCV 2019), http://ai.bu.edu/M3SDA.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath

import torch

from safe.backbones.resize import UNSTATED, Resize
from safe.data.folders.contents import Contents, digest_of, trained_on_too
from safe.data.images import FileImages
from safe.data.sources import Dataset, Domains
from safe.datasets.facts import DOMAINS
from safe.errors import UserError, shown
from safe.io.opening import read_regular, special_kind


def load_domainnet(
    name: str, root: Path, size: int, contents: Contents | None = None, resize: Resize = UNSTATED
) -> Dataset:
    """Return the data set whose lists and domain folders lie in `root`.

    A class is called after the folder of its images. The digest is of domains, labels and classes and of what the
    listed images hold, in order.

    Args:
        name: what the data set is called.
        root: holds `<domain>_train.txt` and `<domain>_test.txt`, whose paths start there.
        size: side in pixels of what the network sees.
        contents: what is known of the files already.

    Raises:
        UserError: a list that is missing or malformed, images that are not there or cannot be read, or labels without
            one name each.
    """
    names: dict[int, str] = {}
    sets, domains = {}, {}
    everything: list[str] = []
    places: list[tuple[str, ...]] = []
    for split in ("train", "test"):
        paths: list[str] = []
        labels: list[int] = []
        counts: list[int] = []
        for domain in DOMAINS:
            rows = read_list(root / f"{domain}_{split}.txt")
            _require_all(root, f"{domain}_{split}.txt", rows)
            for path, label in rows:
                folder = PurePosixPath(path).parent.name
                if names.setdefault(label, folder) != folder:
                    raise UserError(
                        f"{root}: label {label} is the class {names[label]!r}, but also {folder!r} ({path})"
                    )
            paths += [os.path.join(root, path) for path, _ in rows]
            labels += [label for _, label in rows]
            places += [(split, domain, str(label), names[label]) for _, label in rows]
            counts.append(len(rows))
        everything += paths
        sets[split] = FileImages(tuple(paths), torch.tensor(labels, dtype=torch.int64), size, resize)
        domains[split] = torch.arange(len(DOMAINS)).repeat_interleave(torch.tensor(counts))
    if sorted(names) != list(range(len(names))):
        raise UserError(f"{root}: labels must be 0 to {len(names) - 1}, but the largest in the lists is {max(names)}")
    hashes = (contents or Contents()).hashes(everything)
    twice = trained_on_too(root, everything, hashes, len(sets["train"]))
    return Dataset(
        name,
        tuple(names[label] for label in range(len(names))),
        sets["train"],
        sets["test"],
        digest_of(hashes, places),
        Domains(DOMAINS, domains["train"], domains["test"]),
        notes=(twice,) if twice else (),
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


def _require_all(root: Path, file: str, rows: list[tuple[str, int]]) -> None:
    """Refuse a list whose images are not there or are no files."""
    missing = []
    for path, _ in rows:
        try:
            mode = os.stat(os.path.join(root, path)).st_mode
        except OSError:
            missing.append(path)
            continue
        if not stat.S_ISREG(mode):
            kind = special_kind(mode) or "folder"
            raise UserError(f"{root / file} lists {shown(path)}, which is a {kind}, not an image file")
    if missing:
        raise UserError(
            f"{len(missing)} of the {len(rows)} images of {root / file} are not there: {shown(missing[0])} ..."
        )
