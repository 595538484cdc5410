"""What may be recorded at all: keys, statuses, lengths; and what is told of the rest."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tracking.errors import TrackingError
from tracking.mlflow_backend import sqlite_uri
from tracking.state import MAX_PARAM, MAX_TAG, RunState, check_directory, check_key, check_status, check_tags


@pytest.mark.parametrize(
    ("provoke", "kind", "words"),
    [
        (lambda: check_key("a/../b"), ValueError, "a key is a relative path of letters, digits and"),
        (lambda: check_key(""), ValueError, "got ''"),
        (lambda: check_status("DONE"), ValueError, "a run ends with one of FINISHED, "),
        (lambda: check_tags({"t": "x" * (MAX_TAG + 1)}), TrackingError, f"tag 't' has {MAX_TAG + 1} characters; at"),
        (
            lambda: RunState("sweep/trial", "trial").new_params({"p": "x" * (MAX_PARAM + 1)}),
            TrackingError,
            f"setting 'p' of run 'sweep/trial' has {MAX_PARAM + 1} characters; at most {MAX_PARAM} can be recorded",
        ),
        (lambda: sqlite_uri(Path("/what?/mlflow.db")), TrackingError, "cannot contain '?'; got '/what?/mlflow.db'"),
        (lambda: check_directory(Path("/missing")), NotADirectoryError, "/missing is not a directory"),
    ],
)
def test_what_cannot_be_recorded_is_told(provoke: Callable[[], Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=re.escape(words)):
        provoke()


def test_the_longest_that_can_be_recorded_is_taken() -> None:
    assert RunState("a", "a").new_params({"p": "x" * MAX_PARAM}) == {"p": "x" * MAX_PARAM}
    assert check_tags({"t": "x" * MAX_TAG}) == {"t": "x" * MAX_TAG}
