"""Sweeps as a person starts them: real processes, which may be told to meet with faults on their way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PLANTED = Path(__file__).resolve().parent / "planted"
PATIENCE_S = 1800  # for what comes; nothing here depends on how long it takes

# The smallest real sweep: digits in 3 sessions, a ViT that nobody has trained.
SETTINGS = [
    "slow.epochs=1", "fast.epochs=2", "head.projection_dim=64", "backbone.weights=random",
    "data.init_classes=4", "data.increment=3", "runtime.threads=1",
]  # fmt: skip
SPACE = """
slow.diag_weight: {choice: [0.0, 1.0]}
aggregation.temperature: {grid: [0.1, 1, 10]}
"""
KINDS = {
    "grid": [],
    "random": ["--trials", "2", "--search-seed", "1"],
    "staged": ["--trials", "2", "--slow-candidates", "2", "--carried", "1"],
}
SPACES = {
    "grid": SPACE,
    "random": SPACE.replace("choice: [0.0, 1.0]", "loguniform: [0.1, 10]"),
    "staged": f"{SPACE}\nfast.cross_weight: {{choice: [0.0, 1.0]}}\n",
}

Fault = dict[str, Any]
MARKS: list[str] = []  # by which the processes of all sweeps so far are known


@dataclass
class Ended:
    """How a command ended, and what it printed."""

    code: int
    output: str
    errors: str


@dataclass
class Sweep:
    """One sweep in a folder of its own, begun, continued and looked at as often as asked.

    Attributes:
        pids: of the drivers so far.
    """

    folder: Path
    search: str = "grid"
    name: str = "faulty"
    more: tuple[str, ...] = ()
    results_folder: str = "results"
    environment: dict[str, str] = field(default_factory=dict)
    pids: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.mark = uuid.uuid4().hex
        MARKS.append(self.mark)
        self.results = self.folder / self.results_folder
        self.temporary = self.folder / f"tmp-{self.name}"
        self.temporary.mkdir(parents=True)

    @property
    def place(self) -> Path:
        """The sweep's folder within the results."""
        return self.results / "sweeps" / self.name

    @property
    def words(self) -> list[str]:
        """The words that begin the sweep."""
        space = self.folder / "space.yaml"
        space.write_text(SPACES[self.search])
        asked = ["--name", self.name, "--space", str(space), "--search", self.search, *KINDS[self.search]]
        small = ["--seeds", "1", "--concurrency", "2", "--no-control", "--no-audit", "--finalists", "0"]
        return ["run", "--dataset", "digits", *asked, *small, *self.more, *self._results, *SETTINGS]

    @property
    def _results(self) -> list[str]:
        return ["--results", str(self.results)]

    def start(self, *faults: Fault, words: list[str] | None = None) -> Started:
        """Start the sweep, or another command."""
        memory = self.folder / f"faults-{uuid.uuid4().hex}"
        memory.mkdir()
        ours = {
            "PYTHONPATH": str(PLANTED), "FAULTS": json.dumps(faults), "FAULTS_FOLDER": str(memory),
            "SAFE_WORKER_ENV": "FAULT*", "FAULT_TEST": self.mark, "TMPDIR": str(self.temporary), "COLUMNS": "200",
        }  # fmt: skip
        foreign = ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "RESULTS")
        kept = {name: value for name, value in os.environ.items() if name not in foreign}
        out, err = memory / "stdout", memory / "stderr"
        with out.open("w") as output, err.open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "sweeps", *(words or self.words)], cwd=ROOT,
                env={**kept, **ours, **self.environment}, stdin=subprocess.DEVNULL, stdout=output, stderr=errors,
                start_new_session=True,
            )  # fmt: skip
        self.pids.append(process.pid)
        return Started(process, memory)

    def run(self, *faults: Fault, words: list[str] | None = None) -> Ended:
        """Run the sweep, or another command, to its end."""
        return self.start(*faults, words=words).end()

    def resume(self, *faults: Fault) -> Ended:
        """Continue the sweep as its message says."""
        return self.run(*faults, words=["resume", self.name, *self._results])

    def processes(self) -> list[str]:
        """Return the processes that belong to this sweep, as `pid command`."""
        return [f"{pid} {command}" for pid, command in processes(self.mark).items()]


@dataclass
class Started:
    """A command that runs."""

    process: subprocess.Popen[bytes]
    memory: Path

    def end(self) -> Ended:
        """Wait for its end."""
        code = self.process.wait(timeout=PATIENCE_S)
        return Ended(code, *((self.memory / name).read_text() for name in ("stdout", "stderr")))

    def reached(self) -> None:
        """Wait until it waits for us (`"do": "wait"`)."""
        wait_for(lambda: (self.memory / "waiting").exists() or self.process.poll() is not None, "the fault")
        assert self.process.poll() is None, self.end()

    def go_on(self) -> None:
        """Let it go on."""
        (self.memory / "go-on").touch()


def processes(mark: str) -> dict[int, str]:
    """Return the processes whose environment has a mark, with their command lines."""
    commands = {}
    for process in Path("/proc").iterdir():
        with suppress(OSError):  # ended while we look, or not ours to look at
            if process.name.isdigit() and f"FAULT_TEST={mark}".encode() in (process / "environ").read_bytes():
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                commands[int(process.name)] = command[:120]
    return commands


def end_all() -> None:
    """End what a test that failed has left running."""
    for mark in MARKS:
        for pid in processes(mark):
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)
