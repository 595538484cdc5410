"""Writing down what a sweep does: one `Recorder` protocol, kept by MLflow, a journal of JSON lines, or memory."""

from __future__ import annotations

from tracking.delivery import deliver, waiting
from tracking.delivery_process import DeliveryProcess
from tracking.environment import environment_tags, telemetry_off
from tracking.errors import ConflictError, InUseError, TrackingError, UnreachableError
from tracking.journal import JournalRecorder
from tracking.jsonl import JsonlRecorder
from tracking.layout import default_uri, journal_path
from tracking.memory import MemoryRecorder
from tracking.mlflow_backend import make_ahead, sqlite_uri
from tracking.mlflow_errors import shown
from tracking.mlflow_recorder import MlflowRecorder
from tracking.recorder import FINAL_STATUSES, VOLATILE_PREFIXES, DatasetInput, Point, Recorder, Status
from tracking.tables import SweepTables, load_sweep

__all__ = [
    "FINAL_STATUSES",
    "VOLATILE_PREFIXES",
    "ConflictError",
    "DatasetInput",
    "DeliveryProcess",
    "InUseError",
    "JournalRecorder",
    "JsonlRecorder",
    "MemoryRecorder",
    "MlflowRecorder",
    "Point",
    "Recorder",
    "Status",
    "SweepTables",
    "TrackingError",
    "UnreachableError",
    "default_uri",
    "deliver",
    "environment_tags",
    "journal_path",
    "load_sweep",
    "make_ahead",
    "shown",
    "sqlite_uri",
    "telemetry_off",
    "waiting",
]
