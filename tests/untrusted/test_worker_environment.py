"""Workers get the variables that they need, and no secret. With a real Ray: tests/sweeps/engine/test_tuner.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sweeps.cli import main
from sweeps.worker.worker_environment import MORE, UMASK, passed, take_back_umask

from .sweeping import no_engine, run

SECRET = "s3cr3t-0f-a-w0rk3r"
SECRETS = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "MLFLOW_TRACKING_PASSWORD", "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN", "GITHUB_TOKEN", "PGPASSWORD", "OWN_KEY",
)  # fmt: skip
NEEDED = (
    "PATH", "HOME", "LC_ALL", "PYTHONPATH", "PYTHONHASHSEED", "RAY_AUTH_TOKEN", "SAFE_IMAGE_CACHE", "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG", "HF_HOME", "HF_HUB_OFFLINE", "TMPDIR", "XDG_CACHE_HOME",
    "https_proxy", "LD_LIBRARY_PATH",
)  # fmt: skip


def test_what_is_known_passes_and_nothing_else() -> None:
    variables = {**dict.fromkeys(SECRETS, SECRET), **{name: name for name in NEEDED}}
    assert passed(variables) == {name: name for name in NEEDED}


def test_more_passes_where_it_is_named() -> None:
    variables = dict.fromkeys((*SECRETS, "OWN_PLACE", "OWNER"), "value") | {MORE: " HF_TOKEN, OWN_* ,"}
    assert passed(variables).keys() == {"HF_TOKEN", "OWN_KEY", "OWN_PLACE", MORE}


@pytest.mark.parametrize("more", ["A;B", "A B", "*", "1A", "A*B", "A=1"])
def test_no_list_of_names_is_refused_before_anything_is_written(
    tmp_path: Path, more: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(MORE, f"GOOD,{more}")
    no_engine(monkeypatch)
    assert run(tmp_path / "results") == 2
    assert capsys.readouterr().err == (
        f"error: {MORE} holds {more!r}; it is a list of names of variables, where a * at the end stands for any "
        f"ending: {MORE}=TOKEN,MY_*\n"
    )
    assert main(["list", "--results", str(tmp_path / "results")]) == 0
    assert "demo" not in capsys.readouterr().out


def test_a_worker_writes_results_with_the_users_own_umask(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0o077)
    try:
        monkeypatch.setenv(UMASK, "27")
        take_back_umask()
        assert os.umask(0o077) == 0o027
        monkeypatch.delenv(UMASK)
        take_back_umask()
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
