"""Image files of every kind and damage, through the three doors: training, `safe predict`, the logged model.

What can be read is read alike by all three; what cannot is named with the reason, and the rest goes on.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import EpsImagePlugin, Image

from safe.cli.main import main
from safe.data.loading import load_dataset
from safe.errors import UserError
from safe.predictor import load_predictor
from safe.training.trainer import SafeTrainer

from .conftest import fill, picture, tiny

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def plain(colour: int | tuple[int, ...], mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (40, 40), colour)


def grey(file: Path) -> None:
    plain(77, "L").save(file)


def deep_grey(file: Path) -> None:
    plain(128 * 257, "I;16").save(file)


def cmyk(file: Path) -> None:
    plain((0, 255, 255, 0), "CMYK").save(file, "TIFF")


def palette(file: Path) -> None:
    image = plain(0, "P")
    image.putpalette([*GREEN, *RED])
    image.save(file, transparency=0)


def animated_gif(file: Path) -> None:
    plain(BLUE).save(file, "GIF", save_all=True, append_images=[plain(RED)])


def animated_webp(file: Path) -> None:
    plain(BLUE).save(file, "WEBP", save_all=True, append_images=[plain(RED)], lossless=True)


def turned(file: Path) -> None:
    """Left half red, right half green, as its photographer saw it; the camera was held sideways."""
    scene = plain(RED)
    scene.paste(GREEN, (20, 0, 40, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    scene.transpose(Image.Transpose.ROTATE_90).save(file, "PNG", exif=exif)


# Name of the file, how it is made, and what is in its top left and top right corner.
READABLE: dict[str, tuple[Callable[[Path], None], tuple[int, ...], tuple[int, ...]]] = {
    "grey.png": (grey, (77,) * 3, (77,) * 3),
    "deep grey.png": (deep_grey, (128,) * 3, (128,) * 3),
    "cmyk.png": (cmyk, RED, RED),  # a TIFF by another name
    "palette.png": (palette, WHITE, WHITE),  # all of it is transparent
    "animated.jpg": (animated_gif, BLUE, BLUE),  # a GIF by another name
    "animated.webp": (animated_webp, BLUE, BLUE),
    "turned.png": (turned, RED, GREEN),
}


def empty(file: Path) -> None:
    file.touch()


def truncated(file: Path) -> None:
    noise = Image.fromarray(np.random.RandomState(0).randint(0, 255, (64, 64, 3), dtype=np.uint8))
    noise.save(file)
    file.write_bytes(file.read_bytes()[:2000])


def no_image(file: Path) -> None:
    file.write_text("<svg/>")


def huge(file: Path) -> None:
    """Write 20 000 x 20 000 white pixels, whole and valid, in 50 kB."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    pixels = zlib.compress((b"\0" + b"\xff" * 2500) * 20_000, 1)
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))


def postscript(file: Path) -> None:
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(owned) print\n%%EOF\n")


def floating(file: Path) -> None:
    plain(0, "F").save(file, "TIFF")


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty.png": (empty, "it is none of JPEG, PNG"),
    "truncated.jpg": (truncated, "truncated"),
    "truncated.png": (truncated, ""),
    "text.png": (no_image, "it is none of JPEG, PNG"),
    "huge.png": (huge, "400000000 pixels.* limit of 178956970"),
    "postscript.png": (postscript, "it is none of JPEG, PNG"),
    "floating.tif": (floating, "floating-point"),
}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    for name, (make, *_) in {**READABLE, **BROKEN}.items():
        make(folder / name)
    return folder


