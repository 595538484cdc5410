"""The nodes of a Ray that runs already: how many runs they take, and reaching each of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safe.errors import UserError

if TYPE_CHECKING:
    from sweeps.doctor.examine import Node

WAIT_FOR_WORKERS_S = 180.0
NODE_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Size:
    """What a node can run: its CPUs and GPUs."""

    cpus: int
    gpus: int


def worker_sizes() -> list[Size]:
    """Return the sizes of the living nodes that take runs; needs a connection."""
    import ray

    alive = (node["Resources"] for node in ray.nodes() if node["Alive"])
    sizes = (Size(int(held.get("CPU", 0)), int(held.get("GPU", 0))) for held in alive)
    return [size for size in sizes if size.cpus > 0]


def wait_for_workers(
    expected: int,
    sizes: Callable[[], Sequence[Size]] = worker_sizes,
    timeout_s: float = WAIT_FOR_WORKERS_S,
    pause_s: float = 1.0,
) -> Sequence[Size]:
    """Wait until at least `expected` nodes take runs and return their sizes; `UserError` when that takes too long."""
    end = time.monotonic() + timeout_s
    while len(workers := sizes()) < expected:
        if time.monotonic() > end:
            raise UserError(
                f"{len(workers)} of {expected} workers are there after {timeout_s:.0f} s; look at their log "
                "(make cluster-logs), or ask for fewer (make cluster-up WORKERS=...)"
            )
        time.sleep(pause_s)
    return workers


def shape(sizes: Sequence[Size], threads: int = 0, gpus: bool = True) -> tuple[int, int]:
    """Return (runs at a time, threads of a run) that a cluster of these nodes takes.

    One run a GPU where there are some and they are wanted, each with its share of the node's CPUs; else one run a CPU.
    `threads` fixes the second number; a node with fewer CPUs than that takes no run.

    Raises:
        UserError: no node has as many CPUs as a run shall have threads.
    """
    on_gpus = [size for size in sizes if size.gpus] if gpus else []
    if on_gpus:
        threads = threads or max(1, min(size.cpus // size.gpus for size in on_gpus))
        runs = sum(min(size.gpus, size.cpus // threads) for size in on_gpus)
    else:
        threads = threads or 1
        runs = sum(size.cpus // threads for size in sizes)
    if not runs:
        most = max((size.cpus for size in sizes), default=0)
        raise UserError(
            f"runtime.threads={threads}, but no worker has more than {most} CPUs; lower it, or raise WORKER_CPUS"
        )
    return runs, threads


class RayNodes:
    """The nodes of the connected Ray, the driver's first; see `sweeps.doctor.examine.Nodes`."""

    def __init__(self) -> None:
        import ray

        from sweeps.doctor.examine import Node

        here = ray.get_runtime_context().get_node_id()
        alive = sorted((node for node in ray.nodes() if node["Alive"]), key=lambda node: node["NodeID"] != here)
        self._ids: dict[Node, str] = {}
        for node in alive:
            name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            self._ids[Node(name, runs=node["Resources"].get("CPU", 0) > 0)] = node["NodeID"]

    @property
    def nodes(self) -> Sequence[Node]:
        """All nodes that are alive."""
        return list(self._ids)

    def call(self, node: Node, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a function on one node, beside whatever runs there."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(self._ids[node], soft=False)
        task = ray.remote(function).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
        return ray.get(task.remote(*arguments), timeout=NODE_TIMEOUT_S)
