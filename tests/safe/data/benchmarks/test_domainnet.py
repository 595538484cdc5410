"""File lists, classes and domains of DomainNet, and the domain-incremental stream."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from safe.data.benchmarks.domainnet import load_domainnet, read_list
from safe.data.sources import Dataset
from safe.data.split import class_order
from safe.data.stream import Stream, domain_incremental
from safe.datasets.facts import DOMAINS, require_dataset
from safe.errors import UserError

CLASSES = ("aircraft_carrier", "The Eiffel Tower", "zebra")
# Training images of each class; one class of one domain has a single image, another none at all.
COUNTS = {domain: [5, 4, 3] for domain in DOMAINS} | {"sketch": [5, 1, 4], "clipart": [3, 0, 10]}


class Untouchable:
    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"test images were looked at: {name}")

    def __len__(self) -> int:
        raise AssertionError("test images were counted")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "domainnet"
    for number, domain in enumerate(DOMAINS):
        for split in ("train", "test"):
            lines = []
            for label, name in enumerate(CLASSES):
                count = COUNTS[domain][label] if split == "train" else 2
                for i in range(count):
                    path = folder / domain / name / f"{domain}_{split}_{i}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.new("RGB", (8, 8), (40 * number, 80 * label, i + 50 * (split == "test"))).save(path)
                    lines.append(f"{path.relative_to(folder)} {label}")
            (folder / f"{domain}_{split}.txt").write_text("\n".join(reversed(lines)) + "\n")
    return folder


@pytest.fixture
def dataset(root: Path) -> Dataset:
    return load_domainnet("domainnet", root, 16)


def make_stream(dataset: Dataset, **changes: Any) -> Stream:
    settings = {
        "order": class_order(dataset.classes, "seeded", 1993),
        "evaluate_on": "test",
        "holdout_share": 0.0,
        "holdout_seed": 0,
    }
    return domain_incremental(dataset, **(settings | changes))


def cells(dataset: Dataset, index: Tensor) -> Counter[tuple[int, int]]:
    assert dataset.domains is not None
    pairs = zip(dataset.domains.train[index].tolist(), dataset.train.labels[index].tolist(), strict=True)
    return Counter(pairs)


def test_images_labels_and_domains_are_those_of_the_lists(dataset: Dataset) -> None:
    assert dataset.classes == CLASSES
    assert dataset.domains is not None
    assert dataset.domains.names == ("real", "quickdraw", "painting", "sketch", "infograph", "clipart")
    assert len(dataset.train) == sum(sum(counts) for counts in COUNTS.values())
    assert len(dataset.test) == 2 * 3 * 6
    for images, domains in ((dataset.train, dataset.domains.train), (dataset.test, dataset.domains.test)):
        pixels = images.read(torch.arange(len(images)))[:, :, 0, 0].long()
        assert torch.equal(pixels[:, 0], 40 * domains)
        assert torch.equal(pixels[:, 1], 80 * images.labels)


def test_every_session_is_a_domain_with_all_classes(dataset: Dataset) -> None:
    stream = make_stream(dataset)
    assert stream.domain_incremental
    assert [s.domain for s in stream.sessions] == list(DOMAINS)
    assert [s.index for s in stream.sessions] == [1, 2, 3, 4, 5, 6]
    assert [s.classes for s in stream.sessions] == [range(3)] + [range(3, 3)] * 5
    assert [(s.known, s.seen) for s in stream.sessions] == [(0, 3)] + [(3, 3)] * 5
    assert list(stream.order) == np.random.RandomState(1993).permutation(3).tolist()
    assert dataset.domains is not None
    for number, s in enumerate(stream.sessions):
        assert s.train.index.tolist() == (dataset.domains.train == number).nonzero().squeeze(1).tolist()
        assert s.evaluation.index.tolist() == (dataset.domains.test == number).nonzero().squeeze(1).tolist()
        theirs = [stream.order[label] for label in s.train.labels.tolist()]
        assert theirs == dataset.train.labels[s.train.index].tolist()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_holdout_is_exact_in_every_class_of_every_domain(dataset: Dataset, share: float) -> None:
    stream = make_stream(dataset, evaluate_on="holdout", holdout_share=share)
    assert stream.split == "val"
    everything = [i for s in stream.sessions for part in (s.train, s.evaluation) for i in part.index.tolist()]
    assert sorted(everything) == list(range(len(dataset.train)))
    held = cells(dataset, torch.cat([s.evaluation.index for s in stream.sessions]))
    for number, domain in enumerate(DOMAINS):
        for label, count in enumerate(COUNTS[domain]):
            expected = 0 if count < 2 else min(max(1, int(share * count + 0.5)), count - 1)
            assert held[number, label] == expected, (domain, label)


def test_the_holdout_depends_on_its_seed_only_and_never_on_test_images(dataset: Dataset) -> None:
    def held(data: Dataset, **changes: Any) -> list[int]:
        stream = make_stream(data, evaluate_on="holdout", holdout_share=0.4, **changes)
        return sorted(i for s in stream.sessions for i in s.evaluation.index.tolist())

    assert dataset.domains is not None
    domains = replace(dataset.domains, test=Untouchable())  # type: ignore[arg-type]
    blind = replace(dataset, test=Untouchable(), domains=domains)  # type: ignore[arg-type]
    assert held(blind) == held(dataset) == held(dataset, order=range(len(dataset.classes)))
    assert held(dataset, holdout_seed=1) != held(dataset)


def test_a_domain_or_class_without_images_is_named(dataset: Dataset) -> None:
    assert dataset.domains is not None
    merged = replace(dataset.domains, train=dataset.domains.train.clamp(max=4))
    with pytest.raises(UserError, match="1 domains of domainnet have no training image: clipart"):
        make_stream(replace(dataset, domains=merged))
    with pytest.raises(UserError, match="1 classes of domainnet have no training image: lion"):
        make_stream(replace(dataset, classes=(*CLASSES, "lion")))
    with pytest.raises(UserError, match="domainnet has no domains"):
        make_stream(replace(dataset, domains=None))


def test_paths_with_spaces_and_blank_lines_are_read(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text("real/The Eiffel Tower/a b.jpg 7\n\n  real/zebra/ü.jpg   12  \n")
    assert read_list(file) == [("real/The Eiffel Tower/a b.jpg", 7), ("real/zebra/ü.jpg", 12)]


@pytest.mark.parametrize("line", ["real/a/b.jpg", "real/a/b.jpg x", "real/a/b.jpg -1", "/etc/a 1", "../a/b.jpg 1", "7"])
def test_a_malformed_line_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "list.txt"
    file.write_text(f"real/a/b.jpg 0\n{line}\n")
    with pytest.raises(UserError, match=r"list\.txt, line 2: expected"):
        read_list(file)


def test_listed_images_that_are_not_there_are_told(root: Path) -> None:
    (root / "real" / "zebra" / "real_test_1.png").unlink()
    with pytest.raises(UserError, match=r"1 of the 6 images of .*real_test\.txt are not there: real/zebra/real_test_1"):
        load_domainnet("domainnet", root, 16)


def test_labels_have_one_class_each_without_gaps(root: Path) -> None:
    with (root / "clipart_test.txt").open("a") as file:
        file.write("clipart/zebra/clipart_test_0.png 0\n")
    with pytest.raises(UserError, match="label 0 is the class 'aircraft_carrier', but also 'zebra'"):
        load_domainnet("domainnet", root, 16)
    (root / "clipart" / "zebra").rename(root / "clipart" / "lion")
    (root / "clipart_test.txt").write_text("clipart/lion/clipart_test_0.png 9\n")
    (root / "clipart_train.txt").write_text("clipart/lion/clipart_train_0.png 9\n")
    with pytest.raises(UserError, match="labels must be 0 to 3, but the largest in the lists is 9"):
        load_domainnet("domainnet", root, 16)


def test_the_digest_follows_bytes_labels_and_order_and_not_the_place(root: Path, dataset: Dataset) -> None:
    assert load_domainnet("domainnet", root, 32).digest == dataset.digest
    moved = root.rename(root.parent / "moved")
    assert load_domainnet("domainnet", moved, 16).digest == dataset.digest
    path, file_list = moved / "real" / "zebra" / "real_test_1.png", moved / "clipart_train.txt"
    content, lines = bytearray(path.read_bytes()), file_list.read_text().splitlines()
    content[-20] ^= 1
    path.write_bytes(content)
    changed = load_domainnet("domainnet", moved, 16).digest
    file_list.write_text("\n".join(reversed(lines)))
    assert len({dataset.digest, changed, load_domainnet("domainnet", moved, 16).digest}) == 3


def test_test_images_that_are_training_images_are_told(root: Path, dataset: Dataset) -> None:
    assert dataset.notes == ()
    with (root / "clipart_test.txt").open("a") as file:
        file.write("real/zebra/real_train_1.png 2\n")
    (note,) = load_domainnet("domainnet", root, 16).notes
    assert note.startswith(f"{root}: 1 of 37 test images are training images too, byte for byte")
    assert note.endswith(": real/zebra/real_train_1.png is real/zebra/real_train_1.png")


def test_missing_lists_and_folders_are_named(tmp_path: Path, root: Path) -> None:
    assert require_dataset("domainnet", tmp_path).missing(tmp_path) == []
    (root / "quickdraw_train.txt").unlink()
    with pytest.raises(UserError, match=r"no quickdraw_train\.txt under") as error:
        require_dataset("domainnet", tmp_path)
    assert "409832 training and 176743 test images" in str(error.value)
