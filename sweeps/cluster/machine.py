"""Looking at this machine before a cluster is started on it: what is missing is named with its remedy, all at once."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safe.errors import UserError

Run = Callable[[Sequence[str]], tuple[int, str]]

LEAST_ENGINE = (20, 10)
LEAST_COMPOSE = (2, 21)
GIB = 2**30
# Measured (docs/cluster.md): the image with CUDA's libraries and what building it needs; later builds take a layer.
IMAGE_BYTES, LAYER_BYTES = 20 * GIB, 2 * GIB
# Measured: head with a sweep's driver, MLflow and PostgreSQL; and a worker with one run of a small stream.
SERVICES_BYTES, WORKER_BYTES = 2 * GIB, GIB


@dataclass(frozen=True)
class Machine:
    """What the engine tells: bytes of memory, the folder of its images (None: on another machine), GPUs possible."""

    memory: int
    folder: Path | None
    gpus: bool


def run_command(words: Sequence[str]) -> tuple[int, str]:
    """Run a command quietly and return its exit code (127: there is no such command) and its output."""
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except FileNotFoundError:
        return 127, f"{words[0]}: not found"
    return done.returncode, done.stdout if done.returncode == 0 else done.stderr or done.stdout


def look(run: Run = run_command) -> Machine:
    """Return what the engine tells about its machine.

    Raises:
        UserError: no engine, none that answers, or an engine or compose that is too old.
    """
    code, text = run(["docker", "info", "--format", "{{json .}}"])
    if code == 127:
        raise UserError(
            "docker is not installed; install Docker Engine with its compose plugin: https://docs.docker.com/engine/install"
        )
    info = json.loads(text) if code == 0 else {}
    if not info.get("ServerVersion"):
        reason = next(iter(info.get("ServerErrors") or []), text if code else "").strip().splitlines()
        first = reason[-1] if reason else "no answer"
        if "permission denied" in first.lower():
            remedy = "let your account use it (sudo usermod -aG docker $USER, then log in again)"
        else:
            remedy = "start it (sudo systemctl start docker, or Docker Desktop)"
        raise UserError(f"the Docker engine does not answer: {first}; {remedy}")
    _at_least("Docker Engine", info["ServerVersion"], LEAST_ENGINE)
    code, text = run(["docker", "compose", "version", "--short"])
    if code:
        raise UserError(
            "docker has no compose plugin (`docker compose`); install it: https://docs.docker.com/compose/install"
        )
    _at_least("docker compose", text.strip(), LEAST_COMPOSE)
    code, _ = run(["docker", "buildx", "version"])
    if code:
        raise UserError(
            "docker has no buildx plugin, which builds the image; install it: https://docs.docker.com/build/install-buildx"
        )
    folder = Path(info.get("DockerRootDir") or "/var/lib/docker")
    here = info.get("Name") == socket.gethostname() and folder.exists()
    gpus = "nvidia" in info.get("Runtimes", {}) or bool(info.get("CDISpecDirs"))
    return Machine(int(info.get("MemTotal", 0)), folder if here else None, gpus)


def problems(
    machine: Machine,
    *,
    workers: int,
    has_image: bool,
    gpu: bool,
    ports: Mapping[str, int],
    free_disk: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
    port_free: Callable[[int], bool] | None = None,
) -> list[str]:
    """Return in sentences what keeps a cluster from starting on a machine.

    Args:
        workers: how many there shall be.
        has_image: whether the image is there already.
        gpu: whether workers shall have GPUs.
        ports: the ports of 127.0.0.1 that will be needed, by the variable that sets them.
    """
    wrong = []
    need = SERVICES_BYTES + workers * WORKER_BYTES
    if machine.memory < need:
        wrong.append(
            f"{workers} workers and the services need about {need / GIB:.0f} GiB of memory, the engine has "
            f"{machine.memory / GIB:.1f}; take fewer workers (WORKERS=1) or give the engine more"
        )
    if machine.folder is not None:
        need, free = LAYER_BYTES if has_image else IMAGE_BYTES, free_disk(machine.folder)
        if free < need:
            wrong.append(
                f"the image needs about {need / GIB:.0f} GiB under {machine.folder}, which has {free / GIB:.1f} GiB "
                "free; make room (docker system prune), or take a CPU-only torch (PIP_ARGS, see docker/.env.example)"
            )
    if gpu and not machine.gpus:
        wrong.append(
            "GPU=1, but the engine has no NVIDIA runtime; install the NVIDIA container toolkit "
            "(https://docs.nvidia.com/datacenter/cloud-native/container-toolkit), or leave GPU=1 out"
        )
    for variable, port in ports.items():
        if not (port_free or is_free)(port):
            wrong.append(f"port {port} of 127.0.0.1 is taken by another program; choose another: {variable}={port + 1}")
    return wrong


def is_free(port: int) -> bool:
    """Whether nothing listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _at_least(what: str, version: str, least: tuple[int, int]) -> None:
    numbers = re.match(r"v?(\d+)\.(\d+)", version)
    if numbers is None or tuple(map(int, numbers.groups())) < least:
        raise UserError(
            f"{what} {version or 'of unknown version'} is too old; {'.'.join(map(str, least))} or newer is needed"
        )
