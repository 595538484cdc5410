"""Every benchmark preset end to end on a miniature tree in the exact layout: all classes, a few 8x8 pictures."""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer

from safe.config import Config, load_config, preset_names
from safe.data.loading import load_dataset
from safe.data.stream import Stream
from safe.datasets.facts import DATASETS, DOMAINS
from safe.training.build import build_stream
from safe.training.trainer import SafeTrainer

IN21K, IN1K = "vit_base_patch16_224.augreg_in21k", "vit_base_patch16_224.augreg_in21k_ft_in1k"
# shared facts of RanPAC (arXiv 2307.02251): class counts of the sessions, PET, weights, natural order
PUBLISHED = {
    "cifar100": ([10] * 10, "adapter", IN21K, False),
    "imagenet_r": ([20] * 10, "ssf", IN1K, False),
    "imagenet_a": ([20] * 10, "ssf", IN1K, False),
    "cub200": ([20] * 10, "adapter", IN1K, False),
    "omnibenchmark": ([30] * 10, "vpt_deep", IN21K, False),
    "vtab": ([10] * 5, "ssf", IN1K, True),
    "domainnet": ([345] + [0] * 5, "adapter", IN1K, False),
    "cars": ([16] + [20] * 9, "vpt_deep", IN21K, False),
}
FAST = [
    "slow.epochs=1",
    "fast.epochs=1",
    "head.projection_dim=32",
    "pet.bottleneck=4",
    "runtime.device=cpu",
    "data.crop_scale=[0.5, 1.0]",
]
TRAIN, TEST = 2, 1


def picture(number: int) -> bytes:
    """An 8x8 picture whose colours say which class it is of."""
    colours = np.random.RandomState(number).randint(0, 256, (2, 2, 3)).astype(np.uint8)
    content = BytesIO()
    Image.fromarray(colours.repeat(4, 0).repeat(4, 1)).save(content, "png")
    return content.getvalue()


def make_folders(root: Path, classes: int) -> None:
    for label in range(classes):
        content = picture(label)
        for split, count in (("train", TRAIN), ("test", TEST)):
            folder = root / split / f"{label:03d}.class"
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{i}.png").write_bytes(content)


def make_cifar(root: Path, classes: int) -> None:
    root.mkdir()
    draw = np.random.RandomState(0)
    for split, count in (("train", TRAIN), ("test", TEST)):
        labels = np.arange(classes).repeat(count)
        records = draw.randint(0, 256, (len(labels), 3074)).astype(np.uint8)
        records[:, 0], records[:, 1] = labels // 5, labels
        records.tofile(root / f"{split}.bin")
    (root / "fine_label_names.txt").write_text("".join(f"name_{label}\n" for label in range(classes)) + "\n")


def make_domains(root: Path, classes: int) -> None:
    root.mkdir()
    for domain in DOMAINS:
        lines: dict[str, list[str]] = {"train": [], "test": []}
        for label in range(classes):
            (root / domain / f"class_{label}").mkdir(parents=True)
            content = picture(label)
            for split in lines:
                path = f"{domain}/class_{label}/{domain}_{label}_{split}.png"
                (root / path).write_bytes(content)
                lines[split].append(f"{path} {label}")
        for split, rows in lines.items():
            (root / f"{domain}_{split}.txt").write_text("\n".join(rows) + "\n")


def make_tree(name: str, root: Path) -> None:
    makers = {"folder": make_folders, "cifar": make_cifar, "domains": make_domains}
    makers[DATASETS[name].kind](root / name, DATASETS[name].classes)


def configured(name: str, root: Path, *overrides: str) -> Config:
    return load_config(name, overrides=[*FAST, f"data.root={root}", *overrides])


def streamed(config: Config) -> Stream:
    return build_stream(config, load_dataset(config.dataset, config.data.root, 32))


