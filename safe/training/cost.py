"""What a run takes of a machine's arithmetic, reckoned before any image is read and without any weights.

    gradient steps   one forward and backward pass of a network with PET, and a forward pass of the frozen network
                     where a transfer loss looks at its features
    session's end    a forward pass for every image that a closed-form head learns from or is judged on, and the head

A network's operations are counted by PyTorch itself on a network without memory (`torch.utils.flop_counter`): matrix
products, convolutions and attention; a multiplication and an addition count as two.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from safe.backbones.loading import skeleton
from safe.backbones.network_input import network_input
from safe.config import Config
from safe.config.reading import beside
from safe.config.settings import PetConfig
from safe.data.sessions import expected_sessions, image_counts
from safe.datasets.facts import dataset_info
from safe.evaluation.metrics import LEARNERS
from safe.heads.base import FLOAT
from safe.learners.fast import FAST_WEIGHTS
from safe.learners.slow import SLOW_WEIGHTS
from safe.training.build import build_learner, closed_form_head, frozen_backbone
from safe.training.memory import expected_sizes, needs, resume_bytes


@dataclass(frozen=True)
class Passes:
    """Floating point operations of one image: through the frozen network, through one with PET, there and back.

    Attributes:
        width: D of the features.
        parameters: that PET trains.
    """

    frozen: float
    tuned: float
    trained: float
    width: int
    parameters: int


@dataclass(frozen=True)
class SessionCost:
    """What one session of one run takes when nothing is shared.

    Attributes:
        steps: gradient steps.
        trained: images through a forward and a backward pass.
        frozen: images through a network without gradients while training: the frozen one, or to imprint new rows.
        slow_read, fast_read: images whose features the slow and the fast learner read at the end of the session; the
            fast one none while it is the slow one.
        beside_read: images whose features heads read of the frozen network, which is passed once for both.
        step_flops: floating point operations of the gradient steps.
        read_flops: of reading one image's features.
        beside_flops: of reading one image's features of the frozen network.
        slow_head_flops, fast_head_flops: of each learner's head; the fast one's 0 where it is the slow one's.
    """

    steps: int
    trained: int
    frozen: int
    slow_read: int
    fast_read: int
    beside_read: int
    step_flops: float
    read_flops: float
    beside_flops: float
    slow_head_flops: float
    fast_head_flops: float

    @property
    def read(self) -> int:
        """Images whose features are read at the end of the session, as often as they are."""
        return self.slow_read + self.fast_read + self.beside_read

    @property
    def closing(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Operations of the slow and of the fast learner's closing, each of its network and of its head.

        The slow one's are with those of the frozen network.
        """
        slow = self.slow_read * self.read_flops + self.beside_read * self.beside_flops
        return (slow, self.slow_head_flops), (self.fast_read * self.read_flops, self.fast_head_flops)

    @property
    def flops(self) -> float:
        """All of them together."""
        return self.step_flops + sum(map(sum, self.closing))


def counted_flops(config: Config) -> Passes:
    """Return the operations of one image through a configuration's network; `UserError` for a backbone that is none."""
    return _counted(config.backbone.name, config.backbone.image_size, config.pet)


@cache  # a plan asks for many configurations of one network
def _counted(name: str, image_size: int | None, pet: PetConfig) -> Passes:
    device = torch.device("meta")
    vit = skeleton(name, image_size)
    config = Config(pet=pet)
    net = build_learner(config, frozen_backbone(vit, device), 1, device).net
    image = torch.zeros(1, 3, *vit.patch_embed.img_size, device=device)

    def counted(net: torch.nn.Module, backward: bool) -> float:
        with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(backward):
            features = net(image)
            if features.requires_grad:
                features.sum().backward()
        return float(counter.get_total_flops())

    tuned = sum(parameter.numel() for parameter in net.pet_parameters().values())
    return Passes(counted(net.base, False), counted(net, False), counted(net, True), net.embed_dim, tuned)


def session_costs(config: Config) -> list[SessionCost]:
    """Return what each session of a run takes; see `expected_sessions` for what is taken of its data.

    Raises:
        UserError: backbone or data are unknown, or nothing is published of data that are not there.
    """
    one, costs, judged = counted_flops(config), [], 0
    heads = {name: closed_form_head(config, one.width, torch.device("meta"), name) for name in LEARNERS}
    domains = dataset_info(config.dataset).kind == "domains" and config.data.scenario == "auto"
    for index, session in enumerate(expected_sessions(config)):
        first = index == 0
        settings, names = (config.slow, SLOW_WEIGHTS) if first else (config.fast, FAST_WEIGHTS)
        trained = settings.epochs * session.train
        frozen = trained if any(getattr(settings, name) for name in names) else 0
        # New rows are imprinted by the fast learner; in session 2 it still is the slow one, whose features are at hand.
        imprints = index > 1 and trained > 0 and config.fast.new_rows == "imprint" and not domains
        imprinted = session.train if imprints else 0
        judged += session.judged
        # The frozen slow learner reads new images only; the fast one, once it is another, all that judge it.
        apart = not first and config.fast.epochs > 0
        solved = {
            name: 0.0 if head is None else head.flops(session.train, judged, session.classes)
            for name, head in heads.items()
        }
        fast_solves = apart or beside(config, "fast") != beside(config, "slow")
        costs.append(
            SessionCost(
                steps=settings.epochs * -(-session.train // settings.batch_size),
                trained=trained,
                frozen=frozen + imprinted,
                slow_read=session.train + session.judged,
                fast_read=session.train + judged if apart else 0,
                beside_read=session.train + session.judged if beside(config, "slow") == "ptm" else 0,
                step_flops=trained * one.trained
                + frozen * (one.frozen if first else one.tuned)
                + imprinted * one.tuned,
                read_flops=one.tuned,
                beside_flops=one.frozen,
                slow_head_flops=solved["slow"],
                fast_head_flops=solved["fast"] if fast_solves else 0.0,
            )
        )
    return costs


class RunBytes(NamedTuple):
    """What one run takes of memory and disk, in bytes.

    Attributes:
        memory: at its peak, on a GPU where it has one.
        resume: of what it is continued from; the newest two are kept while it runs.
        states: of all sessions' states that predict.
        pixels: of the data set's image files, decoded for reading features; all runs share them. 0 where it has none.
    """

    memory: float
    resume: float
    states: float
    pixels: float


def run_bytes(config: Config, device: torch.device) -> RunBytes:
    """Return what a run takes, before any image is read; `UserError` as `session_costs`."""
    chosen = config.backbone
    vit, one = skeleton(chosen.name, chosen.image_size), counted_flops(config)
    sizes = expected_sizes(vit, config)
    needed = needs(config, sizes, device)
    heads = [closed_form_head(config, sizes.width, torch.device("meta"), name) for name in LEARNERS]
    states = 0.0
    for session in expected_sessions(config):
        rows = FLOAT * sizes.width * session.classes
        readouts = sum(rows if head is None else head.readout_bytes(session.classes) for head in heads)
        states += len(heads) * FLOAT * one.parameters + readouts
    files = dataset_info(config.dataset).kind in ("folder", "domains")
    resize = network_input(vit, chosen.image_size, chosen.input_norm, chosen.crop_pct).resize
    pixels = 3 * resize.side(sizes.side) ** 2 * sum(image_counts(config.dataset, config.data.root)) if files else 0
    return RunBytes(needed.gpu or needed.host, resume_bytes(config, sizes), states, pixels)
