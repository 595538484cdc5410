"""An empty MLflow database made once and copied for each test: making one takes a second."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tracking import MlflowRecorder, sqlite_uri


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    MlflowRecorder(sqlite_uri(path), "template").close()
    return path


@pytest.fixture
def database(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(template, tmp_path / "mlflow.db"))
