"""What MLflow reports, in words that a person can act on and without secrets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from tracking.errors import TrackingError, UnreachableError

LONGEST_REASON = 500

_SECRETS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD")
_SQL_ADVICE = "(Background on this error at"  # SQLAlchemy's, after the error itself
_UNAUTHENTICATED = ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED")
# MLflow gives INTERNAL_ERROR to every request that brought no answer.
_PASSING = (
    "INTERNAL_ERROR",
    "TEMPORARILY_UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "REQUEST_LIMIT_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "CANCELLED",
    "ABORTED",
)


def shown(uri: str) -> str:
    """Return `uri` as it may stand in a message: without its password, or a user name that may be a token."""
    parts = urlsplit(uri)
    if parts.password:
        return uri.replace(f":{parts.password}@", ":***@", 1)
    return uri.replace(f"{parts.username}@", "***@", 1) if parts.username else uri


@contextmanager
def in_words(tracking_uri: str) -> Iterator[None]:
    """Turn what MLflow reports about its store into a TrackingError that names the store.

    An `UnreachableError` where trying again may help. The cause is left out: its text may hold a password.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise _worded(tracking_uri, error.error_code, error.message) from None
    except OSError as error:  # requests' own errors are of this kind too
        status = getattr(getattr(error, "response", None), "status_code", None)
        codes = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED"}
        raise _worded(tracking_uri, codes.get(status or 0, "INTERNAL_ERROR"), str(error)) from None


@contextmanager
def uploading(tracking_uri: str) -> Iterator[None]:
    """Turn what goes wrong with files, for which every kind of artefact store has errors of its own, into the same."""
    from mlflow.exceptions import MlflowException

    with in_words(tracking_uri):
        try:
            yield
        except (MlflowException, OSError):
            raise
        except Exception as error:
            raise OSError(str(error)) from None


def _worded(uri: str, code: str, message: str) -> TrackingError:
    if code in _UNAUTHENTICATED:
        return TrackingError(
            f"MLflow at {shown(uri)} does not accept the credentials (401); set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, to those of an account there"
        )
    if code == "PERMISSION_DENIED":
        return TrackingError(
            f"MLflow at {shown(uri)} does not permit this to the account (403); ask its administrator for permission "
            "to edit the experiment, or use another account (MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, "
            "or MLFLOW_TRACKING_TOKEN)"
        )
    reason = " ".join(_without_secrets(uri, message).partition(_SQL_ADVICE)[0].split())[:LONGEST_REASON]
    if code in _PASSING:
        return UnreachableError(f"MLflow at {shown(uri)} does not answer as it should: {reason}")
    return TrackingError(f"MLflow at {shown(uri)} refused: {reason}")


def _without_secrets(uri: str, message: str) -> str:
    for secret in (os.environ.get(name) for name in _SECRETS):
        message = message.replace(secret, "***") if secret else message
    parts = urlsplit(uri)
    for userinfo in (f":{parts.password}@", f"//{parts.username}@"):
        message = message.replace(userinfo, f"{userinfo[0]}***@")
    return message
