"""Faults in the processes of a sweep: `make test-faults`, or FAULT_TESTS=1 python -m pytest -n 0 tests/interrupted.

Every test here runs `python -m sweeps` as real processes with the real Ray, MLflow and trainer, on the smallest sweep
there is (`sweeping.py`), lets something happen to it, continues it, and compares what it leaves (`state.py`) with what
an undisturbed sweep leaves: every metric of every trial as Ray gave it and as MLflow has it, params, statuses, the
choice, and the files; nothing missing, double, running or left over.

What happens, where and to which trial a test says as data (`planted/sitecustomize.py`), so it is the same each time;
random moments come from a seed. It needs Linux and an otherwise idle machine: it starts Ray some fifty times.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .state import differences, final_state
from .sweeping import KINDS, Sweep, end_all

Check = Callable[..., None]


def why_not() -> str | None:
    """Return why these tests do not run here, None when they do."""
    if not os.environ.get("FAULT_TESTS"):
        return "part of `make test-faults`"
    if not sys.platform.startswith("linux"):
        return "finds processes by Linux's /proc"
    return None


@pytest.fixture(autouse=True)
def _only_when_asked() -> Iterator[None]:
    if reason := why_not():
        pytest.skip(reason)
    yield
    end_all()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """Give a function that returns what a search of a kind leaves when nothing happens to it; run once."""
    known: dict[str, dict[str, Any]] = {}

    def state(search: str) -> dict[str, Any]:
        if search not in known:
            sweep = Sweep(tmp_path_factory.mktemp(f"undisturbed-{search}"), search)
            count = sweep.folder / "writes"
            ended = sweep.run({"at": "write", "times": 0, "do": "kill", "count": str(count)})
            assert ended.code == 0, ended
            known[search] = {**final_state(sweep), "writes": json.loads(count.read_text())}
            assert all(job["status"] == "FINISHED" for job in known[search]["jobs"].values())
        return known[search]

    assert set(KINDS) == {"grid", "random", "staged"}
    return state


@pytest.fixture
def same_as_undisturbed(undisturbed: Callable[[str], dict[str, Any]]) -> Check:
    """Give a function that compares what a sweep has left with what an undisturbed one leaves.

    A sweep that was over with failures and was `repaired` has in MLflow also the summary of before, at an earlier step.
    """

    def check(sweep: Sweep, repaired: bool = False) -> None:
        expected = {name: value for name, value in undisturbed(sweep.search).items() if name != "writes"}
        state = final_state(sweep)
        if repaired:
            metrics = state["runs"][""]["metrics"]
            metrics |= {name: {max(points): points[max(points)]} for name, points in metrics.items()}
        assert differences(state, expected) == []

    return check
