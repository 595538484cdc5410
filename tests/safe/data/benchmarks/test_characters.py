"""The characters of the fonts: which are there, which look alike, and on which side they stand."""

from __future__ import annotations

import pytest
import torch

from safe.data.benchmarks.characters import (
    APART,
    APART_FROM_DIGITS,
    DIGITS,
    FACES,
    MASK_SIZE,
    SAME,
    Masks,
    candidates,
    group,
    render,
    render_all,
    rendered_distances,
    sides,
)
from safe.data.benchmarks.glyphs import CLASSES


def _distance(first: str, second: str) -> float:
    return float(rendered_distances(render_all([first]), render_all([second]), same_face=True))


@pytest.fixture(scope="module")
def masks() -> dict[str, Masks]:
    made = sides()
    return {
        "pretraining": render_all("".join(made.pretraining)),
        "glyphs": render_all("".join(made.glyphs)),
        "digits": render_all(DIGITS),
    }


@pytest.mark.parametrize("pair", ["AΑ", "oօ", "OО", "ПΠ"])
def test_the_same_shape_in_another_script_is_at_distance_zero(pair: str) -> None:
    assert _distance(*pair) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(("pair", "low", "high"), [("EF", 0.03, 0.1), ("O0", 0.0, 0.05), ("VΛ", 0.3, 0.6)])
def test_the_distance_orders_pairs_as_the_eye_does(pair: str, low: float, high: float) -> None:
    assert low < _distance(*pair) < high


def test_the_distance_ignores_size_and_place() -> None:
    # In one face the small capital is the capital drawn smaller and lower.
    assert _distance("Z", "ᴢ") < 0.05
    assert _distance("Z", "R") > 0.1


def test_the_distance_agrees_with_a_direct_computation() -> None:
    masks = render_all("ЖΨ", FACES[:2])
    best = -1.0
    for a in masks.pixels[masks.character == 0]:
        for b in masks.pixels[masks.character == 1]:
            signatures = []
            for mask in (a, b):
                small = torch.nn.functional.pad(mask.double().reshape(24, 2, 24, 2).mean((1, 3)), (1, 1, 1, 1))
                blurred = sum(
                    w * v * small[i : i + 24, j : j + 24]
                    for i, w in enumerate((0.25, 0.5, 0.25))
                    for j, v in enumerate((0.25, 0.5, 0.25))
                )
                assert isinstance(blurred, torch.Tensor)
                signatures.append(blurred / blurred.norm())
            best = max(best, float((signatures[0] * signatures[1]).sum()))
    measured = float(rendered_distances(masks, masks)[0, 1])
    assert measured == pytest.approx(1 - best, abs=1e-5)


def test_no_class_of_one_side_looks_like_one_of_the_other_in_any_pair_of_faces(masks: dict[str, Masks]) -> None:
    assert float(rendered_distances(masks["pretraining"], masks["glyphs"]).min()) >= APART
    assert float(rendered_distances(masks["pretraining"], masks["digits"]).min()) >= APART_FROM_DIGITS
    assert float(rendered_distances(masks["glyphs"], masks["digits"]).min()) >= APART


def test_look_alikes_of_the_streams_are_out_of_the_pretraining() -> None:
    pretraining, glyphs = "".join(sides().pretraining), "".join(sides().glyphs)
    for outsider in "0123456789OoОοօl|IS":
        assert outsider not in pretraining, outsider
        assert outsider not in glyphs, outsider
    assert not set(pretraining) & set(glyphs)
    assert len(set(pretraining)) == len(pretraining)
    assert len(set(glyphs)) == len(glyphs)


def test_look_alikes_are_one_class(masks: dict[str, Masks]) -> None:
    made = sides()
    latin_a = next(members for members in made.pretraining if "A" in members)
    assert {"A", "Α", "А"} <= set(latin_a)
    for classes, drawn in ((made.pretraining, masks["pretraining"]), (made.glyphs, masks["glyphs"])):
        owner = torch.tensor([label for label, members in enumerate(classes) for _ in members])
        distances = rendered_distances(drawn, drawn, same_face=True)
        distances[owner[:, None] == owner[None]] = torch.inf
        assert float(distances.min()) >= SAME


def test_the_sides_have_the_stated_sizes_and_the_stream_uses_them() -> None:
    assert len(sides().pretraining) > 500
    assert sides().glyphs == CLASSES
    assert len(CLASSES) == 100


def test_every_class_is_drawn_in_several_faces() -> None:
    masks = render_all("".join(CLASSES))
    assert int(torch.bincount(masks.character).min()) >= 4
    assert masks.pixels.dtype == torch.uint8
    assert masks.pixels.shape[1:] == (MASK_SIZE, MASK_SIZE)
    # Ink is fitted into the middle 40 pixels and touches both edges of its longer side.
    ink = masks.pixels > 0
    span = torch.maximum(ink.any(1).sum(1), ink.any(2).sum(1))
    assert int(span.max()) <= 40
    assert int(span.min()) >= 36
    assert not bool(ink[:, :4].any())


def test_groups_are_the_connected_components() -> None:
    pairs = torch.tensor([[0, 3], [3, 5], [1, 2]])
    assert group(6, pairs) == [[0, 3, 5], [1, 2], [4]]
    assert group(3, pairs[:0]) == [[0], [1], [2]]


def test_a_blank_character_has_no_mask_and_decomposed_letters_are_no_candidates() -> None:
    assert render(" ", "DejaVuSans") is None
    assert not set("éÅ²①ﬁ") & set(candidates())
