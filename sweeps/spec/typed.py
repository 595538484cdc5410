"""Commands as a person would type them here: those of make where make was called, else those of `python -m sweeps`."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

BY_MAKE = "CALLED_BY_MAKE"  # the Makefile sets it
USUAL = Path("results")


def typed(command: str, name: str | None = None, *, results: Path = USUAL) -> str:
    """Return the command line of a command that make and `python -m sweeps` both have.

    Args:
        command: `resume`, `show`, `ui`, ...
        name: of a sweep.
        results: results folder; the usual one of the working folder goes without saying.
    """
    elsewhere = results.absolute() != USUAL.absolute()
    if os.environ.get(BY_MAKE):
        variables = [] if name is None else [f"NAME={name}"]
        variables += [f"RESULTS={results}"] if elsewhere else []
        return " ".join(["make", command, *(shlex.quote(word) for word in variables)])
    words = [] if name is None else [name]
    words += ["--results", str(results)] if elsewhere else []
    return shlex.join([str(from_here(Path(sys.executable))), "-m", "sweeps", command, *words])


def from_here(path: Path) -> Path:
    """Return an absolute path as one would name it from the working folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