def test_every_data_set_but_our_own_streams_has_a_published_preset() -> None:
    assert set(PUBLISHED) == {info.name for info in DATASETS.values() if not info.embedded} - {"fashion_mnist"}
    assert set(preset_names()) == set(DATASETS)


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_say_what_is_published(name: str) -> None:
    sizes, pet, weights, natural = PUBLISHED[name]
    config = load_config(name)
    assert (config.pet.kind, config.backbone.name, config.data.class_order == "natural") == (pet, weights, natural)
    assert config.data.init_classes == sizes[0]
    assert config.class_order_seed == 1993
    assert (config.slow.epochs, config.fast.epochs, config.fast.schedule_epochs) == (20, 15, 20)
    assert (config.slow.batch_size, config.slow.lr, config.slow.weight_decay, config.slow.momentum) == (
        (48, 0.01, 5e-4, 0.9)
    )
    assert config.head.projection_dim == 10_000
    assert (config.data.crop_scale, config.data.horizontal_flip) == ((0.05, 1.0), 0.5)


def test_released_settings_of_safe() -> None:
    """args/*.csv of the authors' repository: fast_disf is ours / 48, scalar_val is 1 / temperature."""
    released = {"cifar100": (5e-10, 5e-9, 0.5, 1, 1), "imagenet_a": (0.01, 10, 1.0, 0, 100)}
    for name, (slow_diag, slow_rdn, fast_disf, fast_cc, scalar_val) in released.items():
        config = load_config(name)
        assert config.slow.diag_weight == slow_diag
        assert config.slow.offdiag_weight == slow_rdn
        assert config.fast.feature_weight == 48 * fast_disf
        assert config.fast.cross_weight == fast_cc
        assert config.aggregation.temperature == 1 / scalar_val


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.filterwarnings("ignore:.*are published")
def test_a_preset_runs_end_to_end(name: str, tmp_path: Path, tiny_vit: VisionTransformer) -> None:
    make_tree(name, tmp_path)
    sizes, _, _, natural = PUBLISHED[name]
    classes, per_domain = DATASETS[name].classes, name == "domainnet"
    config = configured(name, tmp_path)
    stream = streamed(config)
    assert [len(s.classes) for s in stream.sessions] == sizes
    expected = list(range(classes)) if natural else np.random.RandomState(1993).permutation(classes).tolist()
    assert list(stream.order) == expected
    groups = [len(s.evaluation) for s in stream.sessions]
    assert groups == ([classes] * 6 if per_domain else [TEST * size for size in sizes])
    assert [len(s.train) for s in stream.sessions] == (
        [classes] * 6 if per_domain else [TRAIN * size for size in sizes]
    )

    trainer = SafeTrainer(config, backbone=tiny_vit)
    assert trainer.sessions == len(sizes)
    for session in range(len(sizes)):
        result = trainer.run_session()
        assert result.classes_seen == sum(sizes[: session + 1])
        assert trainer.session_logits is not None
        assert trainer.session_logits.counts[: session + 1] == groups[: session + 1]
        assert all(math.isfinite(value) for value in result.as_metrics().values())
        assert 0 <= result.metrics["accuracy"] <= 1
    assert trainer.done
    # The pictures of a class are equal, so even a random network is well above chance.
    if DATASETS[name].kind == "folder":
        assert result.metrics["accuracy"] > 5 / classes


@pytest.mark.parametrize("name", ["vtab", "cifar100"])
@pytest.mark.filterwarnings("ignore:.*are published")
def test_holdout_and_partitions_do_not_depend_on_global_random_state(name: str, tmp_path: Path) -> None:
    make_tree(name, tmp_path)
    config = configured(name, tmp_path, "data.evaluate_on=holdout", "data.holdout_share=0.2")

    def held() -> list[list[int]]:
        return [s.evaluation.index.tolist() for s in streamed(config).sessions]

    first = held()
    np.random.seed(5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        assert held() == first
    kept = [s.train.index.tolist() for s in streamed(config).sessions]
    everything = sorted(i for part in (*first, *kept) for i in part)
    assert everything == list(range(TRAIN * DATASETS[name].classes))
    assert [len(part) for part in first] == [len(part) for part in kept]  # one of two images per class


def test_counts_that_differ_from_the_published_ones_warn(tmp_path: Path) -> None:
    make_tree("vtab", tmp_path)
    with pytest.warns(UserWarning, match="are published") as warned:
        load_dataset("vtab", tmp_path, 32)
    counts = [str(w.message) for w in warned if "byte for byte" not in str(w.message)]  # every picture here is the same
    assert counts == [
        "vtab has 100 training images, but 1796 are published; numbers will not compare",
        "vtab has 50 test images, but 8619 are published; numbers will not compare",
    ]
