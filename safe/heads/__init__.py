"""Heads: closed-form classifiers behind one protocol and registry, and the cosine head that gradient steps train."""

from __future__ import annotations

from safe.heads import kinds  # noqa: F401 - importing it registers them
from safe.heads.registry import head_kinds, head_settings, is_closed_form, make_head, register_head

__all__ = ["head_kinds", "head_settings", "is_closed_form", "make_head", "register_head"]
