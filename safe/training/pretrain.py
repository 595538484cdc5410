"""Pre-train the small ViT on rendered characters: `python -m safe.training.pretrain`.

Every picture is drawn afresh: a class, one of its look-alikes in one face, and a distortion of the family
`PRETRAINING`. The families' strength grows over the first part of training, from nearly clean pictures. No class is
in `glyphs` or `digits`, nor looks like one of theirs (`safe.data.benchmarks.characters.sides`).
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Generator, Tensor, nn
from torch.nn import functional

from safe.backbones.small_vit import SMALL_VIT, WEIGHTS
from safe.data.benchmarks.characters import Masks, render_all, sides
from safe.data.benchmarks.distort import PLAIN, PRETRAINING, Look, distort
from safe.errors import UserError, command_line
from safe.io.writable import require_writable, whole
from safe.seeding import generator

EPOCH_STEPS = 220
BATCH = 256
LEARNING_RATE = 1.5e-3
WEIGHT_DECAY = 0.05
LABEL_SMOOTHING = 0.1
WARMUP = 0.05
# The share of training over which the distortions grow to full strength.
EASY = 0.3
HELD_OUT_PER_CLASS = 10


@dataclass(frozen=True)
class Source:
    """Clean masks of the pre-training classes: masks of class c are the rows first[c] : first[c] + size[c]."""

    masks: Masks
    first: Tensor
    size: Tensor

    @property
    def class_count(self) -> int:
        return len(self.first)

    def draw(self, labels: Tensor, look: Look, random: Generator) -> Tensor:
        """Return one fresh picture of each label's class, (N, 3, 32, 32) in [0, 1]."""
        uniform = torch.rand(len(labels), generator=random)
        rows = self.first[labels] + (uniform * self.size[labels]).long()
        others = torch.randint(len(self.masks.pixels), (len(labels),), generator=random)
        pixels = self.masks.pixels
        return distort(pixels[rows], pixels[others], look, random).expand(-1, 3, -1, -1)


def pretraining_source(limit: int | None = None) -> Source:
    """Return the pre-training classes (the first `limit` of them) and their masks in every face."""
    classes = sides().pretraining[:limit]
    masks = render_all("".join(classes))
    owner = torch.tensor([label for label, members in enumerate(classes) for _ in members])
    size = torch.bincount(owner[masks.character], minlength=len(classes))
    return Source(masks, size.cumsum(0) - size, size)


def new_classifier(class_count: int, random: Generator) -> VisionTransformer:
    """Return the untrained small ViT with a linear classifier; every weight is drawn from `random`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random.initial_seed())  # what timm draws and is not drawn again below: the first bias
        model = VisionTransformer(**{**SMALL_VIT, "num_classes": class_count})
    for name, parameter in model.named_parameters():
        if name in ("cls_token", "pos_embed"):
            nn.init.trunc_normal_(parameter, std=0.02, generator=random)
        elif parameter.ndim > 1:
            nn.init.xavier_uniform_(parameter.data.flatten(1), generator=random)
    return model


def _rate(done: float) -> float:
    """Return the learning rate's factor after the share `done` of training: linear warm-up, then half a cosine."""
    if done < WARMUP:
        return done / WARMUP
    return 0.5 * (1 + math.cos(math.pi * (done - WARMUP) / (1 - WARMUP)))


def train(
    source: Source,
    steps: int,
    seed: int,
    batch: int = BATCH,
    on_step: Callable[[int, float, VisionTransformer], None] | None = None,
) -> VisionTransformer:
    """Return a classifier of the source's classes after `steps` batches; `on_step(step, loss, model)` after each.

    AdamW, weight decay on matrices only, label smoothing 0.1, warm-up and cosine, gradient norm clipped at 1.
    """
    model = new_classifier(source.class_count, generator(seed, "pretrain", "weights")).train()
    random = generator(seed, "pretrain", "pictures")
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=LEARNING_RATE)
    for step in range(steps):
        for settings in optimiser.param_groups:
            settings["lr"] = LEARNING_RATE * _rate((step + 1) / steps)
        labels = torch.randint(source.class_count, (batch,), generator=random)
        look = PLAIN.towards(PRETRAINING, min(1.0, (step + 1) / (EASY * steps)))
        logits = model(source.draw(labels, look, random))
        loss = functional.cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        if on_step is not None:
            on_step(step, float(loss.detach()), model)
    return model.eval()


