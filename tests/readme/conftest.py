"""`make test-readme`, or README_TESTS=1 python -m pytest -n 0 tests/readme.

What the documents show is run as a person would: in a clone of what is committed, in a shell that has nothing but PATH
and HOME, with the environment that `make` made. Which commands are not run, and why, stands beside the tests.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from .commands import ROOT

KEPT = ("results/", "data/", ".venv")  # what the documents name as the places of results and data, and the environment


class Clone:
    """A fresh clone with the pictures and the space that the commands name, and a home folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder / "clone", folder / "home"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(self.folder)], check=True)
        (self.folder / ".venv").symlink_to((ROOT / ".venv").resolve())
        for name in ("pyproject.toml", "constraints.txt"):  # older than the environment, as after `make setup`
            os.utime(self.folder / name, (0, 0))
        self.home.mkdir()
        for index, name in enumerate(("a", "b", "img", "three", "seven")):
            Image.new("L", (32, 32), 40 * index).save(self.folder / f"{name}.png")
        for label in ("ant", "bee"):
            (self.folder / "pictures" / label).mkdir(parents=True)
            for index in range(5):
                Image.new("RGB", (32, 32), (50 * index, 0, 255)).save(self.folder / f"pictures/{label}/{index}.png")
        (self.folder / "my.yaml").write_text("fast.cross_weight: {grid: [0, 1]}\n")
        self.before = self.left()

    def shell(self, text: str) -> list[str]:
        """Return the words that run a text in a fresh shell."""
        path = "/usr/local/bin:/usr/bin:/bin"
        return ["env", "-i", f"PATH={path}", f"HOME={self.home}", "bash", "-ec", text]

    def run(self, text: str, timeout: float = 1800) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        words = self.shell(text)
        return subprocess.run(words, cwd=self.folder, capture_output=True, text=True, timeout=timeout)

    @contextmanager
    def background(self, text: str) -> Iterator[subprocess.Popen[str]]:
        """Run a command beside the block, then end it and what it started."""
        log = (self.folder.parent / "background.log").open("w+")
        started = subprocess.Popen(
            self.shell(text), cwd=self.folder, stdout=log, stderr=log, text=True, start_new_session=True
        )
        try:
            yield started
        finally:
            if started.poll() is None:
                os.killpg(started.pid, signal.SIGINT)
                try:
                    started.wait(60)
                except subprocess.TimeoutExpired:
                    os.killpg(started.pid, signal.SIGKILL)
                    started.wait()
            log.close()

    def left(self) -> set[str]:
        """Return the files of the working folder that are not committed, without results, data and byte code."""
        words = ["git", "status", "--porcelain", "--ignored", "--untracked-files=all", "-z"]
        told = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, check=True).stdout
        names = {entry[3:] for entry in told.split("\0") if entry}
        return {name for name in names if not name.startswith(KEPT) and "__pycache__" not in name}


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    if not os.environ.get("README_TESTS"):
        pytest.skip("part of `make test-readme`")
    return Clone(tmp_path_factory.mktemp("readme"))
