"""What a run needs of memory, reckoned before anything is taken: too much is refused, with the numbers.

The formulas follow what is allocated and add up what is held at the same time; `tests/safe/training/test_memory.py`
holds them against measured peaks. A head reckons its own part (`ClosedFormHead.memory`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from safe.backbones.network_input import token_count
from safe.config import Config, validate
from safe.config.described import of_role
from safe.config.marks import Role
from safe.config.reading import beside
from safe.config.settings import PetConfig
from safe.data.sessions import expected_sessions
from safe.data.stream import Stream
from safe.errors import UserError
from safe.evaluation.metrics import LEARNERS
from safe.heads.base import FLOAT
from safe.pet import settings_of
from safe.training.build import closed_form_head, head_width, tuned_network
from safe.training.resources import available_bytes

GIB = 2**30
WORKER_BYTES = GIB // 2  # measured: a fresh worker of Ray with torch, timm and the data modules loaded

# Of an image in a training step, in floats per token, channel and block: measured with timm's ViTs of 128 and 768
# channels. Adapters come on top, five times their bottleneck. A forward pass alone holds one block's.
STEP_FLOATS = {"ssf": 30, "lora": 18}
OTHER_STEP_FLOATS = 15
FORWARD_FLOATS = 26
SLACK_BYTES = 50 * 2**20  # measured: buffers of matrix products, and what the allocator keeps of small blocks
VIEWS = 4  # copies of a batch's pixels: read, resized, normalised, and a batch that is prepared ahead


@dataclass(frozen=True)
class Sizes:
    """What memory depends on besides the settings.

    Attributes:
        network: the frozen one, without memory for its weights.
        width, depth, tokens, side, parameters: of the network: channels, blocks, tokens of an image, side of an image
            in pixels, and how many weights.
        classes: of the whole stream.
        images: training images of the largest session.
        judged: images that judge the last session.
    """

    network: VisionTransformer
    width: int
    depth: int
    tokens: int
    side: int
    parameters: int
    classes: int
    images: int
    judged: int


class Needs(NamedTuple):
    """Bytes that a run takes at its peak: of the computer's memory, and of a GPU's (0 without one)."""

    host: float
    gpu: float


def sizes_of(vit: VisionTransformer, classes: int, images: int, judged: int) -> Sizes:
    """Return the sizes of a network and a stream."""
    if any(parameter.device.type != "meta" for parameter in vit.parameters()):
        vit = _without_weights(vit)
    side, parameters = int(vit.patch_embed.img_size[0]), sum(parameter.numel() for parameter in vit.parameters())
    sizes = (int(vit.embed_dim), len(vit.blocks), token_count(vit), side, parameters)
    return Sizes(vit, *sizes, classes, images, judged)


def _without_weights(vit: VisionTransformer) -> VisionTransformer:
    """Return a copy that takes no memory for its tensors."""
    memo: dict[int, Any] = {id(p): nn.Parameter(p.detach().to("meta"), requires_grad=False) for p in vit.parameters()}
    memo |= {id(buffer): buffer.to("meta") for buffer in vit.buffers()}
    return copy.deepcopy(vit, memo)


def stream_sizes(vit: VisionTransformer, stream: Stream, classes: int) -> Sizes:
    """Return the sizes of a run whose stream is built."""
    images = max(len(session.train) for session in stream.sessions)
    return sizes_of(vit, classes, images, sum(len(session.evaluation) for session in stream.sessions))


def expected_sizes(vit: VisionTransformer, config: Config) -> Sizes:
    """Return the sizes of a run before any image is read; see `expected_sessions`.

    Raises:
        UserError: the data set is not there.
    """
    sessions = expected_sessions(config)
    largest = max(session.train for session in sessions)
    return sizes_of(vit, sessions[-1].classes, largest, sum(session.judged for session in sessions))


def needs(config: Config, sizes: Sizes, device: torch.device) -> Needs:
    """Return what a run takes at its peak, beyond a process that has its modules loaded.

    Args:
        config: the run.
        sizes: of its network and its stream.
        device: where networks and heads lie; what is saved passes through the computer's memory.
    """
    held, saved, closing = _heads(config, sizes)
    tuned = FLOAT * _tuned(sizes.network, config.pet)
    saved += 3 * tuned
    network = FLOAT * sizes.parameters + 4 * tuned  # of both learners, and gradient and momentum of one
    networks = 2 if "ptm" in (beside(config, name) for name in LEARNERS) else 1
    kept = networks * FLOAT * sizes.width * (sizes.images + sizes.judged)  # features
    work = max(_step(config, sizes), _forward(config, sizes), closing, saved)
    there = network + held + kept + work + SLACK_BYTES
    here = 8 * FLOAT * sizes.judged * sizes.classes + saved  # both learners' logits and what judges them; a file
    return Needs(here, there) if device.type == "cuda" else Needs(there + here, 0)


def resume_bytes(config: Config, sizes: Sizes) -> float:
    """Return the bytes of what a run is continued from: both learners' statistics and tuned weights, a momentum."""
    return _heads(config, sizes)[1] + 3 * FLOAT * _tuned(sizes.network, config.pet)


