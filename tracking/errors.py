"""The one error of this package that a person can act on."""

from __future__ import annotations


class TrackingError(Exception):
    """What the tracking store cannot do for the person who asked: says what was given, the rule and what to do."""
