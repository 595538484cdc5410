"""What every named set of runs has, whatever it is for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from safe.config.described import of_role
from safe.config.marks import Role
from sweeps.spec.marks import Group, Mark, Option, marked

Checkpoints = Literal["best", "all", "last", "none"]

# What data hold is compared instead (`sweeps.ledger.data`).
PLACES = of_role(Role.PLACE)
NOT_COMPARED = (Mark.GROWS, Mark.MORE, Mark.MANNER, Mark.SETTLED, Mark.WHERE)  # or not field by field
MOST = 2**31 - 1
DEFAULT_SEEDS = 3


class RunsSpec(BaseModel):
    """What every named set of runs has: where it starts from and how it is run."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    name: Annotated[str, Option(Group.LIMITS, "name of the sweep", "data set and time")]
    """Names the folder, the parent run and every later call."""
    dataset: Annotated[str, Mark.WHERE]
    """Canonical name of the data set."""
    seeds: Annotated[
        int, Field(ge=1, le=1_000), Mark.GROWS, Option(Group.LIMITS, default=f"{DEFAULT_SEEDS}", extends=True)
    ]
    """Final runs of one configuration on all training images; seed and class order both change."""
    base: Annotated[dict[str, Any], Mark.WHERE]
    """Preset and overrides under dotted names: what every run starts from."""
    threads: Annotated[int, Field(ge=1)]
    """CPU threads of a run; part of the results, which are equal for equal thread counts."""
    concurrency: Annotated[
        int, Field(ge=1, le=1_000), Mark.MANNER, Option(Group.MACHINE, default="one per GPU, else per core")
    ]
    """Runs at the same time; no result depends on it once `threads` is set."""
    retries: Annotated[int, Field(ge=0, le=MOST), Mark.MANNER, Option(Group.MACHINE)] = 1
    """How often a failed run is tried again from its last checkpoint."""
    trial_timeout: Annotated[float | None, Field(gt=0), Mark.MANNER, Option(Group.MACHINE, default="none")] = None
    """Seconds without a sign of life after which a run counts as failed; empty waits for ever."""
    gpus_per_trial: Annotated[
        float | Literal["auto"] | None, Mark.MANNER, Option(Group.MACHINE, default="1", kind=str)
    ] = None
    """Share of a GPU that a run takes, or `auto`, which measures how many fit; empty gives every run one."""
    stages: Annotated[bool, Mark.MANNER, Option(Group.MACHINE, "share no work between runs")] = True
    """Whether runs share the work they have in common."""
    fresh: Annotated[bool, Mark.MANNER, Option(Group.MACHINE, "share no work with earlier sweeps")] = False
    """Whether the runs share among themselves only and take nothing from earlier sweeps."""
    stage_limit_gb: Annotated[float, Field(gt=0), Mark.MANNER, Option(Group.MACHINE, default="20")] = 20.0
    """Disk that the shared work may take, in GB (10^9 bytes)."""
    checkpoints: Annotated[Checkpoints, Mark.MANNER, Option(Group.MACHINE)] = "best"
    """Inference states that are kept, and become models in MLflow; see `sweeps.worker.artifacts.keep_session`."""
    system_metrics: Annotated[
        bool, Mark.MANNER, Option(Group.MACHINE, "record how busy CPU, memory and GPUs were, once a session")
    ] = False
    """Whether every session records how busy the machine was: CPU, memory, GPUs."""

    imports: list[str] = Field(default_factory=list)
    """Modules of a user's own, imported before anything is trained: they bring data sets, PET, heads, backbones."""

    def comparable(self) -> dict[str, Any]:
        """Return what must stay equal under one name, one entry per setting."""
        own = self.model_dump(mode="json", exclude={"name", *marked(type(self), *NOT_COMPARED)})
        if not self.imports:
            del own["imports"]  # as it was before there were any
        return own | without_places(self.base)

    def places(self) -> dict[str, Any]:
        """Return where the data lie, by setting."""
        return {name: self.base[name] for name in PLACES}

    def digest(self) -> str:
        """Return a digest of what defines the results."""
        return hashlib.sha256(json.dumps(self.comparable(), sort_keys=True).encode()).hexdigest()[:16]


def without_places(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in PLACES}
