"""Suite `fused`: gradient steps of K trials at once on one frozen network, against the steps of K separate trials.

K trials of one seed see the same views, drop the same elements and look at the same frozen features; their PET and
heads differ. At once, they are one batch of K times the images: frozen layers see all of them, PET modules are stacked
and take grouped matrix products, and what lies before the first PET module is computed once. Of the frozen features,
either all trials find them in the stage store, or each separate one computes them, as trials do that start together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safe.backbones.loading import SMALL_VIT, load_backbone
from safe.data.transforms import train_view
from safe.heads.cosine import CosineHead, uniform_rows
from safe.losses import feature_term
from safe.pet import PetViT, attach, class_token_alone
from safe.pet.adapter import AdaptedBlock, Adapter
from safe.pet.class_token import after_attention
from safe.pet.lora import LoraLinear
from safe.pet.ssf import ScaleShift
from safe.seeding import generator

COPIES, BATCH, CLASSES = (4, 8), 48, 10
KINDS: dict[str, dict[str, Any]] = {"adapter": {"dropout": 0.1}, "lora": {"rank": 8}, "ssf": {}}
NETWORKS = {SMALL_VIT: (None, 2), "vit_small_patch14_dinov2.lvd142m": (56, 1)}  # image size, steps of one timing
LR, MOMENTUM, PROOF_STEPS = 0.01, 0.9, 3
TOLERANCE = 1e-3  # of losses and of what steps change, relative: float32 sums in another order


def items() -> list[dict[str, Any]]:
    """Prove that both ways give the same losses and parameters; return them to be timed, on one thread."""
    rows = []
    for backbone, (size, steps) in NETWORKS.items():
        vit = class_token_alone(load_backbone(backbone, None if backbone == SMALL_VIT else "random", image_size=size))
        for kind in KINDS if backbone == SMALL_VIT else ("adapter",):
            prove(vit, kind, 2)
            for copies in COPIES:
                for kept in (True, False) if kind == "adapter" else (True,):
                    ways = {way: made(vit, kind, copies) for way, made in (("plain", Separate), ("ours", Together))}
                    frozen = "frozen features kept" if kept else "each separate trial computing frozen features"
                    name = f"{backbone}, {copies} copies of {kind}, {steps} steps of {BATCH} images, {frozen}"
                    timed = {way: partial(_on_one_thread, trials, steps, kept) for way, trials in ways.items()}
                    rows.append({"name": name, "cpu": True, **timed})
    return rows


def prove(vit: Any, kind: str, copies: int) -> None:
    """Raise `AssertionError` unless both ways end with the same losses and PET parameters."""
    separate, together = Separate(vit, kind, copies), Together(vit, kind, copies)
    before = separate.parameters()
    for step in range(PROOF_STEPS):
        losses, ours = separate.step(step, kept=True), together.step(step, kept=True)
        torch.testing.assert_close(ours, losses, rtol=TOLERANCE, atol=0)
    for name, theirs in separate.parameters().items():
        moved = (theirs - before[name]).norm()
        if (together.parameters()[name] - theirs).norm() > TOLERANCE * moved:
            raise AssertionError(f"{kind}: {name} differs")


def _on_one_thread(trials: Separate | Together, steps: int, kept: bool) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for step in range(steps):
        trials.step(step, kept)
    torch.set_num_threads(threads)


class _Trials:
    """What both ways have in common: pictures, frozen features by step, and PET and heads as they start."""

    def __init__(self, vit: Any, kind: str, copies: int) -> None:
        self.vit, self.copies, self.size = vit, copies, int(vit.patch_embed.img_size[0])
        drawn = generator(0, "pictures")
        self.pixels = torch.randint(256, (BATCH, 3, self.size, self.size), dtype=torch.uint8, generator=drawn)
        self.labels = torch.arange(BATCH) % CLASSES
        self.nets = [attach(vit, kind, generator=generator(k, "pet"), **KINDS[kind]) for k in range(copies)]
        self.heads = [
            CosineHead(uniform_rows(CLASSES, self.nets[0].embed_dim, generator(k, "head"))) for k in range(copies)
        ]
        for net in self.nets:
            net.train()
        self.weights = [0.5 + k for k in range(copies)]  # of the feature loss: the trials differ in it
        self._kept: dict[int, Tensor] = {}

    def views(self, step: int) -> Tensor:
        return train_view(
            self.pixels,
            self.size,
            crop_scale=(0.05, 1.0),
            crop_ratio=(3 / 4, 4 / 3),
            horizontal_flip=0.5,
            generator=generator(step, "views"),
        )

    def frozen(self, step: int, images: Tensor, kept: bool) -> Tensor:
        with torch.no_grad():
            if not kept:
                return self.vit(images)
            if step not in self._kept:
                self._kept[step] = self.vit(images)
        return self._kept[step]


class Separate(_Trials):
    """K trials, each with its own views, passes and optimiser."""

    def __init__(self, vit: Any, kind: str, copies: int) -> None:
        super().__init__(vit, kind, copies)
        self.optimizers = [
            torch.optim.SGD([*net.pet_parameters().values(), *head.parameters()], lr=LR, momentum=MOMENTUM)
            for net, head in zip(self.nets, self.heads, strict=True)
        ]

    def step(self, step: int, kept: bool) -> Tensor:
        """Take one step of every trial; return their losses (K,)."""
        losses = []
        for net, head, optimizer, weight in zip(self.nets, self.heads, self.optimizers, self.weights, strict=True):
            images = self.views(step)
            net.set_dropout_generator(generator(step, "dropout"))
            features = net(images)
            loss = F.cross_entropy(head(features), self.labels)
            loss = loss + weight * feature_term(features, self.frozen(step, images, kept))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses)

    def parameters(self) -> dict[str, Tensor]:
        """Return copies of all PET parameters, stacked over the trials."""
        states = [net.pet_state() for net in self.nets]
        return {name: torch.stack([state[name] for state in states]) for name in states[0]}


class Together(_Trials):
    """K trials as one."""

    def __init__(self, vit: Any, kind: str, copies: int) -> None:
        super().__init__(vit, kind, copies)
        self.net = Fused(self.nets)
        self.rows = nn.Parameter(torch.stack([head.rows.detach() for head in self.heads]))
        self.scale = nn.Parameter(torch.stack([head.scale.detach() for head in self.heads]))
        trained = [*self.net.stacked().values(), self.rows, self.scale]
        self.optimizer = torch.optim.SGD(trained, lr=LR, momentum=MOMENTUM)

    def step(self, step: int, kept: bool) -> Tensor:
        """Take one step of all trials; return their losses (K,)."""
        images = self.views(step)
        self.net.draw = generator(step, "dropout")
        features = self.net(images)
        cosines = F.normalize(features, dim=2) @ F.normalize(self.rows, dim=2).mT
        logits = self.scale[:, None, None] * cosines
        labels = self.labels.expand(self.copies, -1)
        ce = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape).mean(1)
        off = (1 - F.cosine_similarity(features, self.frozen(step, images, kept), dim=2)).mean(1)
        losses = ce + torch.tensor(self.weights) * off
        self.optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()
        self.optimizer.step()
        return losses.detach()

    def parameters(self) -> dict[str, Tensor]:
        """Return copies of all PET parameters, stacked over the trials."""
        return {name: value.detach().clone() for name, value in self.net.stacked().items()}


class Fused(nn.Module):
    """Networks with the same kind of PET on one frozen network as one: images (B, 3, S, S) -> features (K, B, D)."""

    def __init__(self, nets: Sequence[PetViT]) -> None:
        super().__init__()
        self.copies, self.names, self.draw = len(nets), nets[0].pet_parameter_names(), torch.Generator()
        self.vit = nets[0].clone().vit
        made: dict[type[nn.Module], Callable[[Sequence[Any]], nn.Module]] = {
            Adapter: partial(_Adapters, self),
            LoraLinear: _Loras,
            ScaleShift: _ScaleShifts,
        }
        for name, module in list(self.vit.named_modules()):
            if type(module) in made:
                self.vit.set_submodule(name, made[type(module)]([net.vit.get_submodule(name) for net in nets]))
            elif isinstance(module, AdaptedBlock):
                self.vit.set_submodule(name, _AdaptedBlock(module.block, module.adapter))

    def forward(self, images: Tensor) -> Tensor:
        vit = self.vit
        x = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(images))))
        for block in vit.blocks:
            if len(x) == len(images) and not isinstance(block, _AdaptedBlock):
                x = x.repeat(self.copies, 1, 1)
            x = block(x)
        features: Tensor = vit.forward_head(vit.norm(x), pre_logits=True)
        return features.unflatten(0, (self.copies, -1))

    def stacked(self) -> dict[str, nn.Parameter]:
        """Return the parameters of all networks' PET by their name in one of them, (K, ...)."""
        return {name: self.vit.get_parameter(name) for name in self.names}


