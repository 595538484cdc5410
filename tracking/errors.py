"""The errors of this package that a person can act on."""

from __future__ import annotations


class TrackingError(Exception):
    """What the tracking store cannot do for the person who asked: says what was given, the rule and what to do."""


class ConflictError(TrackingError):
    """What is to be recorded contradicts what is recorded already; trying again does not help."""


class UnreachableError(TrackingError):
    """The store does not answer, or is busy; it may later."""


class InUseError(TrackingError):
    """Another process is writing the journal."""