def _heads(config: Config, sizes: Sizes) -> tuple[float, float, float]:
    """Return bytes of what both learners' heads hold, of a copy of it, and of what solving and judging add."""
    heads = [closed_form_head(config, sizes.width, torch.device("cpu"), name) for name in LEARNERS]
    of_each = [head.memory(sizes.classes, sizes.images, sizes.judged) for head in heads if head is not None]
    if not of_each:
        rows = 2 * FLOAT * sizes.width * sizes.classes
        return rows, rows, 0
    widths = {head_width(config, sizes.width, name) for name in LEARNERS}
    shared = sum(head.shared for head in of_each) * len(widths) / len(of_each)  # by heads that read equally much
    statistics = sum(head.statistics for head in of_each)
    # What stands side by side is copied for it.
    read = FLOAT * max(widths) * max(sizes.images, sizes.judged) if max(widths) > sizes.width else 0
    return shared + statistics, statistics, max(head.closing for head in of_each) + read


@lru_cache(maxsize=64)  # asked again for every other setting that is tried
def _tuned(network: VisionTransformer, pet: PetConfig) -> int:
    """Return how many weights one learner trains besides its head."""
    return sum(parameter.numel() for parameter in tuned_network(pet, network).pet_parameters().values())


def _tokens(config: Config, sizes: Sizes) -> int:
    return sizes.tokens + (config.pet.prompts if "prompts" in settings_of(config.pet.kind) else 0)


def _bottleneck(config: Config) -> int:
    return config.pet.bottleneck if "bottleneck" in settings_of(config.pet.kind) else 0


def _step(config: Config, sizes: Sizes) -> float:
    """Return bytes of the largest training step's pixels and activations."""
    of_token = sizes.width * STEP_FLOATS.get(config.pet.kind, OTHER_STEP_FLOATS) + 5 * _bottleneck(config)
    batch = max(s.batch_size if s.epochs else 0 for s in (config.slow, config.fast))
    batch = min(batch, sizes.images)
    at_once = min(batch, config.runtime.micro_batch or batch)
    return _pixels(batch, sizes) + FLOAT * at_once * _tokens(config, sizes) * sizes.depth * of_token


def _forward(config: Config, sizes: Sizes) -> float:
    """Return bytes of a pass without gradients, its pixels included."""
    batch = min(config.runtime.eval_batch_size, max(sizes.images, sizes.judged))
    of_token = FORWARD_FLOATS * sizes.width + 3 * _bottleneck(config)
    return _pixels(batch, sizes) + FLOAT * batch * _tokens(config, sizes) * of_token


def _pixels(batch: int, sizes: Sizes) -> float:
    return VIEWS * FLOAT * batch * 3 * sizes.side**2


class Room(NamedTuple):
    """Bytes that there are for a run, `None` where that is not known; `where` continues "there are 2.0 GiB"."""

    host: float | None
    gpu: float | None
    where: str = ""


def room_here(device: torch.device) -> Room:
    """Return what this process can get now."""
    if device.type != "cuda":
        return Room(available_bytes(), None)
    free, _ = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return Room(available_bytes(), free + unused)


def require_memory(config: Config, sizes: Sizes, device: torch.device, room: Room, remedy: str = "") -> None:
    """Refuse a run that needs more memory than there is.

    Args:
        room: what there is.
        remedy: another way out, in words that end the message.

    Raises:
        UserError: in one line: what it needs, what there is, and of the setting that takes the most the largest value
            that fits.
    """

    def lacking(changed: Config) -> tuple[str, float, float] | None:
        needed = needs(changed, sizes, device)
        for what, need, there in (("memory", needed.host, room.host), ("GPU memory", needed.gpu, room.gpu)):
            if there is not None and need > there:
                return what, need, there
        return None

    if (lack := lacking(config)) is None:
        return
    what, need, there = lack
    flat, words = config.flat(), ""
    less = {
        name: sum(needs(validate({**flat, name: 1}), sizes, device)) for name in of_role(Role.SIZE) if flat[name] > 1
    }
    if less:
        name = min(less, key=lambda name: less[name])
        fitting = _largest(flat[name], lambda value: not lacking(validate({**flat, name: value})))
        words = f"; {name}={flat[name]} takes the most of it, "
        words += f"and {fitting} is the largest that fits" if fitting else "but less of it is not enough"
    raise UserError(f"a run needs about {_gib(need)} of {what}, there are {_gib(there)}{room.where}{words}{remedy}")


def _largest(high: int, fits: Callable[[int], bool]) -> int:
    """Return the largest number from 1 to below `high` that fits, 0 where none does."""
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _gib(size: float) -> str:
    return f"{max(size, 0) / GIB:,.1f} GiB"
