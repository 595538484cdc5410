"""SAFE written the straightforward way, as the yardstick of the benchmarks.

In the plain form that the released code uses: three separate networks (PTM, slow, fast), one forward pass for the
logits and another for the features in every step, test accuracy after every epoch, six LU solves of an M x M system
for the ridge, two forward passes of the fast network in the evaluation. It draws the same batches, crops and starts as
`SafeTrainer`, so without dropout both give the same numbers.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from safe.backbones.network_input import network_input
from safe.config import Config
from safe.data.sources import Dataset
from safe.data.stream import Subset
from safe.data.transforms import network_view, train_view
from safe.heads.cosine import CosineHead, new_class_rows
from safe.learners.learner import cosine_lr
from safe.seeding import generator
from safe.training.build import build_learner, build_stream, projection_seed


class PlainSafe:
    """One training run; `run()` returns the accuracy on all seen classes after every session.

    Args:
        config: dropout 0 for numbers equal to the trainer's; `imprint` for both kinds of new rows.
        test_every_epoch: also measure test accuracy after every epoch, as the released code does.
        device: where it computes.
    """

    def __init__(
        self, config: Config, dataset: Dataset, vit: Any, *, test_every_epoch: bool, device: str = "cpu"
    ) -> None:
        self.device = torch.device(device)
        self.config, self.dataset, self.test_every_epoch = config, dataset, test_every_epoch
        self.stream = build_stream(config, dataset)
        self.seen = network_input(vit, None, config.backbone.input_norm, config.backbone.crop_pct)
        self.ptm = copy.deepcopy(vit).to(self.device)
        first = build_learner(
            config, copy.deepcopy(vit).to(self.device), len(self.stream.sessions[0].classes), self.device
        )
        self.slow, self.slow_head = first.net, first.head
        self.fast: Any = None
        self.fast_head: Any = None
        width, dim = first.net.embed_dim, config.head.projection_dim
        drawn = generator(projection_seed(config), "projection", width, dim)
        self.w_rand = torch.randn(width, dim, generator=drawn).to(self.device)
        self.gram = {name: torch.zeros(dim, dim, device=self.device) for name in ("slow", "fast")}
        self.cross = {name: torch.zeros(dim, len(dataset.classes), device=self.device) for name in ("slow", "fast")}
        self.weight: dict[str, Tensor] = {}
        self.errors = {name: [0.0] * len(config.head.ridge_grid) for name in ("slow", "fast")}
        self.losses: list[float] = []  # mean over the images of each epoch

    def run(self) -> list[float]:
        return [self.run_session(t) for t in range(len(self.stream))]

    def run_session(self, t: int) -> float:
        session = self.stream.sessions[t]
        if t > 0:
            self.grow_heads(t)
        self.train_session(t)
        nets = {"slow": self.slow} if t == 0 else {"slow": self.slow, "fast": self.fast}
        for name, net in nets.items():
            self._fit_head(name, net, session.train, t)
        if t == 0:
            self.fast = copy.deepcopy(self.slow)
            self.fast_head = copy.deepcopy(self.slow_head)
            self.gram["fast"], self.cross["fast"] = self.gram["slow"].clone(), self.cross["slow"].clone()
            self.weight["fast"], self.errors["fast"] = self.weight["slow"].clone(), list(self.errors["slow"])
        return self._evaluate(t)

    def train_session(self, t: int) -> None:
        """Do the gradient steps of session `t` (from 0) alone; the heads have their rows already."""
        if t == 0:
            self._train(t, self.slow, self.slow_head, self.config.slow)
        else:
            self._train(t, self.fast, self.fast_head, self.config.fast)

    def _train(self, t: int, net: Any, head: CosineHead, config: Any) -> None:
        data, session = self.config.data, self.stream.sessions[t]
        optimizer = torch.optim.SGD(
            [*net.pet_parameters().values(), *head.parameters()],
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        for epoch in range(config.epochs):
            net.train()
            net.set_dropout_generator(self._generator("dropout", t, epoch, self.device))
            for group in optimizer.param_groups:
                group["lr"] = cosine_lr(config.lr, epoch, config.schedule_epochs or config.epochs)
            order = torch.randperm(len(session.train), generator=self._generator("order", t, epoch))
            views = self._generator("views", t, epoch)
            total = 0.0
            for chosen in order.split(config.batch_size):
                pixels = train_view(
                    session.train.read(chosen),
                    self.seen.size,
                    crop_scale=data.crop_scale,
                    crop_ratio=data.crop_ratio,
                    horizontal_flip=data.horizontal_flip,
                    generator=views,
                    device=self.device,
                )
                x, y = self.seen.normalised(pixels), session.train.labels[chosen].to(self.device)
                loss = self._slow_loss(x, y) if t == 0 else self._fast_loss(x, y, session.known)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += len(y) * loss.item()
            self.losses.append(total / len(session.train))
            if self.test_every_epoch:
                self._head_accuracy(t, net, head)

    def _slow_loss(self, x: Tensor, y: Tensor) -> Tensor:
        loss = F.cross_entropy(self.slow_head(self.slow(x)), y)
        features = F.normalize(self.slow(x), dim=1)
        with torch.no_grad():
            reference = F.normalize(self.ptm(x), dim=1)
        c = features.T @ reference / len(x)
        on = torch.diagonal(c)
        off = c - torch.diag(on)
        return (
            loss
            + self.config.slow.diag_weight * (1 - on).pow(2).sum()
            + self.config.slow.offdiag_weight * off.pow(2).sum()
        )

    def _fast_loss(self, x: Tensor, y: Tensor, known: int) -> Tensor:
        loss = F.cross_entropy(self.fast_head(self.fast(x)), y)
        features = self.fast(x)
        with torch.no_grad():
            slow_features = self.slow(x)
        labels = torch.cat([y, torch.arange(known, device=self.device)])
        slow_rows = self.slow_head.rows.detach()
        to_fast = torch.cat([slow_features, slow_rows[:known]])
        to_slow = torch.cat([features, self.fast_head.rows[:known]])
        slow_logits = self.slow_head.scale.detach() * F.normalize(to_slow, dim=1) @ F.normalize(slow_rows, dim=1).T
        cross = F.cross_entropy(self.fast_head(to_fast), labels) + F.cross_entropy(slow_logits, labels)
        cosine = (1 - F.cosine_similarity(features, slow_features)).mean()
        return loss + self.config.fast.feature_weight * cosine + self.config.fast.cross_weight * cross

    def grow_heads(self, t: int) -> None:
        """Give both gradient heads rows for the classes of session `t` (from 0)."""
        session = self.stream.sessions[t]
        for net, name in ((self.slow, "slow_head"), (self.fast, "fast_head")):
            head = getattr(self, name)
            features = self._features(net, session.train)
            rows = new_class_rows(
                "imprint",
                session.classes,
                features,
                session.train.labels.to(self.device),
                head.rows.detach(),
                torch.Generator(),
            )
            setattr(self, name, head.extended(rows))

    @torch.no_grad()
    def _fit_head(self, name: str, net: Any, subset: Subset, t: int) -> None:
        h = (self._features(net, subset) @ self.w_rand).relu()
        y = F.one_hot(subset.labels.to(self.device), len(self.dataset.classes)).float()
        order = torch.randperm(len(h), generator=generator(self.config.seed, "ridge_split", t + 1))
        cut = int(self.config.head.ridge_split * len(order))
        fit, judge = order[:cut], order[cut:]
        eye = torch.eye(h.shape[1], device=self.device)
        gram, cross = h[fit].T @ h[fit], h[fit].T @ y[fit]
        errors = []
        for ridge in self.config.head.ridge_grid:
            weight = torch.linalg.solve(gram + ridge * eye, cross)
            errors.append(F.mse_loss(h[judge] @ weight, y[judge], reduction="sum").item())
        if self.config.head.ridge_choice == "pooled":
            errors = self.errors[name] = [a + b for a, b in zip(self.errors[name], errors, strict=True)]
        ridge = self.config.head.ridge_grid[errors.index(min(errors))]
        self.gram[name] = self.gram[name] + h.T @ h
        self.cross[name] = self.cross[name] + h.T @ y
        self.weight[name] = torch.linalg.solve(self.gram[name] + ridge * eye, self.cross[name])

    @torch.no_grad()
    def _evaluate(self, t: int) -> float:
        right = total = 0
        seen = self.stream.sessions[t].seen
        for session in self.stream.sessions[: t + 1]:
            subset = session.evaluation
            for chosen in torch.arange(len(subset)).split(self.config.runtime.eval_batch_size):
                x = network_view(subset.read(chosen).to(self.device), self.seen)
                self.fast.eval()
                self.slow.eval()
                self.fast(x)  # the released code asks the fast network once for its own prediction
                fast = (self.fast(x) @ self.w_rand).relu() @ self.weight["fast"][:, :seen] * self.fast_head.scale
                slow = (self.slow(x) @ self.w_rand).relu() @ self.weight["slow"][:, :seen] * self.slow_head.scale
                p_fast, p_slow = fast.softmax(1), slow.softmax(1)
                e_fast = -(p_fast * p_fast.clamp_min(1e-30).log()).sum(1)
                e_slow = -(p_slow * p_slow.clamp_min(1e-30).log()).sum(1)
                tau = self.config.aggregation.temperature
                w = torch.stack([-e_slow / tau, -e_fast / tau], dim=1).softmax(1)
                logits = w[:, :1] * slow + w[:, 1:] * fast
                right += (logits.argmax(1) == subset.labels[chosen].to(self.device)).sum().item()
                total += len(chosen)
        return right / total

    @torch.no_grad()
    def _head_accuracy(self, t: int, net: Any, head: CosineHead) -> float:
        net.eval()
        right = total = 0
        for session in self.stream.sessions[: t + 1]:
            for chosen in torch.arange(len(session.evaluation)).split(self.config.runtime.eval_batch_size):
                logits = head(net(network_view(session.evaluation.read(chosen).to(self.device), self.seen)))
                right += (logits.argmax(1) == session.evaluation.labels[chosen].to(self.device)).sum().item()
                total += len(chosen)
        return right / total

    @torch.no_grad()
    def _features(self, net: Any, subset: Subset) -> Tensor:
        net.eval()
        batches = torch.arange(len(subset)).split(self.config.runtime.eval_batch_size)
        return torch.cat([net(network_view(subset.read(chosen).to(self.device), self.seen)) for chosen in batches])

    def _generator(self, purpose: str, t: int, epoch: int, device: torch.device | str = "cpu") -> torch.Generator:
        return generator(self.config.seed, purpose, t + 1, epoch, device=device)
