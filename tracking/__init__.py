"""Writing down what a sweep does: one `Recorder` protocol, kept by MLflow, a file of JSON lines, or memory."""

from __future__ import annotations

from tracking.environment import environment_tags, telemetry_off
from tracking.errors import TrackingError
from tracking.jsonl import JsonlRecorder
from tracking.memory import MemoryRecorder
from tracking.mlflow_recorder import MlflowRecorder, sqlite_uri
from tracking.recorder import (
    FAILED,
    FINAL_STATUSES,
    FINISHED,
    KILLED,
    RUNNING,
    STOPPED,
    VOLATILE_PREFIXES,
    Param,
    Point,
    Recorder,
)

__all__ = [
    "FAILED",
    "FINAL_STATUSES",
    "FINISHED",
    "KILLED",
    "RUNNING",
    "STOPPED",
    "VOLATILE_PREFIXES",
    "JsonlRecorder",
    "MemoryRecorder",
    "MlflowRecorder",
    "Param",
    "Point",
    "Recorder",
    "TrackingError",
    "environment_tags",
    "sqlite_uri",
    "telemetry_off",
]
