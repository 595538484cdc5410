"""What tracking takes from inside MLflow is still as it was; else the failure says which MLflow has changed what."""

from __future__ import annotations

import inspect
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.store.artifact.utils import models
from mlflow.store.db import utils
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils import environment

from tracking import sqlite_uri
from tracking.compat import (
    DATABASE_LOGGER,
    EXPERIMENT_ARTIFACTS,
    RUN_ARTIFACTS,
    SEEN_WITH,
    VERSION_ARTIFACTS,
    make_database,
    model_and_version,
    schema_version,
)


def parameters(function: Callable[..., object]) -> list[str]:
    return list(inspect.signature(function).parameters)


INTERFACES = {
    "how it tells the version of its schema": lambda: (
        parameters(utils._get_latest_schema_revision) == [] and len(schema_version()) == 12
    ),
    "how its database is made": lambda: parameters(SqlAlchemyStore)[:2] == ["db_uri", "default_artifact_root"],
    "where its stores keep their connections": lambda: all(
        isinstance(store._engine_map, dict) for store in (SqlAlchemyStore, Registry)
    ),
    "how an address of a model is read": lambda: (
        parameters(models.get_model_name_and_version) == ["client", "models_uri"]
    ),
    "how it looks for what a model requires": lambda: (
        "\n    warn_dependency_requirement_mismatches(" in inspect.getsource(environment._process_pip_requirements)
    ),
    "where its database reports errors": lambda: utils._logger.name == DATABASE_LOGGER,
}


@pytest.mark.parametrize("what", INTERFACES)
def test_the_inside_of_mlflow_is_as_it_was(what: str) -> None:
    try:
        same = INTERFACES[what]()
    except (AttributeError, TypeError):
        same = False
    assert same, (
        f"MLflow {mlflow.__version__} has changed {what}; tracking/compat.py was seen with {', '.join(SEEN_WITH)}"
    )


def test_the_version_that_is_installed_has_been_seen() -> None:
    assert mlflow.__version__ in SEEN_WITH, (
        "run tests/tracking and tests/interrupted with it, then add it to SEEN_WITH in tracking/compat.py"
    )


def test_a_changed_interface_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(utils, "_get_latest_schema_revision")
    with pytest.raises(AssertionError, match=rf"MLflow {mlflow.__version__} has changed how it tells the version"):
        test_the_inside_of_mlflow_is_as_it_was("how it tells the version of its schema")


def test_a_database_that_is_made_has_the_schema_that_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    make_database(sqlite_uri(path), (tmp_path / "artifacts").as_uri())
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (schema_version(),)
        rows = connection.execute("SELECT name, artifact_location FROM experiments").fetchall()
    assert rows == [("Default", f"{(tmp_path / 'artifacts').as_uri()}/0")]


def test_addresses_of_artefacts_are_in_these_columns_alone(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    make_database(sqlite_uri(path), (tmp_path / "artifacts").as_uri())
    with closing(sqlite3.connect(path)) as connection:
        columns = connection.execute(
            "SELECT tables.name, columns.name FROM sqlite_master AS tables, pragma_table_info(tables.name) AS columns "
            "WHERE columns.name LIKE '%artifact%' OR columns.name LIKE '%location%' OR columns.name LIKE '%uri%'"
        ).fetchall()
    ours = {EXPERIMENT_ARTIFACTS, *RUN_ARTIFACTS, *VERSION_ARTIFACTS} - {("model_versions", "source")}
    of_servers = {("workspaces", "default_artifact_root"), ("workspaces", "trace_archival_location")}
    assert set(columns) == ours | of_servers


def test_an_address_names_a_logged_model_or_a_registered_version() -> None:
    client = MlflowClient("http://127.0.0.1:9")
    assert model_and_version(client, "models:/m-0123456789abcdef0123456789abcdef") == (
        "m-0123456789abcdef0123456789abcdef",
    )
    assert model_and_version(client, "models:/demo/3") == ("demo", "3")
