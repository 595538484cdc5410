"""The typed configuration of one training run: preset, then file, then `key=value` overrides.

Dotted names (`slow.diag_weight`) are the same in YAML, on the command line, in search spaces, JSON and MLflow.
Only the trainer and the builders unpack a `Config`; numerics receive plain scalars.
"""

from __future__ import annotations

from safe.config.described import setting_names
from safe.config.loading import completed, load_config, parse_overrides, preset_names, settings_of, validate
from safe.config.settings import Config
from safe.io.documents import flatten

__all__ = [
    "Config",
    "completed",
    "flatten",
    "load_config",
    "parse_overrides",
    "preset_names",
    "setting_names",
    "settings_of",
    "validate",
]
