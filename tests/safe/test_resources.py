"""Memory and speed of a session."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from safe.resources import images_per_second, peak_mib, reset_peak


@pytest.mark.parametrize(("platform", "counted"), [("linux", 3 * 2**10), ("darwin", 3 * 2**20)])
def test_peak_memory_of_a_process_is_in_mib(platform: str, counted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr("resource.getrusage", lambda who: SimpleNamespace(ru_maxrss=counted))
    assert peak_mib(torch.device("cpu")) == 3


def test_this_process_has_a_plausible_peak() -> None:
    reset_peak(torch.device("cpu"))
    assert 20 < peak_mib(torch.device("cpu")) < 200_000


def test_speed_counts_images_and_is_absent_without_training() -> None:
    assert images_per_second(300, 1.5) == 200
    assert images_per_second(0, 1.5) is None
    assert images_per_second(300, 0.0) is None
