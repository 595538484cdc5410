"""Finished pieces of work that several runs share: what each depends on, and how a run asks for one.

A stage is one of

- `slow`: the slow learner after the gradient steps of session 1; `fast`: the fast one after those of a later session
  and the slow head's rows of that session's classes; both with the losses of every epoch;
- `features`: un-augmented features of one session's images;
- `readout`: what a learner classifies with after a session, closed form solved;
- `logits`: a learner's scores of all images that judge it after a session;
- `views`: features of one epoch's augmented training images, in the order of its batches, by the network that is frozen
  in that session: the pre-trained one in session 1, the slow learner's later. No run waits for another's views.

Its key is the digest of everything it depends on and of nothing else, so whoever computes it gets the same bits.
Where stages are kept is not known here: a `StageStore` gives and takes them.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any, Protocol

import torch

from safe.config import Config
from safe.config.described import acting, acts
from safe.config.marks import Acts
from safe.config.reading import beside, shares_statistics
from safe.data.stream import Session, Stream, Subset
from safe.heads import head_settings, is_closed_form
from safe.heads.registry import head_maker
from safe.io.sources import own_code_digest
from safe.pet.registry import settings_of, wiring
from safe.sharing.numerics import numerics_digest

FROM_THE_START = (Acts.SESSION_1, Acts.TUNING)
FROZEN = (*(name for name in acting(Acts.SESSION_1) if name.startswith("backbone.")), "runtime.deterministic")
KINDS = ("slow", "fast", "features", "readout", "logits", "views")


@dataclass(frozen=True)
class Stage:
    """A finished stage: tensors, numbers, strings, lists and dicts, and the seconds that it had cost."""

    value: dict[str, Any]
    seconds: float


class Claim(Protocol):
    """The answer to a request: the finished stage, or the right (and duty) to compute it.

    Attributes:
        stage: the finished stage, `None` where it has to be computed; others then wait until `put` or `release`.
        waited: seconds spent waiting for another run that was computing it.
    """

    stage: Stage | None
    waited: float

    def put(self, value: dict[str, Any], seconds: float) -> None:
        """Hand in the computed stage and release it. A store that cannot keep it says so and goes on."""

    def release(self) -> None:
        """Give the stage up, so that another may compute it; nothing happens if it is not held."""


class StageStore(Protocol):
    """Keeps finished stages under kind and key."""

    def claim(self, kind: str, key: str) -> Claim:
        """Return the finished stage, waiting for it while another run computes it, or the claim to compute it."""

    def try_claim(self, kind: str, key: str, size: int) -> Claim | None:
        """Return as `claim` does, but at once: `None` while another run computes the stage.

        Also where a stage of `size` bytes is too big to be kept, which is told before it is computed.
        """


def sharing_key(config: Config, session: int) -> str:
    """Return what tells the gradient steps of a session (from 1) apart on one machine and version of the code.

    For counting before anything is read: data and sessions are told apart by their settings, not by their images.
    """
    flat = config.flat()
    fast = _trains_fast(config, session)
    settings = _settings(config, {*FROM_THE_START, Acts.SESSION_2} if fast else FROM_THE_START)
    return _digest([session if fast else 1, settings, {name: flat[name] for name in acting(Acts.FACTS)}])


def frozen_key(config: Config) -> str:
    """Return what tells the frozen network's features apart, likewise."""
    flat = config.flat()
    return _digest([_settings(config, {Acts.EXTRACTION}, FROZEN), {name: flat[name] for name in acting(Acts.FACTS)}])


