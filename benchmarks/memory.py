"""Suite `memory`: peak memory of a fast step and of both heads, against three backbones and whole M x M matrices.

Every measurement is a fresh process: on the CPU the growth of its peak resident size since its imports, on a GPU the
peak of what torch has allocated. Both ways first prove the same numbers.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import timm
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.head import GRID, SPLIT, plain_choice
from safe.heads.cosine import CosineHead, cosine_logits, uniform_rows
from safe.heads.projection import Projection
from safe.heads.ridge import RidgeHead, one_hot
from safe.learners.fast import fast_terms
from safe.learners.learner import Learner
from safe.pet import PetViT, attach, class_token_alone
from safe.seeding import generator

BACKBONE = "vit_base_patch16_224"
CPU = {"batch": 4, "dim": 4000, "classes": 20, "images": 1000}
GPU = {"batch": 48, "dim": 10_000, "classes": 300, "images": 5000}
PARTS = {"networks": "networks and a fast step", "heads": "heads of both learners", "all": "both"}
OLD = 10  # classes that stand for themselves as virtual samples
BAR = 2.0


def run(console: Console) -> list[dict[str, Any]]:
    """Measure every part both ways; print a table, return the rows."""
    rows = []
    for part, name in PARTS.items():
        plain, ours = (_fresh(part, way) for way in ("plain", "ours"))
        for a, b in zip(plain["numbers"], ours["numbers"], strict=True):
            if not math.isclose(a, b, rel_tol=1e-3):
                raise AssertionError(f"{name}: the two ways differ, {a} and {b}")
        sizes = {"plain_mib": plain["peak_mib"], "ours_mib": ours["peak_mib"]}
        rows.append({"name": name, **sizes, "ratio": plain["peak_mib"] / ours["peak_mib"]})
    title = f"peak memory, {BACKBONE}, {_sizes(GPU if torch.cuda.is_available() else CPU)}; the bar is {BAR:g}"
    table = Table(title=title, title_justify="left", title_style="", box=None, pad_edge=False)
    table.add_column("part")
    for column in ("plain MiB", "ours MiB", "ratio"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row["name"], f"{row['plain_mib']:.0f}", f"{row['ours_mib']:.0f}", f"{row['ratio']:.2f}")
    console.print(table)
    return rows


def _sizes(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sizes.items())


def _fresh(part: str, way: str) -> dict[str, Any]:
    """Measure one way in a process of its own."""
    done = subprocess.run([sys.executable, "-m", __name__, part, way], stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def _measure(part: str, way: str) -> dict[str, Any]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sizes = GPU if device.type == "cuda" else CPU
    before = _peak_mib(device)
    numbers: list[float] = []
    # What a learner holds stays while the other part runs, as in a training.
    held = []
    steps: dict[str, Callable[..., tuple[list[float], Any]]] = {
        "networks": {"plain": plain_step, "ours": our_step}[way],
        "heads": {"plain": plain_heads, "ours": our_heads}[way],
    }
    for name, step in steps.items():
        if part in (name, "all"):
            step_numbers, state = step(device, **sizes)
            numbers += step_numbers
            held.append(state)
    return {"peak_mib": _peak_mib(device) - before, "numbers": numbers}


def _peak_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# ---------------------------------------------------------------------- one gradient step of the fast learner


def _network(device: torch.device) -> Any:
    torch.manual_seed(0)
    return timm.create_model(BACKBONE, num_classes=0).to(device)


def _attached(vit: Any, device: torch.device) -> PetViT:
    return attach(vit, "adapter", generator=generator(1, "adapter", device=device), dropout=0.0)


def _moved(fast: PetViT, device: torch.device) -> None:
    """Take the fast network away from the slow one."""
    with torch.no_grad():
        for parameter in fast.pet_parameters().values():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator(2)).to(device))


def _batch(device: torch.device, batch: int, classes: int) -> tuple[Tensor, Tensor]:
    return torch.rand(batch, 3, 224, 224, generator=generator(3)).to(device), (torch.arange(batch) % classes).to(device)


def _rows(device: torch.device, classes: int, width: int, seed: int) -> Tensor:
    return uniform_rows(classes, width, generator(seed)).to(device)


def _told(loss: Tensor, fast: PetViT) -> list[float]:
    gradients = [parameter.grad for parameter in fast.pet_parameters().values()]
    norm = torch.stack([g.norm() for g in gradients if g is not None]).norm()
    return [float(loss.detach()), float(norm)]


def plain_step(device: torch.device, *, batch: int, classes: int, **_: int) -> tuple[list[float], Any]:
    """Return loss and length of its gradient: three networks, one pass for the logits and another for the features."""
    ptm = _network(device)
    slow = _attached(copy.deepcopy(ptm), device)
    fast = copy.deepcopy(slow)
    _moved(fast, device)
    images, targets = _batch(device, batch, classes)
    rows = [_rows(device, classes, slow.embed_dim, seed) for seed in (4, 5)]
    fast_rows, slow_rows = torch.nn.Parameter(rows[0]), rows[1]
    scale = torch.tensor(10.0, device=device)
    loss = F.cross_entropy(cosine_logits(fast(images), fast_rows, scale), targets)
    features = fast(images)
    with torch.no_grad():
        reference = slow(images)
    labels = torch.cat([targets, torch.arange(OLD, device=device)])
    to_fast, to_slow = torch.cat([reference, slow_rows[:OLD]]), torch.cat([features, fast_rows[:OLD]])
    cross = F.cross_entropy(cosine_logits(to_fast, fast_rows, scale), labels)
    cross = cross + F.cross_entropy(cosine_logits(to_slow, slow_rows, scale), labels)
    loss = loss + (1 - F.cosine_similarity(features, reference)).mean() + cross
    loss.backward()
    return _told(loss, fast), (ptm, slow, fast)


def our_step(device: torch.device, *, batch: int, classes: int, **_: int) -> tuple[list[float], Any]:
    """Return the same by our learners, which share one backbone."""
    slow = _attached(class_token_alone(_network(device)), device)
    fast = slow.clone()
    _moved(fast, device)
    images, targets = _batch(device, batch, classes)
    fast_rows, slow_rows = (_rows(device, classes, slow.embed_dim, seed) for seed in (4, 5))
    learners = Learner(fast, CosineHead(fast_rows), None), Learner(slow, CosineHead(slow_rows), None)
    terms = fast_terms(*learners, images, targets, feature_weight=1.0, cross_weight=1.0, old_classes=OLD)
    loss = torch.stack([weight * value for weight, value in terms.values()]).sum()
    loss.backward()
    return _told(loss, fast), learners


# ---------------------------------------------------------------------- closed-form heads of both learners


def _features(device: torch.device, images: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    labels = torch.arange(images) % classes
    centres = torch.randn(classes, 768, generator=generator(6, "centres"))
    return (centres[labels] + 3 * torch.randn(images, 768, generator=generator(seed))).to(device), labels.to(device)


def plain_heads(device: torch.device, *, dim: int, classes: int, images: int, **_: int) -> tuple[list[float], Any]:
    """Return each learner's ridge and length of its logits: whole matrices, six LU solves for the ridge."""
    w_rand = Projection(768, dim, 0, device)
    grams = {seed: torch.zeros(dim, dim, device=device) for seed in (7, 8)}
    crosses = {seed: torch.zeros(dim, classes, device=device) for seed in (7, 8)}
    numbers = []
    for seed, gram in grams.items():
        features, labels = _features(device, images, classes, seed)
        h, y = w_rand(features), one_hot(labels, classes)
        order = torch.randperm(images, generator=generator(9)).to(device)
        fit, judge = order.split([cut := int(SPLIT * images), images - cut])
        ridge = plain_choice(h[fit], y[fit], h[judge], y[judge])
        grams[seed] = gram = gram + h.T @ h
        crosses[seed] = crosses[seed] + h.T @ y
        weight = torch.linalg.solve(gram + ridge * torch.eye(dim, device=device), crosses[seed])
        numbers += [ridge, float((h @ weight).norm())]
    return numbers, (grams, crosses)


def our_heads(device: torch.device, *, dim: int, classes: int, images: int, **_: int) -> tuple[list[float], Any]:
    """Return the same by our heads."""
    projection = Projection(768, dim, 0, device)
    heads = [RidgeHead(projection, GRID, SPLIT) for _ in range(2)]
    numbers = []
    for head, seed in zip(heads, (7, 8), strict=True):
        features, labels = _features(device, images, classes, seed)
        head.update(features, labels, classes, generator(9))
        numbers += [head.ridge, float(head.logits(features).norm())]
    return numbers, heads


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description="measure one part one way")
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("way", choices=("plain", "ours"))
    arguments = parser.parse_args()
    print(json.dumps(_measure(arguments.part, arguments.way)))
