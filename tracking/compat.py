"""MLflow's private interfaces on which tracking rests, so that a new MLflow's changes show in one place.

Seen with the versions of SEEN_WITH. `tests/tracking/test_compat.py` names what another version has changed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

SEEN_WITH = ("3.17.2",)
DATABASE_LOGGER = "mlflow.store.db.utils"

# Tables and columns in which a database holds addresses of artefacts: those of an experiment begin those of its runs
# and models, which begin those of the models' versions.
EXPERIMENT_ARTIFACTS = ("experiments", "artifact_location")
RUN_ARTIFACTS = (("runs", "artifact_uri"), ("logged_models", "artifact_location"))
VERSION_ARTIFACTS = (("model_versions", "source"), ("model_versions", "storage_location"))


def schema_version() -> str:
    """Return the version of the database schema that this MLflow works with, as `alembic_version` holds it."""
    from mlflow.store.db.utils import _get_latest_schema_revision

    return str(_get_latest_schema_revision())


def load_store() -> None:
    """Load MLflow and what its SQLite stores need, which takes seconds."""
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


def make_database(uri: str, artifacts: str) -> None:
    """Make MLflow's tables in a database without any, and the experiment "Default", whose files lie at `artifacts`."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(uri, artifacts).engine.dispose()


def close_database(uri: str) -> None:
    """Close the connections that MLflow's stores keep to a database; they open new ones when they need it."""
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for store in (SqlAlchemyStore, Registry):
        if uri in store._engine_map:
            store._engine_map[uri].dispose()


@contextmanager
def requirements_as_given() -> Iterator[None]:
    """Write models, in the block, without MLflow's look through all packages whether what they require is installed."""
    from mlflow.utils import environment

    before = environment.warn_dependency_requirement_mismatches
    environment.warn_dependency_requirement_mismatches = lambda *_, **__: None
    try:
        yield
    finally:
        environment.warn_dependency_requirement_mismatches = before


def model_and_version(client: MlflowClient, address: str) -> tuple[str, ...]:
    """Return the id of the logged model that `models:/...` names, or name and version of a registered one."""
    from mlflow.store.artifact.utils.models import get_model_name_and_version

    return tuple(get_model_name_and_version(client, address))


def silence_database() -> None:
    """Keep pages of traces off the screen: what a database refuses comes back as an exception and is told in words."""
    logging.getLogger(DATABASE_LOGGER).setLevel(logging.CRITICAL)
