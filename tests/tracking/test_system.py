"""The meter, read from hand-made counters."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracking.recorder import VOLATILE_PREFIXES
from tracking.system import SystemMeter


def write(proc: Path, cpu: str) -> None:
    (proc / "stat").write_text(f"cpu  {cpu}\ncpu0 1 2 3 4 5 6 7 8 9 10\n")
    (proc / "meminfo").write_text("MemTotal:  1000 kB\nMemFree:  100 kB\nMemAvailable:  250 kB\n")


@pytest.fixture
def smi(tmp_path: Path) -> Path:
    """A command that answers as nvidia-smi does, and writes down how it was asked."""
    path = tmp_path / "smi"
    path.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\nprintf "50, 1000, 4000\\n100, 3000, 4000\\n"\n')
    path.chmod(0o755)
    return path


def test_shares(tmp_path: Path, smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    # user nice system idle iowait irq softirq steal guest guest_nice: guests' time is part of user's
    write(tmp_path, "100 0 0 800 100 0 0 0 50 0")
    meter = SystemMeter(tmp_path, str(smi))
    write(tmp_path, "150 10 20 890 110 5 5 10 90 0")  # 100 of 200 ticks busy
    expected = {
        "system/cpu_utilization": 0.5,
        "system/memory_utilization": 0.75,
        "system/gpu_utilization": 0.75,
        "system/gpu_memory_utilization": 0.5,
    }
    assert meter.read() == expected
    assert all(name.startswith(VOLATILE_PREFIXES) for name in expected)
    assert "--id=0,3" in (tmp_path / "asked").read_text()
    write(tmp_path, "150 10 20 890 110 5 5 10 90 0")
    assert "system/cpu_utilization" not in meter.read(), "no time has passed"
    write(tmp_path, "150 10 20 990 110 5 5 10 90 0")
    assert meter.read()["system/cpu_utilization"] == 0.0


def test_what_cannot_be_read_is_absent(tmp_path: Path, smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SystemMeter(tmp_path / "absent", str(tmp_path / "none")).read() == {}
    smi.write_text("#!/bin/sh\nprintf '[N/A], 1, 2\\n'\n")
    assert SystemMeter(tmp_path / "absent", str(smi)).read() == {}
    smi.write_text("#!/bin/sh\ntrue\n")
    assert SystemMeter(tmp_path / "absent", str(smi)).read() == {}
    smi.write_text("#!/bin/sh\nprintf '50, 1, 2\\n'\n")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert SystemMeter(tmp_path / "absent", str(smi)).read() == {}, "this process may use no GPU"
