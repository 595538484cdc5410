"""Characters rendered from the fonts that matplotlib ships, and which of them may stand on which side.

Two sides are made from these characters: the classes that the small ViT is pre-trained on, and the classes of the
`glyphs` stream. What counts is how a character *looks*: characters that render almost alike (Latin A and Greek Alpha)
are one class, and no look-alikes stand on different sides, nor next to a digit 0-9 (the `digits` stream).

Rendered distance: every mask is cropped to its ink, scaled with its aspect ratio kept and centred, so position and
size do not matter; it is then blurred and scaled to unit L2 norm. d(a, b) = 1 - max cos over pairs of faces.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
import torch
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

UNICODE_FACES = tuple(
    [f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")]
    + [f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")]
    + [f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")]
    + [f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")]
)
# Computer Modern has its own encodings; only its ASCII letters and figures sit where Unicode has them.
ASCII_FACES = ("cmr10", "cmb10", "cmss10", "cmti10", "cmtt10")
FACES = UNICODE_FACES + ASCII_FACES
MASK_SIZE = 48
INK_SIZE = 40
DIGITS = "0123456789"
# Two characters nearer than SAME in a common face are look-alikes: one class. Latin A / Greek Alpha are at 0.00,
# c / e at 0.04, E / F at 0.04, V / Lambda at 0.48.
SAME = 0.03
# No character of one side is nearer than APART, over all pairs of faces, to one of the other side or to a digit 0-9;
# pre-training keeps a wider distance from the digits, which have all ten of their shapes in the fonts.
APART = 0.055
APART_FROM_DIGITS = 0.08
# A class needs several faces, or it would be one picture.
MIN_FACES = 4
# The code points that only the glyphs stream may use: Armenian and Georgian.
GLYPH_SCRIPTS = ((0x0531, 0x0587), (0x10A0, 0x10FF))
GLYPH_CLASSES = 100


@dataclass(frozen=True)
class Masks:
    """Clean renderings: `pixels` uint8 (N, 48, 48), `character` and `face` int64 (N,) indices of what is drawn."""

    pixels: Tensor
    character: Tensor
    face: Tensor


@cache
def _font_file(face: str) -> Path:
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"


@cache
def coverage(face: str) -> frozenset[int]:
    """Return the code points that `face` draws."""
    points = frozenset(FT2Font(str(_font_file(face))).get_charmap())
    if face in ASCII_FACES:
        return frozenset(point for point in points if point < 128 and chr(point).isalnum())
    return points


@cache
def _font(face: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_font_file(face)), 64)


def render(character: str, face: str) -> Tensor | None:
    """Return the clean mask of a character, uint8 (48, 48), its ink fitted into the middle 40; None if it is blank."""
    font = _font(face)
    left, top, right, bottom = (int(edge) for edge in font.getbbox(character))
    canvas = Image.new("L", (max(right - left, 1) + 8, max(bottom - top, 1) + 8))
    ImageDraw.Draw(canvas).text((4 - left, 4 - top), character, fill=255, font=font)
    box = canvas.getbbox()
    if box is None:
        return None
    scale = INK_SIZE / max(box[2] - box[0], box[3] - box[1])
    width, height = (max(1, round(scale * side)) for side in (box[2] - box[0], box[3] - box[1]))
    ink = canvas.crop(box).resize((width, height), Image.Resampling.BILINEAR)
    fitted = Image.new("L", (MASK_SIZE, MASK_SIZE))
    fitted.paste(ink, ((MASK_SIZE - width) // 2, (MASK_SIZE - height) // 2))
    return torch.frombuffer(bytearray(fitted.tobytes()), dtype=torch.uint8).reshape(MASK_SIZE, MASK_SIZE)


def render_all(characters: Sequence[str], faces: Sequence[str] = FACES) -> Masks:
    """Return the masks of every character in every face that has it, ordered by character and then face."""
    drawn = [
        (mask, c, f)
        for c, character in enumerate(characters)
        for f, face in enumerate(faces)
        if ord(character) in coverage(face) and (mask := render(character, face)) is not None
    ]
    pixels = torch.stack([mask for mask, _, _ in drawn])
    return Masks(pixels, torch.tensor([c for _, c, _ in drawn]), torch.tensor([f for _, _, f in drawn]))


def _signature(pixels: Tensor) -> Tensor:
    """Return blurred masks of unit norm, float32 (N, 576): what the rendered distance compares."""
    small = functional.avg_pool2d(pixels[:, None].float() / 255.0, 2)
    kernel = torch.tensor([0.25, 0.5, 0.25])
    small = functional.conv2d(small, kernel.reshape(1, 1, 3, 1), padding=(1, 0))
    small = functional.conv2d(small, kernel.reshape(1, 1, 1, 3), padding=(0, 1))
    return functional.normalize(small.flatten(1), dim=1)


def rendered_distances(first: Masks, second: Masks, same_face: bool = False) -> Tensor:
    """Return the rendered distance between the characters of two lists, float32 (C1, C2); inf if no pair was drawn.

    d = 1 - max cos of the blurred, size-normalised masks, over all pairs of faces, or (`same_face`) over the faces
    that have both.
    """
    best = torch.full((int(first.character.max()) + 1, int(second.character.max()) + 1), -torch.inf)
    one, two = _signature(first.pixels), _signature(second.pixels)
    for face in first.face.unique().tolist():
        rows = first.face == face
        for other in [face] if same_face else second.face.unique().tolist():
            columns = second.face == other
            # A face draws a character once, so every (row, column) is written once.
            block = (first.character[rows][:, None], second.character[columns][None])
            best[block] = torch.maximum(best[block], one[rows] @ two[columns].T)
    return 1.0 - best


def _of_glyph_script(character: str) -> bool:
    return any(low <= ord(character) <= high for low, high in GLYPH_SCRIPTS)


@cache
def candidates() -> tuple[str, ...]:
    """Return the characters that could be a class: the letters with a shape of their own, and the digits 0-9.

    A letter that Unicode decomposes (e with acute, superscript, ligature) is a variant of others and is left out, and
    so are marks and modifier letters.
    """
    faces_with = Counter(point for face in FACES for point in coverage(face))
    return tuple(
        chr(point)
        for point, faces in sorted(faces_with.items())
        if faces >= MIN_FACES
        and (chr(point) in DIGITS or unicodedata.category(chr(point)) in ("Lu", "Ll", "Lo", "Lt"))
        and not unicodedata.decomposition(chr(point))
    )


def group(count: int, near: Tensor) -> list[list[int]]:
    """Return the connected components of `count` items under the pairs `near` (int64 (P, 2)), by union-find."""
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for a, b in near.tolist():
        # The smaller index stays the root, so a class is named after its first code point.
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    members: dict[int, list[int]] = defaultdict(list)
    for item in range(count):
        members[root(item)].append(item)
    return list(members.values())


@dataclass(frozen=True)
class Sides:
    """The classes of each side; a class is the string of its look-alike characters, named after the first."""

    pretraining: tuple[str, ...]
    glyphs: tuple[str, ...]


@cache
def sides() -> Sides:
    """Return which characters the small ViT is pre-trained on and which make the glyphs stream.

    1. Look-alikes (`SAME`, common faces) are joined by union-find.
    2. A character near a digit leaves (`APART` in the stream, `APART_FROM_DIGITS` in pre-training).
    3. The classes wholly inside the glyph scripts are the stream's candidates; the 100 with the fewest near
       neighbours elsewhere are taken. A class that spans both (Armenian and Latin o) belongs to pre-training.
    4. What is nearer than `APART` to a class of the stream leaves the pre-training.
    """
    characters = candidates()
    masks = render_all(characters)
    alike = torch.triu(rendered_distances(masks, masks, same_face=True) < SAME, diagonal=1)
    groups = group(len(characters), alike.nonzero())
    distances = rendered_distances(masks, masks)
    near = distances < APART
    to_digit = distances[:, [characters.index(digit) for digit in DIGITS]].amin(1)
    foreign = torch.tensor([_of_glyph_script(character) for character in characters])
    stream = [g for g in groups if bool(foreign[g].all()) and float(to_digit[g].min()) >= APART]
    others = to_digit >= APART_FROM_DIGITS
    others[[member for g in groups if bool(foreign[g].all()) for member in g]] = False
    stream.sort(key=lambda g: int((near[g].any(0) & others).sum()))
    stream = sorted(stream[:GLYPH_CLASSES])
    kept = others & ~near[[member for g in stream for member in g]].any(0) & ~foreign
    pretraining = [[member for member in g if kept[member]] for g in groups]

    def named(classes: Sequence[Sequence[int]]) -> tuple[str, ...]:
        return tuple("".join(characters[member] for member in g) for g in classes if g)

    return Sides(named(pretraining), named(stream))
