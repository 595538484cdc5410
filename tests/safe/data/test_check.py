"""`check` reports exactly what is wrong; `list` and `weights` print what they found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from safe.backbones.loading import load_backbone, weights_digest, weights_file
from safe.config import load_config
from safe.data.__main__ import main
from safe.data.check import check
from safe.data.fetching.weights import place_weights
from safe.data.folders.dataset import load_folder
from safe.datasets.facts import DATASETS
from safe.errors import UserError

TINY = "test_vit.r160_in1k"


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    root = tmp_path / "birds"
    for split in ("train", "test"):
        for name in ("finch", "wren"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(3):
                Image.new("RGB", (20, 20), (i, 2, 3)).save(folder / f"{i}.png")
    return root


def test_a_sound_folder_is_ok(
    birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safe.io.progress.QUICK_S", 0.0)
    monkeypatch.setattr("safe.io.progress.EVERY_S", 0.0)
    report = check(str(birds), tmp_path)
    assert report.ok
    assert (report.classes, report.train, report.test) == (2, 6, 6)
    assert report.digest == load_folder("birds", birds, 32).digest
    told = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in told if line.startswith("checking images")] == [
        f"checking images: {done} of 12" for done in range(1, 13)
    ]
    assert main(["check", str(birds)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "ok"
    assert report.digest in out


def test_exactly_the_broken_images_are_listed(birds: Path, capsys: pytest.CaptureFixture) -> None:
    broken = [birds / "train" / "wren" / "1.png", birds / "test" / "finch" / "0.png", birds / "test" / "wren" / "2.png"]
    broken[0].write_bytes(b"")
    broken[1].write_bytes(broken[1].read_bytes()[:-30])
    broken[2].unlink()
    broken[2].symlink_to("gone.png")
    report = check(str(birds), "data")
    assert not report.ok
    assert report.problems == ()
    assert len(report.unreadable) == 3
    for path, line in zip(broken, report.unreadable, strict=True):
        assert line.startswith(f"cannot read the image {path}: ")
    assert main(["check", str(birds)]) == 1
    out = capsys.readouterr().out
    assert [line.split(": ")[1] for line in out.splitlines() if line.startswith("unreadable")] == [
        f"cannot read the image {path}" for path in broken
    ]
    assert out.splitlines()[-1] == "0 problems, 3 unreadable images"


def test_layout_and_counts_are_problems(birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    birds.rename(tmp_path / "cub200")
    assert check("cub", tmp_path).problems == (
        "cub200 has 2 classes, but 200 are published; numbers will not compare",
        "cub200 has 6 training images, but 9430 are published; numbers will not compare",
        "cub200 has 6 test images, but 2358 are published; numbers will not compare",
    )
    (tmp_path / "cub200" / "test" / "wren").rename(tmp_path / "cub200" / "test" / "tit")
    (problem,) = check("cub", tmp_path).problems
    assert "differ in tit (test), wren (train)" in problem
    (problem,) = check("vtab", tmp_path).problems
    assert "no train or test under" in problem
    assert main(["check", "vtab", "--root", str(tmp_path)]) == 1
    assert "50 class folders" in capsys.readouterr().out
    assert main(["check", "no-such-set"]) == 2


@pytest.mark.parametrize("name", ["digits"])
def test_embedded_sets_hold_what_the_table_says(name: str, tmp_path: Path) -> None:
    assert check(name, tmp_path).ok


def test_the_list_shows_every_data_set(birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    birds.rename(tmp_path / "vtab")
    assert main(["list", "--root", str(tmp_path)]) == 0
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()[1:]}
    assert list(lines) == list(DATASETS)
    assert lines["vtab"][1:] == ["50", "1796", "8619", "5", "yes", str(tmp_path / "vtab")]
    assert lines["cars"][1:6] == ["196", "-", "-", "10", "no"]
    assert lines["domainnet"][1:6] == ["345", "409832", "176743", "6", "no"]
    assert lines["digits"][1:] == ["10", "1438", "359", "5", "embedded"]


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_are_checked_placed_and_found(tmp_path: Path, suffix: str, capsys: Any) -> None:
    given = tmp_path / f"given{suffix}"
    vit = load_backbone(TINY, "random", seed=3)
    if suffix == ".pth":
        torch.save({**vit.state_dict(), "head.weight": torch.zeros(2, 64)}, given)
    else:
        path, _ = place_weights(TINY, tmp_path / "other", save(vit, given))
        given = path
    root = tmp_path / "data"
    assert main(["weights", TINY, "--root", str(root), "--from", str(given)]) == 0
    out = capsys.readouterr().out
    placed = root / "weights" / f"{TINY}.safetensors"
    assert placed == weights_file(root, TINY)
    assert [p.name for p in placed.parent.iterdir()] == [placed.name]
    assert weights_digest(vit) in out
    assert f"backbone.weights={placed}" in out
    for backbone in (load_backbone(TINY, folder=root), load_backbone(TINY, str(placed))):
        assert weights_digest(backbone) == weights_digest(vit)


def save(vit: torch.nn.Module, path: Path) -> Path:
    from safetensors.torch import save_file

    save_file(vit.state_dict(), path)
    return path


def test_weights_that_do_not_fit_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    given = save(load_backbone(TINY, "random"), tmp_path / "given.safetensors")
    assert main(["weights", "test_vit2.r160_in1k", "--root", str(tmp_path), "--from", str(given)]) == 2
    error = capsys.readouterr().err
    assert str(given) in error
    assert "tensors of this network; missing: " in error
    assert not (tmp_path / "weights").exists()
    with pytest.raises(UserError, match="comes with its weights"):
        place_weights(load_config("digits").backbone.name, tmp_path)


def test_a_data_set_names_the_backbone_of_its_preset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[str, str, Path | None]] = []

    def place(name: str, root: str, source: Path | None) -> tuple[Path, str]:
        asked.append((name, root, source))
        return tmp_path, "digest"

    monkeypatch.setattr("safe.data.fetching.weights.place_weights", place)
    assert main(["weights", "ImageNet-R", "--root", "here"]) == 0
    assert asked == [("vit_base_patch16_224.augreg_in21k_ft_in1k", "here", None)]
