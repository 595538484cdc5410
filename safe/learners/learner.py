"""What the slow and the fast learner have in common: tuned network, gradient head, closed-form head."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from safe.backbones.precision import LoweredNet, Precision
from safe.errors import NonFiniteLossError
from safe.heads.base import ClosedFormHead
from safe.heads.cosine import CosineHead, cosines
from safe.pet import PetViT

RECENT = 20  # steps whose loss is told while an epoch goes on


@dataclass
class Learner:
    """One learner: `net` gives features, `head` is trained with it, `closed` classifies; without it `head` does."""

    net: PetViT
    head: CosineHead
    closed: ClosedFormHead | None

    def logits(self, features: Tensor) -> Tensor:
        """Return the scores (N, C) of features (N, D), not yet scaled: closed-form ones, or cosines to the head's rows.

        Cosines times the head's sigma are the logits that it was trained with.
        """
        return cosines(features, self.head.rows.detach()) if self.closed is None else self.closed.logits(features)

    def readout(self) -> dict[str, Tensor]:
        """Return what `logits` needs for predicting, besides the projection's seed."""
        return {"weight": self.head.rows.detach().clone()} if self.closed is None else self.closed.readout()

    def load_readout(self, readout: Mapping[str, Tensor]) -> None:
        """Predict with what `readout` gave; neither the statistics nor sigma are those behind it."""
        if self.closed is None:
            self.head = CosineHead(readout["weight"].to(self.head.rows.device))
        else:
            self.closed.load_readout(readout)

    def scale(self, setting: float | str) -> float:
        """Return the factor of this learner's scores before the softmax: its sigma, or its head's own, if `learned`."""
        if setting != "learned":
            return float(setting)
        own = None if self.closed is None else self.closed.own_scale
        return float(self.head.scale.detach()) if own is None else own

    def inference_state(self, setting: float | str) -> dict[str, Any]:
        """Return what predicting needs of it; `setting` as in `scale`."""
        return {"pet": self.net.pet_state(), "readout": self.readout(), "scale": self.scale(setting)}

    def copy(self) -> Learner:
        """Return an independent learner in the same state that shares the frozen backbone's memory."""
        closed = None if self.closed is None else self.closed.copy()
        return Learner(self.net.clone(), copy.deepcopy(self.head), closed)

    def in_precision(self, precision: Precision) -> Learner:
        """Return this learner for float32, for bf16 a view of it whose networks run under autocast."""
        return self if precision == "float32" else replace(self, net=cast(PetViT, LoweredNet(self.net)))

    def trained(self) -> list[nn.Parameter]:
        """Return the parameters that gradient steps change: PET and cosine head."""
        return [*self.net.pet_parameters().values(), *self.head.parameters()]

    def state_dict(self) -> dict[str, Any]:
        """Return copies of everything that training changes."""
        return {
            "pet": self.net.pet_state(),
            "head": {name: value.detach().clone() for name, value in self.head.state_dict().items()},
            "closed": None if self.closed is None else self.closed.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over copies of what `state_dict` gave, whatever its number of classes, on this learner's device."""
        self.net.load_pet_state(state["pet"])
        self.head = CosineHead.from_state(state["head"]).to(self.head.rows.device)
        if self.closed is not None:
            self.closed.load_state_dict(state["closed"])


def _recent_loss(history: Sequence[Tensor], weights: Sequence[float]) -> float:
    """Return the weighted sum of the loss terms, mean over the last steps."""
    return float(torch.stack([*history[-RECENT:]]).double().mean(dim=0).cpu() @ torch.tensor(weights).double())


def cosine_lr(lr: float, epoch: int, schedule_epochs: int) -> float:
    """Return the learning rate of an epoch (from 0): lr (1 + cos(pi epoch / schedule_epochs)) / 2."""
    return lr * (1 + math.cos(math.pi * epoch / schedule_epochs)) / 2


def train_epoch(
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[tuple[Tensor, Tensor]],
    terms: Callable[[Tensor, Tensor], Mapping[str, tuple[float, Tensor]]],
    where: str,
    micro_batch: int | None = None,
    on_step: Callable[[int, Callable[[], float]], None] | None = None,
) -> dict[str, float]:
    """Take one gradient step per batch and return each term's mean over the epoch's images, unweighted.

    Args:
        learner: whose parameters `optimizer` holds.
        batches: (images (B, 3, S, S), targets int64 (B,)).
        terms: gives for a batch each term's name, weight and value; the loss is their weighted sum.
        where: names the session and epoch in errors.
        micro_batch: images in one backward pass, `None` for the whole batch. The step's loss is then the mean of the
            micro-batches' losses weighted by their share of the images: equal to the whole batch's for terms that are
            means over images (dropout masks apart), something else for terms over pairs of images or with rows of
            their own (transfer and cross terms).
        on_step: told after every step how many images it had, and given what gives the loss of the last steps.

    Raises:
        NonFiniteLossError: a term became NaN or infinite; names the step and the term.
    """
    learner.net.train()
    history: list[Tensor] = []
    sizes: list[int] = []
    names: tuple[str, ...] = ()
    for images, targets in batches:
        optimizer.zero_grad(set_to_none=True)
        told: list[Tensor] = []
        size = micro_batch or len(targets)
        for x, y in zip(images.split(size), targets.split(size), strict=True):
            share = len(y) / len(targets)
            losses = terms(x, y)
            names = tuple(losses)
            torch.stack([share * weight * value for weight, value in losses.values()]).sum().backward()
            told.append(share * torch.stack([value.detach() for _, value in losses.values()]))
        optimizer.step()
        history.append(torch.stack(told).sum(dim=0))
        sizes.append(len(targets))
        if on_step is not None:
            factors = [weight for weight, _ in losses.values()]
            on_step(len(targets), partial(_recent_loss, history, factors))
    if not history:
        return {}
    # Looked at once an epoch: asking after every step would make a GPU wait for the CPU.
    table = torch.stack(history).double().cpu()
    if not table.isfinite().all():
        step, term = (~table.isfinite()).nonzero()[0].tolist()
        raise NonFiniteLossError(
            f"the loss term {names[term]!r} became {table[step, term].item()} in {where}, step {step + 1}: "
            "lower the learning rate or the term's weight"
        )
    weights = torch.tensor(sizes, dtype=torch.float64)
    means = (table * weights.unsqueeze(1)).sum(dim=0) / weights.sum()
    return dict(zip(names, means.tolist(), strict=True))
