"""The axes of the report's figures."""

from __future__ import annotations

import pytest

from sweeps.report.axes import axis


def test_a_wide_range_is_logarithmic_and_zero_has_its_own_share() -> None:
    scale = axis("slow.lr", [0.0, 0.01, 1.0, 100.0])
    assert scale.positions == pytest.approx([0.0, 0.25, 0.625, 1.0])
    assert [place for place, _ in scale.ticks] == pytest.approx([0.0, 0.25, 0.625, 1.0])
    assert [word for _, word in scale.ticks] == ["0", "0.01", "1", "100"]


def test_a_narrow_range_is_linear() -> None:
    scale = axis("pet.dropout", [0.1, 0.2, 0.5])
    assert scale.positions == pytest.approx([0.0, 0.25, 1.0])
    assert [word for _, word in scale.ticks] == ["0.1", "0.2", "0.5"]


def test_many_values_over_many_decades_get_few_ticks() -> None:
    scale = axis("x", [10.0 ** (power / 3) for power in range(-18, 19)])
    assert len(scale.ticks) <= 6
    assert scale.ticks[0][0] == pytest.approx(0.0)
    assert list(scale.positions) == sorted(scale.positions)


@pytest.mark.parametrize("values", [["ssf", "adapter", "ssf"], [True, False, True], [None, 0.5, None]])
def test_what_is_no_number_stands_in_equal_steps(values: list[object]) -> None:
    scale = axis("x", values)
    assert sorted(set(scale.positions)) == [0.0, 1.0]
    assert scale.positions[0] == scale.positions[2] != scale.positions[1]
    assert len(scale.ticks) == 2


def test_one_value_stands_in_the_middle() -> None:
    assert axis("x", [3, 3]).positions == (0.5, 0.5)
    assert axis("x", ["a"]).positions == (0.5,)
