"""Commands that are printed are those that a person has typed: make's or Python's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sweeps.spec.typed import BY_MAKE, typed


def test_a_call_by_make_gets_commands_of_make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(BY_MAKE, "1")
    assert typed("resume", "demo") == typed("resume", "demo", results=tmp_path / "results") == "make resume NAME=demo"
    assert typed("ui", results=Path("my results")) == "make ui 'RESULTS=my results'"


def test_other_calls_get_those_of_this_interpreter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(BY_MAKE, raising=False)
    monkeypatch.chdir(tmp_path)
    assert typed("resume", "demo") == f"{sys.executable} -m sweeps resume demo"
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv/bin/python"))
    assert typed("show", "demo", results=Path("/x")) == ".venv/bin/python -m sweeps show demo --results /x"