@pytest.fixture
def no_ghostscript(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("Pillow would run Ghostscript on an image of the data set")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", fail)


# ---------------------------------------------------------------- training


def test_training_reads_every_kind_upright_and_in_its_colours(zoo: Path, tmp_path: Path) -> None:
    fill(tmp_path, "ab")
    for split in ("train", "test"):
        for name in READABLE:
            (tmp_path / split / "a" / name).write_bytes((zoo / name).read_bytes())
    dataset = load_dataset(str(tmp_path), "data", 32)
    paths = [Path(path).name for path in dataset.train.paths]  # type: ignore[attr-defined]
    for name, (_, left, right) in READABLE.items():
        (square,) = dataset.train.read(torch.tensor([paths.index(name)]))
        assert (tuple(square[:, 0, 0].tolist()), tuple(square[:, 0, -1].tolist())) == (left, right), name
    trainer = SafeTrainer(tiny(tmp_path))
    result = trainer.run_session()
    assert result.losses[0][1]["train/slow/ce"] > 0
    assert sum(trainer.session_logits.counts) == 4 + len(READABLE)  # type: ignore[union-attr]


@pytest.mark.usefixtures("no_ghostscript")
@pytest.mark.parametrize("name", BROKEN)
def test_training_stops_at_a_broken_image_and_names_it(zoo: Path, tmp_path: Path, name: str) -> None:
    fill(tmp_path, "ab", train=2, test=1)
    (tmp_path / "train" / "b" / name).write_bytes((zoo / name).read_bytes())
    with pytest.raises(UserError, match=rf"cannot read the image .*/train/b/{name}: .*{BROKEN[name][1]}"):
        SafeTrainer(tiny(tmp_path)).run_session()


# ---------------------------------------------------------------- safe predict


@pytest.mark.usefixtures("no_ghostscript")
def test_predict_skips_and_names_what_it_cannot_read_and_predicts_the_rest(
    zoo: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [zoo / name for name in {**BROKEN, **READABLE}]
    assert main(["predict", str(state), *map(str, files), "--json"]) == 1
    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.out.splitlines()]
    assert [line["file"] for line in lines] == [str(zoo / name) for name in READABLE]
    *told, summary = captured.err.splitlines()
    assert summary == f"{len(BROKEN)} of {len(files)} images could not be read"
    assert [line.partition(": cannot read the image ")[2].partition(": ")[0] for line in told] == [
        str(zoo / name) for name in BROKEN
    ]
    assert "limit of 178956970" in captured.err
    predicted = load_predictor(state, device="cpu").predict([zoo / name for name in READABLE])
    assert [line["class"] for line in lines] == predicted.labels


# ---------------------------------------------------------------- the logged model


def ask(state: Path, *texts: str) -> pd.DataFrame:
    """Ask the logged model, as MLflow does."""
    from sweeps.model.pyfunc import SafePyfunc

    context = SimpleNamespace(artifacts={"state": str(state)}, model_config={"device": "cpu"})
    model = SafePyfunc()
    model.load_context(context)  # type: ignore[arg-type]
    return model.predict(context, pd.DataFrame({"image": list(texts)}))  # type: ignore[arg-type]


def text(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


def test_the_logged_model_reads_every_kind_as_predict_does(zoo: Path, state: Path) -> None:
    files = [zoo / name for name in READABLE]
    answer = ask(state, *map(text, files))
    expected = load_predictor(state, device="cpu").predict(files)
    assert list(answer["label"]) == expected.labels
    assert list(answer["probability"]) == [best[0][1] for best in expected.top(1)]


@pytest.mark.usefixtures("no_ghostscript")
def test_the_logged_model_refuses_a_broken_image_with_the_reason(zoo: Path, state: Path, tmp_path: Path) -> None:
    from mlflow.exceptions import MlflowException

    from sweeps.model.pyfunc import SafePyfunc

    picture(0).save(tmp_path / "good.png")
    model = SafePyfunc()
    model._predictor = load_predictor(state, device="cpu")
    for name, (_, reason) in BROKEN.items():
        frame = pd.DataFrame({"image": [text(tmp_path / "good.png"), text(zoo / name)]})
        with pytest.raises(MlflowException, match=rf"image 1: expected the base64 .*; cannot read .*{reason}") as error:
            model.predict(None, frame)  # type: ignore[arg-type]
        assert error.value.get_http_status_code() == 400, "the asker's mistake, not the server's"
        assert "BytesIO" not in error.value.message
    for no_text in ("not base64!", "bäse64", None):
        with pytest.raises(MlflowException, match="image 0: expected the base64 text of an image file") as error:
            model.predict(None, pd.DataFrame({"image": [no_text]}))  # type: ignore[arg-type]
        assert error.value.get_http_status_code() == 400
