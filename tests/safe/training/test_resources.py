"""Memory and speed of a session."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from safe.training.resources import available_bytes, images_per_second, peak_mib, reset_peak


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


GIB = 2**30


def _machine(root: Path, cgroup: str, files: dict[str, object]) -> Path:
    """Return the root of a file system with 8 GiB available and these control group files."""
    told = {"proc/meminfo": f"MemTotal: {16 * 2**20} kB\nMemAvailable: {8 * 2**20} kB\n", "proc/self/cgroup": cgroup}
    for name, text in (told | {f"sys/fs/cgroup/{name}": text for name, text in files.items()}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


def _group(folder: str, limit: object, used: int, cached: int, *, version: int = 2) -> dict[str, object]:
    names = {
        2: ("memory.max", "memory.current", "inactive_file"),
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    }[version]
    stat = f"anon 1\n{names[2]} {cached}"
    return {f"{folder}{names[0]}": limit, f"{folder}{names[1]}": used, f"{folder}memory.stat": stat}


@pytest.mark.parametrize(
    ("cgroup", "files", "available"),
    [
        pytest.param("0::/", {}, 8 * GIB, id="no limit"),
        pytest.param("0::/", _group("", "max", GIB, 0), 8 * GIB, id="max"),
        # 4 allowed, 3 used, of which 1 is files that may be dropped.
        pytest.param("0::/", _group("", 4 * GIB, 3 * GIB, GIB), 2 * GIB, id="container"),
        pytest.param("0::/a/b", _group("a/", 2 * GIB, GIB, 0) | _group("a/b/", "max", GIB, 0), GIB, id="parent"),
        pytest.param("0::/a", _group("a/", 64 * GIB, GIB, 0), 8 * GIB, id="more than there is"),
        pytest.param("0::/a", _group("a/", GIB, 2 * GIB, 0), 0, id="used up"),
        # Docker of the first version: the path is the host's, the files lie at the root.
        pytest.param(
            "4:memory:/docker/7\n0::/", _group("memory/", 4 * GIB, GIB, 0, version=1), 3 * GIB, id="version 1"
        ),
    ],
)
def test_available_memory_is_what_the_machine_and_its_groups_leave(
    cgroup: str, files: dict[str, object], available: int, tmp_path: Path
) -> None:
    assert available_bytes(_machine(tmp_path, cgroup, files)) == available


def test_available_memory_is_unknown_where_there_is_no_proc(tmp_path: Path) -> None:
    assert available_bytes(tmp_path) is None
