"""Which classes a run takes for which others most often, with images of both to look at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from safe.config import Config
from safe.data.stream import Session
from safe.evaluation.logits import SessionLogits
from safe.training.build import prediction_of
from sweeps.results.confused import Pair

MOST_PAIRS = 8
IMAGES = 5  # of each class of a pair


def confused_pairs(
    logits: SessionLogits, config: Config, classes: Sequence[str], judged: Sequence[Session]
) -> tuple[list[Pair], list[tuple[list[Tensor], list[Tensor]]]]:
    """Return the pairs of classes confused most often and, of each, images of its two classes.

    Pairs are in the order of how many images are taken so, of equals those of the first classes. The images, uint8
    (3, H, W), are the first that are taken for the other class, and the first of the other class that are recognised.

    Args:
        classes: names by order of arrival.
        judged: the sessions whose images `logits` are of.
    """
    predicted, count = logits.combined(prediction_of(config)).argmax(dim=1), len(classes)
    brought = [number for number, session in enumerate(judged, start=1) for _ in session.classes]
    wrong = logits.labels != predicted
    cells = torch.bincount((logits.labels * count + predicted)[wrong], minlength=count * count)
    pairs, images = [], []
    for cell in cells.argsort(descending=True, stable=True)[:MOST_PAIRS].tolist():
        if not cells[cell]:
            break
        true, other = divmod(cell, count)
        of = int((logits.labels == true).sum())
        pairs.append(Pair(classes[true], brought[true], classes[other], brought[other], int(cells[cell]), of))
        said = predicted == other
        images.append(
            (_images(judged, said & (logits.labels == true)), _images(judged, said & (logits.labels == other)))
        )
    return pairs, images


def _images(judged: Sequence[Session], chosen: Tensor) -> list[Tensor]:
    """Return the first of the chosen images as the plain view has them."""
    images: list[Tensor] = []
    for session, those in zip(judged, chosen.split([len(one.evaluation) for one in judged]), strict=True):
        places = those.nonzero().flatten()[: IMAGES - len(images)]
        images += list(session.evaluation.read(places)) if len(places) else []
    return images
