"""Examining one node of a cluster, on the node itself: this only reports, and nothing is decided here."""

from __future__ import annotations

import hashlib
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from safe.config import Config
from safe.errors import UserError


@dataclass(frozen=True)
class Wants:
    """What every node is asked to have; paths are absolute."""

    results: str
    dataset: str
    data_root: str
    backbone: str
    weights: str | None
    device: str
    tracking_uri: str

    @classmethod
    def of(cls, config: Config, results: Path, tracking_uri: str) -> Wants:
        """Return what the runs of one configuration need."""
        root, weights = str(Path(config.data.root).absolute()), config.backbone.weights
        names = config.backbone.name, weights, config.runtime.device
        return cls(str(results.absolute()), config.dataset, root, *names, tracking_uri)


@dataclass(frozen=True)
class Node:
    """A node: what it is called, and whether runs may be placed on it."""

    name: str
    runs: bool = True


@dataclass
class Report:
    """What was seen on one node; an error stands in `errors` under the name of its check.

    Attributes:
        versions: of Python, the packages and our own code.
        facts: data and weights digests; bytes free on the storage; bytes of /dev/shm (absent where there is none).
        gpus: names of the GPUs that torch can use.
        seen: nonces of all nodes found on the storage.
        skew: seconds by which the clock is certainly off from the driver's.
    """

    node: Node
    versions: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    gpus: list[str] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    skew: float = 0.0


class Nodes(Protocol):
    """The nodes to look at; the first is the driver's."""

    @property
    def nodes(self) -> Sequence[Node]:
        """All nodes that are alive."""
        ...

    def call(self, node: Node, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a function on a node and return what it gives; raises what the function or the way there raised."""
        ...


class ThisMachine:
    """The nodes of a sweep without a cluster."""

    nodes: Sequence[Node] = (Node("this machine"),)

    def call(self, node: Node, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run it here."""
        return function(*arguments)


def examine(wants: Wants, folder: str, name: str) -> dict[str, Any]:
    """Look at this node; leaves a file with the node's name in `folder` and a deleted run in MLflow."""
    from tracking.environment import environment_tags

    tags = environment_tags()
    versions = {key.removeprefix("version."): tags[key] for key in tags if key.startswith("version.")}
    versions["this project's code"] = code_digest(Path(__file__).resolve().parents[2])
    facts: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for check, look in (
        ("storage", lambda: _storage(Path(folder), name)),
        ("data", lambda: _data(wants)),
        ("weights", lambda: _weights(wants)),
        ("mlflow", lambda: _mlflow(wants)),
    ):
        try:
            facts |= look()
        except Exception as error:  # a broken node is what is looked for: it is reported, not raised
            first = next(iter(str(error).strip().splitlines()), "")
            errors[check] = first if isinstance(error, UserError) else f"{type(error).__name__}: {first}"
    with suppress(OSError):  # not a Linux: Ray uses a temporary folder there
        facts["shared memory"] = shutil.disk_usage("/dev/shm").total
    return {"versions": versions, "facts": facts, "gpus": _gpus(), "errors": errors}


def look_again(folder: str) -> tuple[list[str], float]:
    """Return the names of the nodes that have written to `folder`, as this node sees it, and its clock."""
    try:
        return sorted(path.read_text("utf-8") for path in Path(folder).iterdir()), time.time()
    except OSError:
        return [], time.time()


def code_digest(root: Path) -> str:
    """Return a digest of the source files of our packages: equal digests, equal code."""
    digest = hashlib.sha256()
    for path in sorted(path for package in ("safe", "sweeps", "tracking") for path in (root / package).rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _storage(folder: Path, name: str) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / uuid.uuid4().hex).write_text(name, "utf-8")
    return {"free": shutil.disk_usage(folder).free}


def _data(wants: Wants) -> dict[str, Any]:
    from safe.data.loading import read_dataset
    from safe.datasets.facts import require_dataset

    info = require_dataset(wants.dataset, wants.data_root)
    return {"data": read_dataset(info, wants.data_root, image_size=224).digest}


def _weights(wants: Wants) -> dict[str, Any]:
    from safe.backbones.loading import load_backbone, weights_digest

    return {"weights": weights_digest(load_backbone(wants.backbone, wants.weights, folder=wants.data_root))}


def _gpus() -> list[str]:
    import torch

    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _mlflow(wants: Wants) -> dict[str, Any]:
    """Make a run with a metric and, on a server, a file in MLflow's default experiment and delete it again."""
    from tracking.mlflow_backend import connect, sqlite_path

    path = sqlite_path(wants.tracking_uri)
    if path is not None and not path.exists():
        return {"mlflow": f"{path} does not exist yet; the first sweep makes it"}
    client = connect(wants.tracking_uri)
    run = client.create_run("0", run_name="doctor").info.run_id
    try:
        client.log_metric(run, "doctor", 1.0)
        if path is None:  # beside a file of ours they are copied within this machine
            client.log_text(run, "a test of the way to the artefacts", "doctor.txt")
    finally:
        client.delete_run(run)
    return {"mlflow": "a test run was logged and deleted"}
