"""Speaking to `docker compose` about our cluster."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safe.errors import UserError
from sweeps.cluster.machine import look
from sweeps.cluster.passwords import container_user
from tracking.environment import COMMIT, commit_of

DOCKER_FOLDER = Path(__file__).resolve().parents[2] / "docker"
HEAD, WORKER = "ray-head", "ray-worker"


@dataclass(frozen=True)
class Container:
    """A container of the cluster as `docker compose ps` tells it; `health` is empty where none is checked."""

    id: str
    name: str
    service: str
    state: str
    health: str

    @property
    def ready(self) -> bool:
        """Whether it runs and its check passes."""
        return self.state == "running" and self.health in ("", "healthy")


class Compose:
    """`docker compose` with our files, variables and user.

    Args:
        gpu: give the workers GPUs.
        folder: of the compose files, which hold their paths relative to it.
    """

    def __init__(self, gpu: bool = False, folder: Path = DOCKER_FOLDER) -> None:
        self.folder = folder
        files = [folder / "compose.yaml", *([folder / "compose.gpu.yaml"] if gpu else [])]
        self._words = ["docker", "compose", "--project-directory", str(folder)]
        self._words += [word for file in files for word in ("--file", str(file))]
        user, group = container_user()
        told = {"USER_ID": str(user), "GROUP_ID": str(group), COMMIT: commit_of(folder.parent)}
        self.environment = {**os.environ, **told}

    def words(self, *arguments: str) -> list[str]:
        """Return a whole command line."""
        return [*self._words, *arguments]

    def run(self, *arguments: str) -> int:
        """Run with our own input and output; return the exit code."""
        return subprocess.run(self.words(*arguments), env=self.environment).returncode

    def capture(self, *arguments: str, input: str = "") -> str:
        """Return what a command prints; `UserError` with the cause, or the end of its complaint, when it fails."""
        try:
            done = subprocess.run(
                self.words(*arguments), env=self.environment, input=input, capture_output=True, text=True
            )
        except FileNotFoundError:
            done = None
        if done is None or done.returncode:
            look()  # names what is wrong with the engine, if that is the cause
        assert done is not None, "there is an engine"
        if done.returncode:
            tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
            raise UserError(f"docker compose {' '.join(arguments[:2])} failed:\n{tail}")
        return done.stdout

    def config(self) -> Mapping[str, Any]:
        """Return the compose files with every variable put in."""
        settings: Mapping[str, Any] = json.loads(self.capture("config", "--format", "json"))
        return settings

    def containers(self) -> list[Container]:
        """Return the containers that exist, also those that stopped."""
        lines = self.capture("ps", "--all", "--format", "json").splitlines()
        entries = (json.loads(line) for line in lines if line.startswith("{"))
        return [Container(one["ID"], one["Name"], one["Service"], one["State"], one["Health"]) for one in entries]

    def published(self, settings: Mapping[str, Any]) -> dict[str, int]:
        """Return the ports of 127.0.0.1 that the files ask for, by service."""
        return {
            service: int(port["published"])
            for service, part in settings["services"].items()
            for port in part.get("ports", [])
        }

    def in_head(self, arguments: Sequence[str]) -> list[str]:
        """Return the command line that runs a module of this package in the head, without a terminal."""
        return self.words("exec", "--no-TTY", HEAD, "python", "-m", *arguments)