def _stack(modules: Sequence[nn.Module], name: str) -> nn.Parameter:
    return nn.Parameter(torch.stack([module.get_parameter(name).detach() for module in modules]))


class _Linears(nn.Module):
    """`nn.Linear`s of all networks: (K, n, in) -> (K, n, out)."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.weight, self.bias = _stack(modules, "weight"), _stack(modules, "bias")

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.mT)


class _Adapters(nn.Module):
    """`Adapter`s of all networks: of tokens (B, N, D) that they share or (K B, N, D) of their own, (K B, N, D)."""

    owner: Fused

    def __init__(self, owner: Fused, modules: Sequence[Adapter]) -> None:
        super().__init__()
        object.__setattr__(self, "owner", owner)  # no submodule
        self.down_proj = _Linears([module.down_proj for module in modules])
        self.up_proj = _Linears([module.up_proj for module in modules])
        self.copies, self.scale, self.share = len(modules), modules[0].scale, modules[0].dropout.p

    def forward(self, x: Tensor) -> Tensor:
        shared, width = len(x) == BATCH, x.shape[-1]
        own = x.reshape(1 if shared else self.copies, -1, width).expand(self.copies, -1, -1)
        hidden = self.down_proj(own).relu()
        if self.share:
            mask = torch.empty_like(hidden[0]).bernoulli_(1 - self.share, generator=self.owner.draw)
            hidden = hidden * mask / (1 - self.share)
        added: Tensor = self.up_proj(hidden) * self.scale
        return added.view(-1, x.shape[1], width)


class _AdaptedBlock(AdaptedBlock):
    """An `AdaptedBlock` whose frozen branches may see tokens that all networks share."""

    def forward(self, x: Tensor) -> Tensor:
        block = self.block
        x = after_attention(block, x)
        added, rest = self.adapter(x), x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
        return (added.unflatten(0, (-1, len(rest))) + rest).flatten(0, 1)


class _Loras(nn.Module):
    """`LoraLinear`s of all networks: (K B, N, in) -> (K B, N, out)."""

    def __init__(self, modules: Sequence[LoraLinear]) -> None:
        super().__init__()
        self.inner, self.scale = modules[0].inner, modules[0].scale
        self.lora_a, self.lora_b = _stack(modules, "lora_a"), _stack(modules, "lora_b")

    def forward(self, x: Tensor) -> Tensor:
        own = x.reshape(len(self.lora_a), -1, x.shape[-1])
        added = torch.bmm(torch.bmm(own, self.lora_a.mT), self.lora_b.mT)
        y: Tensor = self.inner(x)
        return y + self.scale * added.view(y.shape)


class _ScaleShifts(nn.Module):
    """`ScaleShift`s of all networks: of what they share or of their own, (K B, ...)."""

    def __init__(self, modules: Sequence[ScaleShift]) -> None:
        super().__init__()
        self.inner, self.view = modules[0].inner, modules[0].view
        self.scale, self.shift = _stack(modules, "scale"), _stack(modules, "shift")

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x)
        copies, rest = len(self.scale), y.ndim - len(self.view)
        scale, shift = (value.view(copies, *[1] * rest, *self.view) for value in (self.scale, self.shift))
        own = y if len(y) == BATCH else y.unflatten(0, (copies, -1))
        return (own * scale + shift).flatten(0, 1)
