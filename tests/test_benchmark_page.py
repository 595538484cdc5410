"""What the benchmarks compute besides times: fitted exponents, tables in Markdown, equal numbers of both heads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmarks are not installed."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.5])
def test_the_exponent_of_a_power_law_is_found(exponent: float) -> None:
    from benchmarks.exponents import fitted_exponent

    sizes = [10, 20, 50, 90]
    assert fitted_exponent(sizes, [3.0 * size**exponent for size in sizes]) == pytest.approx(exponent, abs=1e-12)


def test_the_exponent_is_that_of_least_squares() -> None:
    """Slopes 1 and 3 between powers of 2 in turn: the line through (0, 0), (1, 1), (2, 4) in logarithms has slope 2."""
    from benchmarks.exponents import fitted_exponent

    assert fitted_exponent([1, 2, 4], [1, 2, 16]) == pytest.approx(2.0)


def test_tables_of_all_measured_suites(tmp_path: Path) -> None:
    from benchmarks.page import BEGIN, END, replaced, tables

    rows = [{"name": "a", "ratio": 2.0, "of": [1, 2]}, {"name": "b", "ratio": 1.23456}, {"trials": 7}]
    measured = {"suite": "head", "machine": {"cpu": "x", "cores": 2}, "items": rows}
    (tmp_path / "head.json").write_text(json.dumps(measured))
    text = tables(tmp_path)["head"]
    assert "`make bench SUITE=head`; cpu x, cores 2\n" in text
    assert "| name | ratio |\n| --- | --- |\n| a | 2 |\n| b | 1.235 |\n" in text
    assert "| trials |\n| --- |\n| 7 |\n" in text
    other = {"step": "### step\n\nnumbers of step\n"}
    page = replaced(f"before {BEGIN}\n{END} after", {"head": "### head\n\nold\n"} | other)
    assert replaced(page, {"head": text}) == f"before {BEGIN}\n\n{text}\n{other['step']}\n{END} after"
    with pytest.raises(ValueError, match="needs the marks"):
        replaced("no marks", {})


def test_the_page_holds_every_suite_and_stays_as_it_is_where_nothing_was_measured(tmp_path: Path) -> None:
    from benchmarks.__main__ import SUITES
    from benchmarks.page import PAGE, replaced, tables

    page = PAGE.read_text("utf-8")
    assert replaced(page, tables(tmp_path)) == page
    assert [suite for suite in SUITES if f"\n### {suite}\n" not in page] == []


def test_both_ways_of_the_memory_suite_compute_the_same_heads() -> None:
    from benchmarks.memory import our_heads, plain_heads

    sizes = {"dim": 300, "classes": 5, "images": 200}
    plain, ours = (way(torch.device("cpu"), **sizes)[0] for way in (plain_heads, our_heads))
    assert ours == pytest.approx(plain, rel=1e-3)
    assert plain[0] in (1e3, 1e4, 1e5, 1e6, 1e7, 1e8)
    assert plain[1] != pytest.approx(plain[3], rel=1e-6), "the two learners are the same"
