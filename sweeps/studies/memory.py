"""Whether what a sweep or an ablation will run fits into memory, as many runs at a time as it has."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from contextlib import suppress
from functools import cache

from safe.config import Config, validate
from safe.config.described import of_role
from safe.config.marks import Role
from safe.errors import UserError
from sweeps.engine.packing import even_share
from sweeps.spec.machine import gpu_count, ray_address
from sweeps.spec.specs import Spec, SweepSpec

# They decide what other settings cost.
KINDS = ("backbone.name", "backbone.image_size", "pet.kind", "head.kind", "head.features", "head.covariance")


def largest_configs(spec: SweepSpec) -> list[Config]:
    """Return the configurations of a sweep that need the most memory: of every searched setting of size the largest
    value, with each of the kinds that are searched; on the data of the search and on those of the final runs."""
    space, configs = spec.parsed_space(), []
    ends = {name: domain.extremes() for name, domain in space.domains.items() if name in of_role(Role.SIZE)}
    largest = {name: max(values) for name, values in ends.items()}
    kinds = {name: space.domains[name].values for name in KINDS if name in space.domains}
    for start, values in itertools.product(filter(None, (spec.base, spec.target)), itertools.product(*kinds.values())):
        with suppress(UserError):  # no trial has this combination
            settings = space.settings({**largest, **dict(zip(kinds, values, strict=True))})
            configs.append(validate({**start, **settings}))
    return configs


def check_room(spec: Spec, configs: Iterable[Config]) -> None:
    """Refuse what does not fit into this machine's memory; of a cluster, every worker looks at its own.

    Raises:
        UserError: one of `configs` needs more than there is for each of the runs at a time; or data, backbone or
            device are not there.
    """
    if ray_address():
        return
    import torch

    from safe.backbones.loading import skeleton
    from safe.training.build import resolve_device
    from safe.training.memory import WORKER_BYTES, Room, expected_sizes, needs, require_memory
    from safe.training.resources import available_bytes

    device = resolve_device(spec.base["runtime.device"])
    host, gpu, runs = available_bytes(), None, spec.concurrency
    if device.type == "cuda":
        share = spec.gpus_per_trial or even_share(gpu_count(), runs)
        whole = min(torch.cuda.get_device_properties(i).total_memory for i in range(gpu_count()))
        gpu = whole * (share if isinstance(share, float) and share < 1 else 1.0)

    def room(runs: int) -> Room:
        each = "" if runs == 1 else f" for each of {runs} runs at a time"
        return Room(None if host is None else host / runs - WORKER_BYTES, gpu, each)

    network = cache(skeleton)  # most of the configurations have the same one
    for config in configs:
        sizes = expected_sizes(network(config.backbone.name, config.backbone.image_size), config)
        alone = host is not None and needs(config, sizes, device).host <= host - WORKER_BYTES
        require_memory(config, sizes, device, room(runs), "; or run one at a time: --concurrency 1" if alone else "")
