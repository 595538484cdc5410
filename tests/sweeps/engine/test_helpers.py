"""The processes that help a study: what is begun at once, and that all of it ends."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sweeps.engine import joining
from sweeps.engine.helpers import Helpers
from sweeps.spec.specs import SweepSpec

Make = Callable[..., SweepSpec]


@pytest.fixture
def rays(monkeypatch: pytest.MonkeyPatch, deliver_here: None, tmp_path: Path) -> list[str]:
    """Tell what becomes of Rays, instead of starting any."""
    told: list[str] = []

    @contextmanager
    def local_ray(cpus: int, meanwhile: Callable[[], object]) -> Iterator[None]:
        told.append(f"{cpus} CPUs")
        meanwhile()
        try:
            yield
        finally:
            told.append("end")

    monkeypatch.setattr(joining, "local_ray", local_ray)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return told


def test_what_is_begun_at_once_is_what_the_study_gets(
    rays: list[str], make_spec: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(checkpoints="none")
    cpus = f"{spec.concurrency * spec.threads} CPUs"
    monkeypatch.delitem(sys.modules, "safe.training.build", raising=False)
    with Helpers() as helpers:
        helpers.begin(spec, tmp_path)
        assert rays == [cpus]
        assert "safe.training.build" in sys.modules
        with helpers.ray(spec):
            assert rays == [cpus]
        assert rays == [cpus, "end"]
        with pytest.raises(ValueError, match="of the work"), helpers.ray(spec):
            raise ValueError("of the work")
        assert rays == [cpus, "end"] * 2
        with helpers.ray(spec):
            assert rays == [*[cpus, "end"] * 2, cpus]
    assert rays == [cpus, "end"] * 3


def test_what_was_begun_in_vain_ends(rays: list[str], make_spec: Make, tmp_path: Path) -> None:
    def ended(end: Callable[[], object]) -> None:
        with Helpers() as helpers:
            helpers.begin(make_spec(checkpoints="none"), tmp_path)
            end()

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError):
        ended(lambda: 1 / 0)
    with pytest.raises(KeyboardInterrupt):
        ended(lambda: signal.raise_signal(signal.SIGTERM))
    assert rays[1::2] == ["end"] * 2
    assert signal.getsignal(signal.SIGTERM) == before


def test_nothing_is_joined_before_the_work(
    rays: list[str], make_spec: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[Any] = []

    @contextmanager
    def existing_ray(address: str) -> Iterator[None]:
        joined.append(address)
        yield

    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    monkeypatch.setattr(joining, "existing_ray", existing_ray)
    spec = make_spec(checkpoints="none")
    with Helpers() as helpers:
        helpers.begin(spec, tmp_path)
        assert joined == []
        with helpers.ray(spec):
            assert joined == ["head:6379"]
    assert rays == []
