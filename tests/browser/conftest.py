"""Pages in a browser: `make test-browser`, or BROWSER_TESTS=1 python -m pytest -n 0 tests/browser.

One small sweep is run as a person runs it, `python -m sweeps ui` serves it, and a headless Chromium opens MLflow's
pages and the report. What stands there is compared, through the page, with what the sweep's own ledger and journal say.
A screenshot of every page is kept: in the folder that BROWSER_SHOTS names, else among pytest's temporary files.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from benchmarks.driving import Browser, browser, chromium, served
from sweeps.ledger.ledger import SweepLog, read_ledger
from tracking import load_sweep
from tracking.tables import SweepTables

ROOT = Path(__file__).resolve().parents[2]
NAME = "looked-at"
SPACE = """
slow.lr: {choice: [0.01, 0.1]}
fast.lr: {choice: [0.01, 0.1]}
aggregation.temperature: {grid: [0.1, 1, 10]}
"""
# A ViT that nobody has trained makes trials differ.
SETTINGS = [
    "slow.epochs=2", "fast.epochs=2", "head.projection_dim=200", "backbone.weights=random", "runtime.threads=1",
]  # fmt: skip


def why_not() -> str | None:
    """Return why these tests do not run here, None when they do."""
    if not os.environ.get("BROWSER_TESTS"):
        return "part of `make test-browser`"
    if chromium() is None:
        return "Chromium with chromedriver is not installed"
    return None


@pytest.fixture(scope="session", autouse=True)
def _only_when_asked() -> None:
    if reason := why_not():
        pytest.skip(reason)


@dataclass
class Swept:
    """A finished sweep as its own files tell of it."""

    results: Path

    @cached_property
    def log(self) -> SweepLog:
        return read_ledger(self.folder)

    @cached_property
    def tables(self) -> SweepTables:
        return load_sweep(NAME, self.results)

    @property
    def folder(self) -> Path:
        return self.results / "sweeps" / NAME

    @property
    def report(self) -> Path:
        return self.folder / "report" / "report.html"


@pytest.fixture(scope="session")
def swept(_only_when_asked: None, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """Run a sweep of two slow by two fast settings with two seeds, from nothing."""
    folder = tmp_path_factory.mktemp("swept")
    (folder / "space.yaml").write_text(SPACE)
    asked = [
        "--name",
        NAME,
        "--search",
        "grid",
        "--space",
        str(folder / "space.yaml"),
        "--seeds",
        "2",
        "--finalists",
        "0",
    ]
    words = ["run", "--dataset", "digits", *asked, "--results", str(folder / "results"), *SETTINGS]
    command = [sys.executable, "-m", "sweeps", *words]
    done = subprocess.run(command, cwd=ROOT, env=_own(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return Swept(folder / "results")


@pytest.fixture(scope="session")
def told(swept: Swept) -> Iterator[list[str]]:
    """Serve the results as `make ui` does; what it prints."""
    with served(swept.results) as lines:
        yield lines


@pytest.fixture(scope="session")
def ui(told: list[str]) -> str:
    """Return the address of the pages."""
    return told[0].split()[2]


@pytest.fixture(scope="session")
def window(_only_when_asked: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Give the window that all tests look through."""
    with browser(tmp_path_factory.mktemp("profile")) as driver:
        driver.open("about:blank")
        driver.requests()  # those of the page that a new window shows
        yield driver


@pytest.fixture(scope="session")
def keep(window: Browser, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], None]:
    """Give a function that keeps what the window shows under a name."""
    asked = os.environ.get("BROWSER_SHOTS")
    folder = Path(asked) if asked else tmp_path_factory.mktemp("pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return lambda name: window.picture(folder / f"{name}.png")


def _own() -> dict[str, str]:
    """Return the environment without what would lead elsewhere."""
    foreign = ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "RESULTS")
    return {name: value for name, value in os.environ.items() if name not in foreign}
