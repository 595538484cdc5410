"""Messages for people that no other test reads: input that is wrong in one way, and every word that is told of it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from safe.errors import UserError
from safe.states.checkpoint import save_state
from sweeps.cli.export import chosen_config
from sweeps.cli.run import extended
from sweeps.cluster import submit
from sweeps.engine import private
from sweeps.engine.joining import existing_ray
from sweeps.ledger.job_log import JobLog
from sweeps.ledger.ledger import SweepLog
from sweeps.ledger.record import SessionRecord
from sweeps.results.selection import score_points
from sweeps.spec.objective import objectives
from sweeps.spec.options import build_spec
from sweeps.spec.specs import AblationSpec
from sweeps.studies.ablation import build_ablation
from sweeps.worker.stage_store import VERSION, DiskStages


def _ablation() -> AblationSpec:
    return build_ablation(dataset="digits", seeds=2, concurrency=1, overrides=["runtime.device=cpu"], name="baselines")


def _twice(folder: Path) -> None:
    (folder / "space.yaml").write_text("fast.cross_weight: {grid: [0, 1]}\nslow.lr: {grid: [0.1, 0.2]}\n")
    words = ["slow.lr=0.1", "runtime.device=cpu"]
    build_spec(name="a", dataset="digits", overrides=words, space=folder / "space.yaml")


def _judged_elsewhere(folder: Path) -> None:
    job = JobLog("trial-00", "trial", "trial 0", {}, [])
    job.sessions.append(SessionRecord(1, 1, "test", {}))
    score_points(job, "accuracy", "val")


def _no_session(folder: Path) -> None:
    score_points(JobLog("trial-00", "trial", "trial 0", {}, []), "accuracy", "val")


@pytest.mark.parametrize(
    ("provoke", "words"),
    [
        (_twice, "set either in the space or as key=value, not both: slow.lr"),
        (lambda _: objectives("accuracy,nll,val/accuracy"), "--objective names accuracy twice"),
        (
            lambda _: objectives("test/accuracy"),
            "--objective test/accuracy: what steers a sweep is decided by --selection; name the metric alone",
        ),
        (
            lambda _: extended(_ablation(), {"trials": 9}, None),
            "'baselines' is an ablation, which has no --trials; it can be given more --seeds",
        ),
        (
            lambda folder: extended(_ablation(), {}, folder / "space.yaml"),
            "'baselines' is an ablation, which has no --space; it can be given more --seeds",
        ),
        (
            lambda _: chosen_config(SweepLog(_ablation())),
            "'baselines' is an ablation, in which nothing is chosen; export a sweep",
        ),
        (_judged_elsewhere, "trial-00 was judged on ['test'], but only 'val' may steer this sweep"),
        (_no_session, "trial-00 has no finished session"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, provoke: Callable[[Path], Any], words: str) -> None:
    with pytest.raises((UserError, ValueError), match=re.escape(words)):
        provoke(tmp_path)


def test_a_ray_that_cannot_be_joined_is_named_with_the_command_that_starts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def nobody(**_: object) -> None:
        raise ConnectionError("Could not find any running Ray instance.\nand much more")

    monkeypatch.setattr(ray, "init", nobody)
    told = "cannot join the Ray at h:6379: Could not find any running Ray instance. Start it, or make this machine"
    with (
        pytest.raises(UserError, match=rf"{re.escape(told)} .* ray start --address=h:6379 --num-cpus=0$"),
        existing_ray("h:6379"),
    ):
        pass


def test_a_job_server_that_takes_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(address: str) -> None:
        raise RuntimeError("403 Forbidden\nmore")

    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", refuses)
    with pytest.raises(UserError, match=r"^no Ray job server at http://127.0.0.1:8265 takes this: 403 Forbidden$"):
        submit.client()


def test_a_scratch_folder_that_ray_cannot_use_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(private.RUNTIME, raising=False)
    monkeypatch.setattr(os, "access", lambda *_: False)  # no /tmp
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / ("d" * 100)))
    with pytest.raises(UserError, match=r"is too long a path for Ray's sockets; set XDG_RUNTIME_DIR to another folder"):
        private.scratch_parent()
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/missing")
    with pytest.raises(UserError, match=r"cannot make the folder /missing/.* for Ray's files: No such file or directo"):
        private.scratch_parent()


def test_a_stage_of_a_newer_version_is_left_alone_and_told(tmp_path: Path) -> None:
    told: dict[str, str] = {}
    store = DiskStages(tmp_path / "stages", tell=lambda kind, words: told.setdefault(kind, words))
    (tmp_path / "stages" / "logits").mkdir(parents=True)
    path = tmp_path / "stages" / "logits" / f"{'0' * 64}.stage"
    save_state({"version": VERSION + 1, "kind": "logits", "key": "0" * 64}, path)
    claim = store.claim("logits", "0" * 64)
    assert claim.stage is None
    assert told == {
        "newer": f"a stage is left alone and computed again: {path} has version {VERSION + 1}; this one reads up to "
        f"{VERSION}"
    }
    assert path.is_file()


def test_a_ray_that_would_be_open_to_the_network_is_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from sweeps.engine.tuner import local_ray

    monkeypatch.setattr(ray, "init", lambda **_: SimpleNamespace())
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "10.0.0.1")
    with pytest.raises(RuntimeError, match="it would be open to the network"), local_ray(1):
        pass
