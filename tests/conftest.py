"""Fixtures for all tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from sweeps.engine.ray_environment import prepare_ray
from sweeps.spec.typed import BY_MAKE
from tracking import DeliveryProcess
from tracking.delivery import Delivery

# `make test` is no call of a sweep by make: what programs suggest to type is that of a shell, and no make that a test
# calls takes over the words of this one.
for name in (BY_MAKE, "ARGS", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS"):
    os.environ.pop(name, None)

# Ray reads its environment when it is imported, and some test is the first to do that.
prepare_ray(joins=False)

REFERENCE = Path(__file__).parent / "reference" / "released_code.npz"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Run torch on one thread: tiny tensors are faster so, and sums do not depend on the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def _decoded_pictures_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep decoded image files out of the data folder, which data sets under an absolute path would fill."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAFE_IMAGE_CACHE", str(tmp_path_factory.mktemp("decoded")))
        yield


class DeliveryHere(DeliveryProcess):
    """No process: what is to be delivered is delivered, and called, in this one."""

    def __init__(self) -> None:
        pass

    def delivery(self, path: Path, tracking_uri: str, experiment: str) -> Delivery:
        return Delivery(path, tracking_uri, experiment)

    def begin(self, function: Callable[..., object], *arguments: object) -> None:
        function(*arguments)

    def close(self) -> None:
        pass


@pytest.fixture
def deliver_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have sweeps deliver in the test's process: it can be put in their way, and loads MLflow once for all tests."""
    monkeypatch.setattr("tracking.DeliveryProcess", DeliveryHere)


@pytest.fixture(scope="session")
def reference() -> dict[str, torch.Tensor]:
    """Return the values of the authors' released code (tests/reference/README.md) by name."""
    with np.load(REFERENCE, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


class Server:
    """`mlflow server` on loopback over one SQLite file, with artefacts in its own folder."""

    def __init__(self, folder: Path, database: Path) -> None:
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            self.port = held.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.database = database
        self.artifacts = folder / "artifacts"
        self.log = folder / "server.log"
        self._command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        self._command += ["--backend-store-uri", f"sqlite:///{database}", "--workers", "1"]
        self._command += ["--artifacts-destination", str(self.artifacts)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        while self._process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=300).close()
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def kill(self) -> None:
        """Kill it and its workers with -9."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture(scope="session")
def make_server() -> Iterator[Callable[[Path, Path], Server]]:
    """Give a function that makes a `Server`, not started, from its folder and its database."""
    servers = []

    def make(folder: Path, database: Path) -> Server:
        servers.append(Server(folder, database))
        return servers[-1]

    yield make
    for server in servers:
        server.kill()
