"""A text that names what decodes image files; it is another one wherever decoded pixels might differ."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch
from PIL import features

from safe.io.sources import sources_digest


@cache
def decoder() -> str:
    """Return what decoded and resized pixels depend on besides the file: our code, libraries and the processor."""
    place = Path(__file__).with_name("images.py")
    code = sources_digest([(place.name, place.read_text("utf-8"))])
    versions = [version(package) for package in ("pillow", "torch", "torchvision")]
    jpeg = features.version("libjpeg_turbo") or features.version("jpg")
    return repr((code, versions, jpeg, platform.machine(), torch.backends.cpu.get_cpu_capability()))
