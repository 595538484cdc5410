"""The report in a browser: the answer first, all figures drawn from the ledger's numbers, no network, no error."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean, stdev

import pytest

from benchmarks.driving import Browser
from sweeps.results.summary import sweep_summary

from .conftest import Swept

DRAWN = """
const plots = [...document.querySelectorAll('.plot')]
return plots.length > 0 && plots.every(plot => plot.querySelector('.main-svg') && plot.data.length > 0)
"""
TRACES = "return document.getElementById(arguments[0]).data.map(({name, mode, x, y, z}) => ({name, mode, x, y, z}))"
ROWS = "return [...document.querySelectorAll(`#${arguments[0]} tbody tr`)].map(r => [...r.cells].map(c => c.innerText))"


@pytest.fixture(scope="module")
def page(window: Browser, swept: Swept) -> Browser:
    """Open the report from disk; what is logged from then on is its own."""
    window.open("about:blank")
    window.console()
    window.requests()
    window.open(swept.report.as_uri())
    window.until(DRAWN)
    return window


def test_it_asks_nothing_of_a_network_and_raises_no_error(page: Browser, swept: Swept) -> None:
    assert page.console() == []
    asked = page.requests()
    assert swept.report.as_uri() in asked
    assert {a for a in asked if not a.startswith(("data:", "blob:", "about:"))} == {swept.report.as_uri()}


def test_the_answer_comes_first(page: Browser, swept: Swept, keep: Callable[[str], None]) -> None:
    keep("9-report")
    accuracies = [job.sessions[-1].metrics["test/accuracy"] for job in swept.log.of_kind("final")]
    facts = page.run("return [...document.querySelectorAll('#answer dl.facts strong')].map(fact => fact.innerText)")
    assert facts[0] == f"{100 * fmean(accuracies):.1f} ± {100 * stdev(accuracies):.1f} %"
    assert swept.log.selected is not None
    assert facts[-1] == swept.log.selected["trial"]
    assert page.run("return document.querySelector('main').firstElementChild.id") == "answer"
    assert page.run("return document.querySelector('dl.facts').getBoundingClientRect().bottom < window.innerHeight")


def test_the_leaderboard_ranks_the_trials(page: Browser, swept: Swept) -> None:
    scores = {
        trial["id"]: trial["sessions"][-1]["val/average_accuracy"] for trial in sweep_summary(swept.log)["trials"]
    }
    ranked = sorted(scores, key=lambda trial: -scores[trial])
    rows = page.run(ROWS, "leaderboard")
    assert [row[:2] for row in rows] == [[trial, str(place)] for place, trial in enumerate(ranked, start=1)]
    for row in rows:
        assert f"{100 * scores[row[0]]:.1f}" in row[2:]


def test_the_figures_show_the_numbers_of_the_ledger(page: Browser, swept: Swept, keep: Callable[[str], None]) -> None:
    finals, sessions = swept.log.of_kind("final"), list(range(1, 6))
    (curve,) = (line for line in page.run(TRACES, "sessions") if line.get("name") == "SAFE")
    means = [fmean(job.sessions[s - 1].metrics["test/accuracy"] for job in finals) for s in sessions]
    assert curve["x"] == sessions
    assert curve["y"] == pytest.approx([100 * mean for mean in means], abs=1e-9)
    _, heat = page.run(TRACES, "matrix")  # above the cells of sessions to come
    for after in sessions:
        rows = [job.sessions[after - 1].row for job in finals]
        cells = [100 * fmean(same) for same in zip(*rows, strict=True)]
        assert heat["z"][after - 1] == pytest.approx([*cells, *[None] * (5 - after)], abs=1e-9)
    for part in page.run("return [...document.querySelectorAll('main section')].map(section => section.id)"):
        page.run("document.getElementById(arguments[0]).scrollIntoView({behavior: 'instant'})", part)
        keep(f"9-report-{part}")