@torch.no_grad()
def accuracy(model: VisionTransformer, source: Source, per_class: int, seed: int, look: Look = PRETRAINING) -> float:
    """Return the share of fresh held-out pictures, `per_class` of each class, that `model` classifies right."""
    random = generator(seed, "pretrain", "held out")
    labels = torch.arange(source.class_count).repeat(per_class)
    right = 0
    for part in labels.split(BATCH):
        right += int((model(source.draw(part, look, random)).argmax(1) == part).sum())
    return right / len(labels)


def save(model: VisionTransformer, path: Path, facts: dict[str, str]) -> None:
    """Write the weights as float16 safetensors with `facts` as metadata, atomically."""
    halved = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    with whole(path) as draft:
        save_file(halved, draft, metadata=facts)


def load(path: Path) -> tuple[VisionTransformer, dict[str, str]]:
    """Return the pre-trained classifier, float32, and the facts stored with it.

    Raises:
        UserError: no such file, or none that `save` wrote whole.
    """
    if not path.is_file():
        raise UserError(f"no weights at {path}; make them with: python -m safe.training.pretrain --out {path}")
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (not a mapping)
            facts = file.metadata() or {}
        with torch.random.fork_rng(devices=[]):
            model = VisionTransformer(**{**SMALL_VIT, "num_classes": len(state["head.bias"])})
        model.load_state_dict(state)
    except (OSError, SafetensorError, KeyError, RuntimeError):
        raise UserError(f"{path} is damaged or holds other weights than the small ViT's; make them again") from None
    return model.eval(), facts


@command_line()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m safe.training.pretrain", description=__doc__)
    parser.add_argument(
        "--epochs", type=int, default=15, help=f"of {EPOCH_STEPS * BATCH} pictures (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS, metavar="FILE")
    parser.add_argument("--threads", type=int, default=2, help="weights repeat bit for bit at a fixed number")
    parser.add_argument("--check", action="store_true", help="measure the accuracy of the weights at --out instead")
    options = parser.parse_args(arguments)
    for name, least in (("epochs", 1), ("threads", 1), ("seed", 0)):
        if (value := getattr(options, name)) < least:
            raise UserError(f"--{name} must be at least {least}, got {value}")
    torch.set_num_threads(options.threads)
    if options.check:
        _check(options.out, options.seed)
    else:
        require_writable(options.out, "--out")
        _pretrain(options)
    return 0


def _check(path: Path, seed: int) -> None:
    """Print what is stored with the weights, and their accuracy measured now."""
    console = Console()
    model, facts = load(path)
    for name, fact in sorted(facts.items()):
        console.print(f"{name}: {fact}", highlight=False)
    right = accuracy(model, pretraining_source(), HELD_OUT_PER_CLASS, seed=seed)
    console.print(f"accuracy now: {right:.4f}")


def _pretrain(options: argparse.Namespace) -> None:
    """Train, measure and write the weights."""
    console = Console()
    source = pretraining_source()
    steps = options.epochs * EPOCH_STEPS
    started = time.monotonic()
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("pre-training", total=steps)

        def show(step: int, loss: float, _: VisionTransformer) -> None:
            progress.update(bar, completed=step + 1, description=f"pre-training, loss {loss:.2f}")

        model = train(source, steps, options.seed, on_step=show)
    seconds = time.monotonic() - started
    right = accuracy(model, source, HELD_OUT_PER_CLASS, seed=options.seed)
    settings = f"--epochs {options.epochs} --seed {options.seed} --threads {options.threads}"
    facts = {
        "command": f"python -m safe.training.pretrain {settings}",
        "seed": str(options.seed),
        "classes": str(source.class_count),
        "pictures": str(steps * BATCH),
        "accuracy": f"{right:.4f}",
        "torch": torch.__version__,
    }
    save(model, options.out, facts)
    console.print(f"{options.out}: {right:.1%} of fresh pictures of {source.class_count} classes right")
    console.print(f"trained on {steps * BATCH} pictures in {seconds:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
