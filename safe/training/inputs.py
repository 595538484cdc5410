"""What a run is given: its images as a stream of sessions, the frozen network, and where it computes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer

from safe.backbones.loading import load_backbone, weights_digest
from safe.backbones.network_input import network_input
from safe.backbones.precision import resolve_precision
from safe.config import Config, settings_of
from safe.data.loading import load_dataset
from safe.data.sources import Dataset
from safe.errors import UserError
from safe.sharing.stages import StageKeys
from safe.states.continuing import require_same_inputs, require_same_settings
from safe.training.build import build_stream, frozen_backbone, network_in_words, resolve_device
from safe.training.memory import require_memory, room_here, stream_sizes


class RunInputs:
    """Loads what a configuration names, and knows it by what it holds.

    Args:
        config: the run. `runtime.threads` above 0 sets torch's thread count for the process.
        dataset: images to use instead of loading `config.dataset`.
        backbone: frozen ViT to use instead of loading `config.backbone`; it is never changed.

    Raises:
        UserError: data, weights or device are not to be had, or the run needs more memory than there is.

    Attributes:
        precision: of the networks' forward passes, `float32` or `bf16`.
        seen: what the network is given.
    """

    def __init__(self, config: Config, dataset: Dataset | None, backbone: VisionTransformer | None) -> None:
        self.config = config
        if config.runtime.threads:
            torch.set_num_threads(config.runtime.threads)
        self.device = resolve_device(config.runtime.device)
        self.precision = resolve_precision(config.runtime.precision, self.device)
        chosen, root = config.backbone, config.data.root
        vit = backbone or load_backbone(chosen.name, chosen.weights, image_size=chosen.image_size, folder=root)
        self.seen = network_input(vit, chosen.image_size, chosen.input_norm, chosen.crop_pct)
        self.backbone = frozen_backbone(vit, self.device)
        self.dataset = dataset or load_dataset(config.dataset, root, self.seen.size, self.seen.resize)
        self.stream = build_stream(config, self.dataset)
        sizes = stream_sizes(vit, self.stream, len(self.dataset.classes))
        require_memory(config, sizes, self.device, room_here(self.device))

    @property
    def network(self) -> str:
        """What `network_in_words` says."""
        return network_in_words(self.config, self.backbone, self.device)

    @cached_property
    def stage_keys(self) -> StageKeys:
        """What names the stages of this run."""
        return StageKeys(
            self.config,
            self.stream,
            data=self.dataset.digest,
            weights=self._weights_digest,
            device=self.device,
            precision=self.precision,
        )

    @cached_property
    def image_side(self) -> int:
        """Side in pixels of the images as the data set hands them out, before the plain view."""
        return int(self.stream.sessions[0].train.read(torch.tensor([0])).shape[-1])

    @cached_property
    def _weights_digest(self) -> str:
        return weights_digest(self.backbone)

    def classes(self, session: int) -> list[str]:
        """Return the names of the classes seen up to a session (from 1), in order of arrival."""
        seen = self.stream.order[: self.stream.sessions[session - 1].seen]
        return [self.dataset.classes[c] for c in seen]

    def provenance(self) -> dict[str, str]:
        """Return what identifies the inputs: digests of data and weights, the order of the classes between commas."""
        order = ",".join(map(str, self.stream.order))
        return {"data_digest": self.dataset.digest, "weights_digest": self._weights_digest, "class_order": order}

    def identity(self) -> dict[str, Any]:
        """Return what a state has to have in common with the run that continues from it."""
        return {
            "config": self.config.model_dump_json(exclude={"runtime"}),
            # The settings of `runtime` that results depend on beyond rounding in another order.
            "computation": {"precision": self.precision, "micro_batch": self.config.runtime.micro_batch},
            "provenance": self.provenance(),
        }

    def require_same(self, state: Mapping[str, Any]) -> None:
        """Refuse a state whose `identity` is another; data may lie elsewhere, as long as they are the same.

        Raises:
            UserError: says what differs.
        """
        own = self.identity()
        require_same_settings(settings_of(state), self.config.flat())
        if (begun := state["computation"]) != own["computation"]:
            told = ", ".join(f"runtime.{name}={'null' if value is None else value}" for name, value in begun.items())
            raise UserError(f"the state was trained with {told}, which results depend on; continue it with the same")
        require_same_inputs(state["provenance"], own["provenance"])
