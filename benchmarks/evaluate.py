"""Suite `evaluate`: judging a session, against two passes of the fast net and one of the slow each time."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from safe.backbones.loading import load_backbone
from safe.backbones.network_input import NetworkInput
from safe.config import load_config
from safe.data.loading import load_dataset
from safe.data.stream import Subset
from safe.data.transforms import plain_view
from safe.evaluation.aggregation import aggregate
from safe.evaluation.logits import Prediction, SessionLogits, score_grid
from safe.learners.learner import Learner
from safe.pet import class_token_alone
from safe.seeding import generator
from safe.training.build import build_learner, build_stream
from safe.training.features import FeatureExtractor

TEMPERATURES = [10 ** (-2 + 4 * step / 31) for step in range(32)]


def items() -> list[dict[str, Any]]:
    """Prove that both ways give the same accuracies; return them to be timed."""
    config = load_config("digits", overrides=["head.projection_dim=500"])
    dataset = load_dataset(config.dataset, config.data.root, 32)
    vit = load_backbone(config.backbone.name)
    sessions = build_stream(config, dataset).sessions
    device, batch = torch.device("cpu"), config.runtime.eval_batch_size
    extract = FeatureExtractor(device, NetworkInput(32), batch, "float32")

    def learners(backbone: VisionTransformer) -> list[Learner]:
        slow, fast = (build_learner(config, backbone, len(dataset.classes), device) for _ in range(2))
        draw = generator(7)
        with torch.no_grad():  # the fast learner has moved on
            for parameter in fast.net.pet_parameters().values():
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=draw))
        for session in sessions:
            for learner in (slow, fast):
                features, labels = extract(learner, session.train), session.train.labels
                assert learner.closed is not None
                learner.closed.update(features, labels, session.seen, generator(0, "split", session.index))
        return [slow, fast]

    plain_slow, plain_fast = learners(vit)
    slow, fast = learners(class_token_alone(vit))
    subsets = [session.evaluation for session in sessions]
    labels, counts = torch.cat([s.labels for s in subsets]), [len(s) for s in subsets]

    def forward(learner: Learner, subset: Subset, chosen: Tensor) -> Tensor:
        return learner.net.eval()(plain_view(subset.read(chosen), 32))

    @torch.no_grad()
    def plain(temperatures: list[float]) -> list[list[float]]:
        rows = []
        for temperature in temperatures:
            row = []
            for subset in subsets:
                right = 0.0
                for chosen in torch.arange(len(subset)).split(batch):
                    forward(plain_fast, subset, chosen)  # for its own prediction, asked once more below
                    z_fast = plain_fast.logits(forward(plain_fast, subset, chosen))
                    z_slow = plain_slow.logits(forward(plain_slow, subset, chosen))
                    combined = aggregate(
                        z_slow * plain_slow.scale("learned"),
                        z_fast * plain_fast.scale("learned"),
                        "entropy",
                        temperature,
                    )
                    right += (combined.argmax(dim=1) == subset.labels[chosen]).sum().item()
                row.append(right / len(subset))
            rows.append(row)
        return rows

    def judged(of_slow: list[Tensor]) -> SessionLogits:
        of_fast = [extract(fast, subset) for subset in subsets]
        return SessionLogits(
            slow=slow.logits(torch.cat(of_slow)),
            fast=fast.logits(torch.cat(of_fast)),
            slow_scale=slow.scale("learned"),
            fast_scale=fast.scale("learned"),
            labels=labels,
            counts=counts,
            owned=[s.own for s in sessions],
        )

    def ours(temperatures: list[float], kept: list[Tensor] | None = None) -> list[list[float]]:
        logits = judged(kept or [extract(slow, subset) for subset in subsets])
        return score_grid(logits, [Prediction("entropy", temperature) for temperature in temperatures]).rows

    kept = [extract(slow, subset) for subset in subsets]
    few = TEMPERATURES[::8]
    # Sums over batches of other sizes round differently, which may turn one image of a group.
    pairs = zip(plain(few), ours(few), strict=True)
    near = all(abs(a - b) <= 1.5 / n for p, o in pairs for a, b, n in zip(p, o, counts, strict=True))
    if not near or ours(few) != ours(few, kept):
        raise AssertionError("the two evaluations differ")
    logits = judged(kept)
    if torch.equal(logits.fast, logits.slow):
        raise AssertionError("the two learners are the same, so nothing is compared")
    one = TEMPERATURES[16:17]
    return [
        {"name": "one temperature", "plain": lambda: plain(one), "ours": lambda: ours(one)},
        {
            "name": "one temperature, the slow learner's features kept",
            "plain": lambda: plain(one),
            "ours": lambda: ours(one, kept),
        },
        {
            "name": "a grid of 32 temperatures, the slow learner's features kept",
            "plain": lambda: plain(TEMPERATURES),
            "ours": lambda: ours(TEMPERATURES, kept),
        },
    ]
