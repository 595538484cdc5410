"""Driving the cluster under test as a person drives it, and reading what came out."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NAME = "safe-test"
VOLATILE = ("time/", "system/", "memory/")
ENDED = ("finished", "failed", "stopped")


@dataclass
class Cluster:
    """The cluster under test, driven as a person drives it."""

    environment: dict[str, str]
    mlflow_port: int
    dashboard_port: int
    secrets: Path

    def command(self, *words: str) -> list[str]:
        """Return a command line of the module that make calls."""
        return [sys.executable, "-m", "sweeps.cluster", *words]

    def __call__(self, *words: str, expect: int = 0) -> str:
        """Run a command to its end and return what it printed; its exit code must be the expected one."""
        done = subprocess.run(
            self.command(*words),
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == expect, f"{words}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout + done.stderr

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Start handing in a sweep without waiting for its end."""
        return subprocess.Popen(
            self.command("submit", *words), cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def docker(self, *words: str) -> str:
        """Return what a docker command prints."""
        return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout

    def container(self, service: str, number: int = 1) -> str:
        """Return the name of a container."""
        return f"{NAME}-{service}-{number}"

    def ledger(self, name: str) -> list[dict[str, Any]]:
        """Return the records of a sweep's ledger so far, none before it exists."""
        done = subprocess.run(
            ["docker", "exec", self.container("ray-head"), "cat", f"/srv/safe/results/sweeps/{name}/ledger.jsonl"],
            capture_output=True,
            text=True,
        )
        lines = done.stdout.splitlines(keepends=True) if done.returncode == 0 else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def until(self, true: Callable[[], bool], what: str, timeout_s: float = 300.0) -> None:
        """Wait until something is true."""
        end = time.monotonic() + timeout_s
        while not true():
            assert time.monotonic() < end, f"{what}: not within {timeout_s:.0f} s"
            time.sleep(0.5)

    def trains(self, worker: int) -> bool:
        """Whether a worker is within a session of a run just now."""
        return "Trainable.train" in self.processes(self.container("ray-worker", worker))

    def processes(self, container: str) -> str:
        """Return the command lines in a container, in full."""
        return self.docker("top", container, "-e", "ww", "-o", "pid,args")

    def sessions(self, name: str) -> int:
        """Return how many sessions a sweep has recorded."""
        return sum(record["type"] == "session" for record in self.ledger(name))

    def mlflow(self, path: str, body: Mapping[str, Any] | None = None, host: str | None = None) -> Any:
        """Return what MLflow's REST interface answers to a client on the host."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.mlflow_port}/api/2.0/{path}",
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Content-Type": "application/json", **({"Host": host} if host else {})},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def runs(self, experiment: str) -> list[dict[str, Any]]:
        """Return the runs of an experiment."""
        entry = self.mlflow(f"mlflow/experiments/get-by-name?experiment_name={experiment}")["experiment"]
        asked = {"experiment_ids": [entry["experiment_id"]], "max_results": 1000}
        runs: list[dict[str, Any]] = self.mlflow("mlflow/runs/search", asked)["runs"]
        return runs


def outcome(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what a sweep found, from its ledger: the choice, and every number of every session but measured times."""
    sessions: dict[str, dict[int, Any]] = {}
    for record in records:
        if record["type"] == "session":
            metrics = {k: v for k, v in record["metrics"].items() if not k.startswith(VOLATILE)}
            sessions.setdefault(record["job"], {})[record["session"]] = (metrics, record["grid"])
    chosen = [record for record in records if record["type"] == "selected"]
    statuses = {record["job"]: record["status"] for record in records if record["type"] == "status"}
    return {"selected": chosen[-1:], "sessions": sessions, "statuses": statuses}
