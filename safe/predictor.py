"""Predicting with a trained state: the two learners rebuilt from an inference state, and their aggregation.

On the evaluation images of a session a predictor gives the same logits as the trainer did.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from safe.backbones.loading import load_backbone, weights_digest
from safe.backbones.network_input import network_input
from safe.backbones.precision import autocast, resolve_precision
from safe.config import Config, settings_of, validate
from safe.config.reading import beside
from safe.data.images import read_square
from safe.data.sources import Dataset
from safe.data.transforms import network_view
from safe.errors import UserError
from safe.evaluation.aggregation import aggregate, entropy_weights
from safe.evaluation.logits import SessionLogits
from safe.evaluation.metrics import LEARNERS
from safe.states.inference import load_inference_state
from safe.training.build import build_stream, resolve_device, restored_learners
from safe.training.session_end import session_logits

_NEEDED = ("version", "config", "session", "classes", "projection_seed", "image_side", "learners", "weights_digest")
_FIXED_WEIGHTS = {"mean": (0.5, 0.5), "slow": (1.0, 0.0), "fast": (0.0, 1.0)}


@dataclass(frozen=True)
class Prediction:
    """What is predicted for B images among C classes; tensors are float32 on the CPU.

    Attributes:
        classes: names of the C classes, in the order of the columns.
        logits: aggregated scaled logits (B, C).
        probabilities: softmax of `logits` (B, C), in [0, 1].
        slow, fast: probabilities of each learner alone (B, C).
        slow_weight, fast_weight: weight of each learner in the aggregate (B,), summing to 1; `None` where it has none
            (`aggregation.kind=max` takes the larger logit class by class).
    """

    classes: tuple[str, ...]
    logits: Tensor
    probabilities: Tensor
    slow: Tensor
    fast: Tensor
    slow_weight: Tensor | None
    fast_weight: Tensor | None

    @property
    def labels(self) -> list[str]:
        """The most probable class of every image."""
        return [self.classes[c] for c in self.probabilities.argmax(dim=1).tolist()]

    def top(self, count: int) -> list[list[tuple[str, float]]]:
        """Return the `count` most probable classes (all, if there are fewer) of every image with their probability."""
        best = self.probabilities.topk(min(count, len(self.classes)), dim=1)
        return [
            [(self.classes[c], p) for c, p in zip(columns, values, strict=True)]
            for columns, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]


class Predictor:
    """A trained state, ready to predict; see `load_predictor`.

    Attributes:
        config: the configuration that the state was trained with.
        classes: names of the classes seen so far, in order of arrival.
        session: sessions that were finished, from 1.
        seen: what the network is given.
        file_side: side in pixels at which image files are read.
        scales: factor of each learner's scores before the softmax, by learner.
        data_digest: of the data that the state was trained on.
    """

    def __init__(self, state: dict[str, Any], config: Config, vit: VisionTransformer, device: torch.device) -> None:
        self.config, self.device = config, device
        self.classes: tuple[str, ...] = tuple(state["classes"])
        self.session: int = state["session"]
        self.data_digest: str = state["data_digest"]
        slow, fast = (state["learners"][name] for name in ("slow", "fast"))
        self.scales: dict[str, float] = {"slow": slow["scale"], "fast": fast["scale"]}
        self._precision = resolve_precision(config.runtime.precision, device)
        chosen = config.backbone
        self.seen = network_input(vit, chosen.image_size, chosen.input_norm, chosen.crop_pct)
        self.file_side: int = state["image_side"]
        # Settings that derive from others are what they were: states outlive the derivation.
        head = config.head.model_copy(update={"projection_seed": state["projection_seed"]})
        own = config.model_copy(update={"head": head})
        self._learners = restored_learners(own, vit, slow, fast, device)
        self._beside = {name: beside(own, name) for name in LEARNERS}

    def predict(self, images: Tensor | Sequence[str | Path]) -> Prediction:
        """Return the predictions for a batch of images or for image files.

        Args:
            images: uint8 (B, 3, H, W) of any size, which the plain view brings to the network's, or paths of files,
                prepared as the files of a data set are.

        Raises:
            UserError: an image file that cannot be read.
            ValueError: a tensor that is not uint8 (B, 3, H, W).
        """
        slow, fast = self.scores(self._batches(images))
        z_slow, z_fast = slow * self.scales["slow"], fast * self.scales["fast"]
        kind, temperature = self.config.aggregation.kind, self.config.aggregation.temperature
        logits = aggregate(z_slow, z_fast, kind, temperature)
        weights: tuple[Tensor | None, Tensor | None] = (None, None)
        if kind == "entropy":
            weights = entropy_weights(z_slow, z_fast, temperature)
        elif kind in _FIXED_WEIGHTS:
            w_slow, w_fast = _FIXED_WEIGHTS[kind]
            weights = torch.full((len(logits),), w_slow), torch.full((len(logits),), w_fast)
        return Prediction(
            self.classes, logits, logits.softmax(dim=1), z_slow.softmax(dim=1), z_fast.softmax(dim=1), *weights
        )

    def read(self, image: str | Path | BinaryIO) -> Tensor:
        """Return an image file, named or opened, as uint8 (3, S, S), as the files of a data set are read.

        Raises:
            UserError: names a file that cannot be read, and why.
        """
        return read_square(image, self.file_side, self.seen.resize.interpolation)

    @torch.no_grad()
    def scores(self, batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the slow and the fast learner's scores (N, C), not yet scaled, of batches of uint8 (B, 3, H, W)."""
        slow, fast = self._learners
        nets: dict[str, torch.nn.Module] = {"slow": slow.net}
        if fast.net is not slow.net:
            nets["fast"] = fast.net
        if "ptm" in self._beside.values():
            nets["ptm"] = slow.net.base
        features: dict[str, list[Tensor]] = {name: [] for name in nets}
        for batch in batches:
            view = network_view(batch.to(self.device), self.seen)
            with autocast(self.device, self._precision):
                for name, net in nets.items():
                    features[name].append(net(view).float())
        if not features["slow"]:
            return torch.empty(0, len(self.classes)), torch.empty(0, len(self.classes))
        whole = {name: torch.cat(parts) for name, parts in features.items()}
        whole.setdefault("fast", whole["slow"])
        read = {
            name: whole[name] if front is None else torch.cat([whole[front], whole[name]], dim=1)
            for name, front in self._beside.items()
        }
        return slow.logits(read["slow"]).cpu(), fast.logits(read["fast"]).cpu()

    def judge(self, dataset: Dataset) -> SessionLogits:
        """Return both learners' scores of the images that judge the sessions so far, as the trainer had them.

        Args:
            dataset: cut into sessions as in training; `data.evaluate_on` says which of its images judge.

        Raises:
            UserError: the classes of its sessions so far are not those of the state.
        """
        stream = build_stream(self.config, dataset)
        sessions = stream.sessions[: self.session]
        classes = tuple(dataset.classes[c] for c in stream.order[: sessions[-1].seen])
        if classes != self.classes:
            other = next((f"{a!r} is {b!r}" for a, b in zip(self.classes, classes, strict=False) if a != b), "")
            raise UserError(
                f"{dataset.name} has other classes than the checkpoint: {len(classes)} in {len(sessions)} sessions, "
                f"not {len(self.classes)} in {self.session}{other and f'; {other}'}"
            )
        size = self.config.runtime.eval_batch_size
        subsets = [session.evaluation for session in sessions]
        slow, fast = self.scores(
            subset.read(chosen) for subset in subsets for chosen in torch.arange(len(subset)).split(size)
        )
        return session_logits({"slow": slow, "fast": fast}, self.scales, sessions)

    def _batches(self, images: Tensor | Sequence[str | Path]) -> Iterator[Tensor]:
        size = self.config.runtime.eval_batch_size
        if isinstance(images, Tensor):
            if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
                raise ValueError(f"images must be uint8 (B, 3, H, W), got {images.dtype} {tuple(images.shape)}")
            yield from (batch for batch in images.split(size) if len(batch))
        else:
            for start in range(0, len(images), size):
                yield torch.stack([self.read(path) for path in images[start : start + size]])


