"""Image files of every kind become upright RGB squares, or are refused with their path."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from safe.data.images import FileImages, read_rgb, require_readable
from safe.errors import UserError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """Colours at top left, top right, bottom left, bottom right."""
    right, bottom = image.width - 1, image.height - 1
    assert image.mode == "RGB"
    colours = [image.getpixel(place) for place in ((0, 0), (right, 0), (0, bottom), (right, bottom))]
    return [colour for colour in colours if isinstance(colour, tuple)]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path: Path, orientation: int) -> None:
    """A camera that was turned stores other pixels and says so; what comes out is the same scene."""
    scene = Image.new("RGB", (6, 4))
    for place, colour in (((0, 0), RED), ((5, 0), GREEN), ((0, 3), BLUE), ((5, 3), WHITE)):
        scene.putpixel(place, colour)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the inverse of what has to be done, in Pillow's numbers
    stored = scene if orientation == 1 else scene.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "photo.png", exif=exif)
    image = read_rgb(tmp_path / "photo.png")
    assert image.size == (6, 4)
    assert corners(image) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_damaged_exif_block_does_not_matter(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), RED).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert corners(read_rgb(tmp_path / "a.png")) == [RED] * 4


@pytest.mark.parametrize(
    ("mode", "colour", "suffix", "expected"),
    [
        ("L", 77, "png", (77, 77, 77)),
        ("1", 1, "png", WHITE),
        ("CMYK", (0, 255, 255, 0), "tif", RED),
        ("RGBA", (0, 0, 255, 255), "png", BLUE),
        ("RGBA", (0, 0, 0, 0), "png", WHITE),
        ("LA", (100, 255), "png", (100, 100, 100)),
        ("LA", (0, 0), "png", WHITE),
        ("I;16", 65_535, "png", WHITE),
        ("I;16", 128 * 257, "png", (128, 128, 128)),
        ("I;16", 128 * 257, "tif", (128, 128, 128)),
        ("YCbCr", (255, 128, 128), "jpg", WHITE),
    ],
)
def test_every_mode_becomes_rgb(
    tmp_path: Path, mode: str, colour: int | tuple[int, ...], suffix: str, expected: tuple[int, int, int]
) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.new(mode, (8, 8), colour).save(path)
    assert corners(read_rgb(path)) == [expected] * 4


def test_a_cmyk_jpeg_has_its_colours(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    assert np.abs(np.array(corners(read_rgb(tmp_path / "a.jpg"))) - RED).max() <= 3


def test_palettes_keep_colour_and_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, *GREEN])
    image.putpixel((3, 3), 0)
    image.save(tmp_path / "opaque.png")
    image.save(tmp_path / "clear.png", transparency=0)
    assert corners(read_rgb(tmp_path / "opaque.png")) == [GREEN, GREEN, GREEN, (0, 0, 0)]
    assert corners(read_rgb(tmp_path / "clear.png")) == [GREEN, GREEN, GREEN, WHITE]


def test_half_transparent_is_mixed_with_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (255, 0, 0, 128)).save(tmp_path / "a.png")
    assert corners(read_rgb(tmp_path / "a.png")) == [(255, 127, 127)] * 4


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path, suffix: str) -> None:
    first, second = Image.new("RGB", (8, 8), BLUE), Image.new("RGB", (8, 8), RED)
    lossless = {"lossless": True} if suffix == "webp" else {}
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[second], **lossless)
    assert corners(read_rgb(tmp_path / f"a.{suffix}")) == [BLUE] * 4


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    Image.new("F", (8, 8), 0.5).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a\.tif: pixels are floating-point numbers"):
        read_rgb(tmp_path / "a.tif")


@pytest.mark.parametrize("side", [13_378, 60_000])
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, side: int) -> None:
    """A PNG of a few bytes whose header promises more than 178 million pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path = tmp_path / "bömb 1.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(UserError, match=r"cannot read the image .*bömb 1\.png: .*1(78|79)\d{6}") as error:
        read_rgb(path)
    assert "pixels" in str(error.value)


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (40, 2000)])
def test_a_long_strip_costs_no_more_memory_than_its_centre(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = np.full((size[1], size[0], 3), 255, dtype=np.uint8)
    middle = slice(len(pixels) // 2 - 400, len(pixels) // 2 + 400) if size[1] > size[0] else slice(None)
    across = slice(None) if size[1] > size[0] else slice(size[0] // 2 - 400, size[0] // 2 + 400)
    pixels[middle, across] = (0, 9, 0)
    Image.fromarray(pixels).save(tmp_path / "strip.png")
    images = FileImages((str(tmp_path / "strip.png"),), torch.tensor([0]), 32)
    square = images.read(torch.tensor([0]))[0]
    assert square.shape == (3, 37, 37)
    assert square.flatten(1).unique(dim=1).squeeze(1).tolist() == [0, 9, 0]


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "b.png").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        with pytest.raises(UserError, match=rf"cannot read the image .*{name}"):
            read_rgb(tmp_path / name)


def test_damage_that_decoding_passes_over_is_found_by_the_check(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8), RED).save(path)
    require_readable(path)
    content = bytearray(path.read_bytes())
    content[-13] ^= 0xFF  # the checksum of the pixel chunk, before the twelve bytes of the end marker
    path.write_bytes(content)
    assert corners(read_rgb(path)) == [RED] * 4
    with pytest.raises(UserError, match=r"cannot read the image .*a\.png"):
        require_readable(path)
