"""Links and pipes under the names of our own locks and files: nothing is written through them, nobody waits for one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from safe.data.cache import ImageCache
from safe.data.fetching.fetch import fetch
from safe.errors import UserError
from safe.io.opening import open_own
from sweeps.cluster.gpus import claim
from sweeps.ledger.lock import is_held, locked
from sweeps.worker.stage_store import DiskStages
from tracking import TrackingError
from tracking.journal_file import JournalFile
from tracking.mlflow_backend import connect

KEY = "0" * 64
PIXELS = torch.arange(27, dtype=torch.uint8).reshape(3, 3, 3)
Plant = Callable[[Path], None]


@pytest.fixture(autouse=True)
def _nobody_waits() -> Iterator[None]:
    def waited(*_: object) -> None:
        raise TimeoutError("it waits for a pipe")

    before = signal.signal(signal.SIGALRM, waited)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """Return a file that holds something, and must do so in the end, beside a name that must stay free."""
    file = tmp_path / "victim"
    file.write_text("a year's work")
    yield file
    assert file.read_text() == "a year's work"
    assert not file.with_name("free").exists()


@pytest.fixture(params=["link", "dangling link", "pipe"])
def plant(request: pytest.FixtureRequest, victim: Path) -> Plant:
    """Return what puts something at a path that is not the file which belongs there."""

    def put(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if request.param == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to(victim if request.param == "link" else victim.with_name("free"))

    return put


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path, plant: Plant) -> None:
    plant(tmp_path / "a")
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT):
        with pytest.raises(OSError, match=r"it is a link|it is no regular file"):
            open_own(tmp_path / "a", flags)


def test_the_lock_of_a_sweep(tmp_path: Path, plant: Plant) -> None:
    plant(tmp_path / "lock")
    assert not is_held(tmp_path)
    with pytest.raises(UserError, match=rf"cannot lock the sweep 'demo' with {tmp_path}/lock: it is "):
        locked(tmp_path, "demo").__enter__()


def test_the_lock_of_a_stage(tmp_path: Path, plant: Plant) -> None:
    plant(tmp_path / "features" / f"{KEY}.lock")
    store = DiskStages(tmp_path)
    with pytest.warns(UserWarning, match=r"cannot be used \(.*it is .*\); nothing is shared"):
        claim = store.claim("features", KEY)
    assert (claim.stage, claim.lock) == (None, None)
    store.clear()


def test_a_stage(tmp_path: Path, plant: Plant) -> None:
    """It is discarded, as a damaged one is, and computed again."""
    plant(tmp_path / "features" / f"{KEY}.stage")
    store = DiskStages(tmp_path)
    claim: Any = store.claim("features", KEY)
    claim.put({"features": torch.ones(3)}, 1.0)
    again = store.claim("features", KEY)
    assert again.stage is not None
    assert again.stage.value["features"].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("suffix", ["lock", "index", "pixels"])
@pytest.mark.filterwarnings("ignore:.*cannot be written")
def test_the_cache_of_images(tmp_path: Path, plant: Plant, suffix: str) -> None:
    (tmp_path / "a.png").touch()
    store = ImageCache(tmp_path / "decoded", 2**20)
    pack = store.pack("whole", [str(tmp_path / "a.png")])
    plant(store.folder / ("lock" if suffix == "lock" else f"{pack.name}.{suffix}"))
    assert torch.equal(pack.get(0, lambda: PIXELS), PIXELS)
    assert pack.find(0) is None, "what could not be kept was kept"
    if suffix == "index":
        assert store.clear() == ([], [pack.name])


def test_the_lock_of_a_download(tmp_path: Path, plant: Plant) -> None:
    plant(tmp_path / ".downloads" / "imagenet_r.lock")
    with pytest.raises(UserError, match=r"cannot lock .*imagenet_r\.lock: it is "):
        fetch("imagenet_r", tmp_path, source=tmp_path / "none.zip")


def test_the_claim_of_a_gpu(tmp_path: Path, plant: Plant) -> None:
    plant(tmp_path / "GPU-a")
    with pytest.raises(OSError, match=r"it is a link|it is no regular file"):
        claim(["GPU-a"], tmp_path)


def test_a_journal(tmp_path: Path, plant: Plant) -> None:
    plant(tmp_path / "journal.jsonl")
    with pytest.raises(TrackingError, match=r"cannot write .*journal\.jsonl: "):
        JournalFile(tmp_path / "journal.jsonl")


def test_the_lock_of_mlflows_database(tmp_path: Path, plant: Plant) -> None:
    plant(tmp_path / "mlflow.db.lock")
    with pytest.raises(TrackingError, match="cannot write in "):
        connect(f"sqlite:///{tmp_path}/mlflow.db")
