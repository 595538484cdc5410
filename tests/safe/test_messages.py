"""Messages for people that no other test reads: input that is wrong in one way, and every word that is told of it."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import gdown
import pytest
import torch
from timm.models.eva import Eva

from safe.__main__ import main
from safe.backbones import loading as backbone
from safe.data.benchmarks.domainnet import read_list
from safe.data.fetching.archive import MAX_HEADER_BYTES, unpack
from safe.data.fetching.download import DownloadError, download_drive
from safe.data.fetching.fetch import fetch
from safe.data.folders.split import split_folder
from safe.data.sources import ArrayImages, Dataset, Domains
from safe.data.stream import domain_incremental
from safe.errors import UserError
from safe.pet import attach
from safe.states.checkpoint import save_state
from safe.states.inference import load_inference_state


def _tar(path: Path, kind: bytes, size: int) -> Path:
    member = tarfile.TarInfo("a")
    member.type, member.size = kind, size
    # A plain empty member comes first: what begins otherwise is no tar archive at all.
    path.write_bytes(tarfile.TarInfo("b").tobuf() + member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    return path


def _long_header(folder: Path) -> None:
    unpack(_tar(folder / "a.tar", tarfile.GNUTYPE_LONGNAME, MAX_HEADER_BYTES + 1), folder / "out")


def _sparse(folder: Path) -> None:
    unpack(_tar(folder / "a.tar", tarfile.GNUTYPE_SPARSE, 0), folder / "out")


def _in_the_way(folder: Path) -> None:
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("x/1.png", b"1")
    (folder / "out").write_bytes(b"a file where the folder should be")
    unpack(folder / "a.zip", folder / "out")


def _list(folder: Path) -> None:
    (folder / "real_train.txt").write_text("real/zebra/1.png 0\nreal/zebra/2.png\n")
    read_list(folder / "real_train.txt")


def _no_archive(folder: Path) -> None:
    fetch("cub200", folder, source=folder / "missing")


def _into_itself(folder: Path) -> None:
    split_folder(folder, folder / "split")


def _divided_and_empty(folder: Path) -> None:
    for split in ("train", "test"):
        (folder / "source" / split / "ant").mkdir(parents=True)
    split_folder(folder / "source", folder / "split")


def _images(labels: list[int]) -> ArrayImages:
    return ArrayImages(torch.zeros(len(labels), 3, 8, 8, dtype=torch.uint8), torch.tensor(labels))


def _domains(domains: Domains | None) -> None:
    dataset = Dataset("mine", ("ant", "bee"), _images([0, 1]), _images([0, 1]), "digest", domains=domains)
    domain_incremental(dataset, order=[0, 1], evaluate_on="test", holdout_share=0.0, holdout_seed=0)


def _no_domains(folder: Path) -> None:
    _domains(None)


def _empty_domain(folder: Path) -> None:
    _domains(Domains(("photo", "sketch"), torch.tensor([0, 0]), torch.tensor([0, 1])))


def _part_missing(folder: Path) -> None:
    state = {"version": 1, "learners": {name: {"pet": f"pet-{'0' * 32}.pt"} for name in ("slow", "fast")}}
    save_state(state, folder / "session-01.pt")
    load_inference_state(folder / "session-01.pt")


def _prompts(folder: Path) -> None:
    attach(backbone.load_backbone("safe_small_vit"), "vpt_deep", generator=None, prompts=0)


@pytest.mark.parametrize(
    ("provoke", "words"),
    [
        (_long_header, f"a.tar is damaged: a header of {MAX_HEADER_BYTES + 1} bytes"),
        (_sparse, "a.tar is damaged: its member 'a' is sparse"),
        (_in_the_way, "a.zip cannot be unpacked: "),
        (_list, "real_train.txt, line 2: expected '<domain>/<class>/<image> <label>', got 'real/zebra/2.png'"),
        (_no_archive, "cub200.zip is not a file."),
        (_into_itself, "itself: give a place outside of it"),
        (_divided_and_empty, "source is divided already, but lacks images."),
        (_no_domains, "mine has no domains, so its sessions can only be classes"),
        (_empty_domain, "1 domains of mine have no training image: sketch"),
        (_part_missing, f"session-01.pt needs pet-{'0' * 32}.pt beside it, which is not there: copy the whole folder"),
        (_prompts, "pet.prompts: Input should be greater than or equal to 1, got 0"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, provoke: Callable[[Path], None], words: str) -> None:
    with pytest.raises(UserError) as refused:
        provoke(tmp_path)
    assert words in str(refused.value)


def test_an_empty_folder_holds_no_image_to_predict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "run.state").write_bytes(b"")
    assert main(["predict", str(tmp_path / "run.state"), str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: no image (.jpg, ")
    assert f") under {tmp_path}" in told


def test_a_network_that_is_no_vision_transformer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Eva(img_size=32, patch_size=8, embed_dim=32, depth=1, num_heads=2)
    monkeypatch.setattr("timm.create_model", lambda *_, **__: small)
    with pytest.raises(UserError, match=r"is a Eva; PET attaches to timm's VisionTransformer only"):
        backbone.load_backbone("vit_base_patch16_224.augreg_in21k", "random")


def test_a_drive_that_sends_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gdown, "download", lambda **_: None)
    with pytest.raises(DownloadError, match="Google Drive file abc: nothing was received"):
        download_drive("abc", tmp_path / "archive.zip")


def test_a_drive_that_refuses_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise RuntimeError("Too many users\n\thave viewed or downloaded this file")

    monkeypatch.setattr(gdown, "download", refuse)
    with pytest.raises(DownloadError, match="abc: Too many users have viewed or downloaded this file"):
        download_drive("abc", tmp_path / "archive.zip")


def test_a_pet_state_of_another_network_is_named_tensor_by_tensor() -> None:
    vit = backbone.load_backbone("safe_small_vit")
    adapters, prompts = (attach(vit, kind, generator=torch.Generator()) for kind in ("adapter", "vpt_shallow"))
    with pytest.raises(ValueError, match=r"this PET state does not fit: missing .*; unexpected .*prompts"):
        adapters.load_pet_state(prompts.pet_state())