class StageKeys:
    """The keys of one run's stages.

    Args:
        data, weights: digests of the data set and the backbone's weights.
        device: where the run computes; its kind and model count.
        precision: of the networks' forward passes, resolved.
    """

    def __init__(
        self, config: Config, stream: Stream, *, data: str, weights: str, device: torch.device, precision: str
    ) -> None:
        self.config, self.stream = config, stream
        self._facts = {
            "code": [numerics_digest(), *map(own_code_digest, (wiring(config.pet.kind), head_maker(config.head.kind)))],
            "data": data,
            "weights": weights,
            "precision": precision,
            "device": _device_name(device),
            "threads": torch.get_num_threads(),
            "matmul": torch.get_float32_matmul_precision(),
            "versions": [version(package) for package in ("torch", "torchvision", "timm", "pillow")],
        }

    def __call__(
        self,
        kind: str,
        *,
        learner: str,
        session: int,
        split: str = "train",
        group: int | None = None,
        epoch: int | None = None,
    ) -> str:
        """Return the key of a stage.

        Args:
            kind: one of `KINDS`.
            learner: `slow` or `fast`. The two have the same keys in session 1, and in every session where the fast one
                has no epochs. For views it is the network that is frozen: `ptm` or `slow`;
                features may be the `ptm`'s too.
            session: number of the last session that the learner has been through; for views, of the one that draws
                them.
            split: for features, `train` or `evaluation`.
            group: for features, the session that brought the images; `None` for all images that judge after `session`.
            epoch: for views, counted from 0.
        """
        if kind == "views":
            return self._views(learner, session, epoch)
        if learner == "ptm":
            facts = {**self._facts, "images": self._images(split, [group or session])}
            points = {Acts.EXTRACTION, *([Acts.EVALUATION] if split == "evaluation" else [])}
            return _digest([kind, learner, facts, _settings(self.config, points, FROZEN)])
        fast = learner == "fast" and _trains_fast(self.config, session)
        points, also = {*FROM_THE_START, *([Acts.SESSION_2] if fast else [])}, []
        facts = dict(self._facts)
        if fast or kind != "slow":
            points.add(Acts.EXTRACTION)
        if kind in ("readout", "logits"):
            points.add(Acts.HEADS)
            if (front := beside(self.config, learner)) is not None:
                facts["beside"] = front
            if shares_statistics(self.config) and _trains_fast(self.config, session):
                points.add(Acts.SESSION_2)
                facts["statistics"] = "shared"
            if session > 1 and not is_closed_form(self.config.head.kind):
                also.append("fast.slow_rows")  # the rows that predict new classes of a learner that never trains them
        if kind == "logits" or (kind == "features" and split == "evaluation"):
            points.add(Acts.EVALUATION)
            judged = [other.index for other in self.stream.judged(session)]
            facts["images"] = self._images("evaluation", judged if group is None else [group])
        elif kind == "features":
            facts["images"] = self._images(split, [group or session])
        # The frozen slow learner has been through the gradient steps of session 1 alone, whatever it has read since.
        trained = session if fast or kind in ("readout", "logits") else 1
        facts["trained"] = self._images("train", range(1, trained + 1))
        return _digest([kind, "fast" if fast else "slow", facts, _settings(self.config, points, also)])

    def _views(self, network: str, session: int, epoch: int | None) -> str:
        facts = {**self._facts, "session": session, "epoch": epoch, "images": self._images("train", [session])}
        if network == "ptm":
            settings = _settings(self.config, {Acts.SESSION_1})
        else:
            facts["trained"] = self._images("train", [1])
            settings = _settings(self.config, FROM_THE_START, ("fast.batch_size",))
        return _digest(["views", network, facts, settings])

    def _images(self, split: str, sessions: Iterable[int]) -> list[str]:
        return [self._digests[split][session - 1] for session in sessions]

    @cached_property
    def _digests(self) -> dict[str, list[str]]:
        sessions = self.stream.sessions
        return {
            "train": [_subset_digest(session, session.train) for session in sessions],
            "evaluation": [_subset_digest(session, session.evaluation) for session in sessions],
        }


def _trains_fast(config: Config, session: int) -> bool:
    """Whether a session has gradient steps of the fast learner, which is the slow one otherwise."""
    return session > 1 and config.fast.epochs > 0


def _settings(config: Config, points: Collection[Acts], also: Collection[str] = ()) -> dict[str, Any]:
    """Return the settings that act from some points on and some more by name, without those that change nothing."""
    unused = _unused(config)
    return {
        name: value
        for name, value in config.flat().items()
        if name not in unused and (name in also or acts(name) in points)
    }


def _unused(config: Config) -> set[str]:
    """Return the settings that other settings put out of action."""
    flat = config.flat()
    own = {f"pet.{name}" for name in settings_of(config.pet.kind)}
    unused = {name for name in flat if name.startswith("pet.") and name != "pet.kind"} - own
    if config.slow.epochs == 0:
        unused |= {name for name in flat if name.startswith("slow.") and name != "slow.epochs"}
    own = {f"head.{name}" for name in ("kind", *head_settings(config.head.kind))}
    return unused | ({*acting(Acts.HEADS)} - own)


def _device_name(device: torch.device) -> list[str | None]:
    """Return the kind and model of a device: others round differently."""
    if device.type == "cuda":
        return ["cuda", torch.cuda.get_device_name(device), torch.version.cuda]
    return [device.type, platform.machine(), torch.backends.cpu.get_cpu_capability()]


def _subset_digest(session: Session, subset: Subset) -> str:
    digest = hashlib.sha256(f"{session.known} {session.seen}\n".encode())
    for tensor in (subset.index, subset.labels):
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
