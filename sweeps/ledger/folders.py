"""Where a sweep keeps its files."""

from __future__ import annotations

from pathlib import Path

from safe.errors import UserError
from sweeps.spec.specs import Spec
from tracking import default_uri


class Folders:
    """Where a sweep keeps its files; everything lies under one results folder."""

    def __init__(self, results: Path, name: str) -> None:
        self.results = results.absolute()
        self.sweep = self.results / "sweeps" / name
        self.states = self.sweep / "runs"
        self.ray = self.sweep / "ray"
        self.heartbeats = self.sweep / "heartbeats"
        self.stop = self.sweep / "stop"

    def stages(self, spec: Spec) -> Path | None:
        """Return the folder of the stage store: all sweeps' own, or this sweep's, or None without any."""
        if not spec.stages:
            return None
        return (self.sweep if spec.fresh else self.results) / "stages"

    def tracking_uri(self) -> str:
        """Return MLflow's address: MLFLOW_TRACKING_URI, else an SQLite file in the results folder."""
        return default_uri(self.results)

    def make(self) -> None:
        """Create the folders; `UserError` when that is not possible or nothing can be written.

        Raises:
            TrackingError: MLflow could not have its database in the results folder.
        """
        self.tracking_uri()
        try:
            self.sweep.mkdir(parents=True, exist_ok=True)
            probe = self.sweep / ".probe"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"cannot write to the results folder {self.results}: {error.strerror}; choose another one with "
                "--results or RESULTS"
            ) from None


FOLDER = "report"
FILE_NAME = "report.html"