def load_predictor(
    path: str | Path,
    *,
    device: str = "auto",
    weights: str | None = None,
    backbone: VisionTransformer | None = None,
) -> Predictor:
    """Return the predictor of an inference state, one file or with parts beside it (`safe.states.inference`).

    Args:
        path: the file.
        device: `auto`, `cpu`, `cuda` or `cuda:N`; with `runtime.precision=auto` a GPU predicts in bf16.
        weights: local file of the backbone's weights, where it lies elsewhere than in training.
        backbone: the pre-trained network itself, instead of loading it; it is never changed.

    Raises:
        UserError: not an inference state, a newer one, or backbone weights other than those it was trained on.
    """
    state = load_inference_state(path)
    lacking = [name for name in _NEEDED if name not in state]
    if lacking:
        raise UserError(
            f"{path} is not an inference state (it lacks {', '.join(lacking)}); "
            "python -m safe train --save FILE writes one"
        )
    config = validate(settings_of(state))
    where = resolve_device(device)
    name, file, size = config.backbone.name, weights or config.backbone.weights, config.backbone.image_size
    vit = backbone or load_backbone(name, file, image_size=size, folder=config.data.root)
    if (digest := weights_digest(vit)) != state["weights_digest"]:
        raise UserError(
            f"{path} was trained on other weights of {config.backbone.name} than are loaded now (digest "
            f"{state['weights_digest'][:12]}, not {digest[:12]}); give the file that holds them (--weights)"
        )
    return Predictor(state, config, vit, where)
