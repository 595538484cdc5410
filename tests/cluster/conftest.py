"""A cluster of containers for the tests that need one, beside any other: its own name, ports, secrets and volumes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator

import pytest

from .driving import NAME, Cluster


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def why_not() -> str | None:
    """Return why there can be no cluster here, None when there can."""
    if not os.environ.get("CLUSTER_TESTS"):
        return "part of `make test-cluster`"
    if shutil.which("docker") is None:
        return "docker is not installed"
    if subprocess.run(["docker", "info"], capture_output=True).returncode:
        return "no Docker engine answers"
    return None


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Give a cluster of two workers, up from nothing; afterwards nothing is left of it."""
    if reason := why_not():
        pytest.skip(reason)
    ports, secrets = (free_port(), free_port()), tmp_path_factory.mktemp("cluster") / "secrets"
    environment = {
        **os.environ,
        "CLUSTER_NAME": NAME,
        "MLFLOW_PORT": str(ports[0]),
        "DASHBOARD_PORT": str(ports[1]),
        "SECRETS": str(secrets),
        "STORAGE": "storage",
    }
    cluster = Cluster(environment, *ports, secrets)
    cluster("down", "-v")
    try:
        cluster("up", "--workers", "2")
        yield cluster
    finally:
        cluster("down", "-v")
