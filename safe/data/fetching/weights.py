"""The backbone's weights as one checked file in `<data root>/weights`, which runs look at first."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file

from safe.backbones.loading import SMALL_VIT, load_backbone, weights_digest, weights_file
from safe.errors import UserError
from safe.io.writable import whole


def place_weights(name: str, root: str | Path, source: str | Path | None = None) -> tuple[Path, str]:
    """Load a backbone's weights, write them to `<root>/weights/<name>.safetensors` and return that path and a digest.

    Args:
        name: full timm name, `architecture.tag`.
        root: data root.
        source: weights file (.safetensors, .pth, .npz) to take instead of a download.

    Returns:
        The file, in one step there or not, and the digest that every result at the network's own size records.

    Raises:
        UserError: weights that cannot be had or do not fit the network, a backbone that brings its own, or a folder
            that cannot be written.
    """
    if name == SMALL_VIT:
        raise UserError(f"{SMALL_VIT} comes with its weights; there is nothing to fetch")
    vit = load_backbone(name, None if source is None else str(source), folder=root)
    target = weights_file(root, name)
    try:
        with whole(target) as draft:
            save_file(vit.state_dict(), draft, metadata={"format": "pt"})
    except OSError as error:
        raise UserError(f"cannot write {target}: {error}") from None
    return target, weights_digest(vit)
